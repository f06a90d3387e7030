//! The command line: noun then verb, one file per noun. Results on stdout, everything else on stderr.

mod audit;
mod cluster;
mod completions;
mod config;
mod context;
mod dev;
mod doctor;
mod exit;
mod fleet;
mod healthcheck;
mod key;
mod keys;
mod migrate;
mod operator;
mod pool;
mod progress;
mod remote;
mod serve;
mod spans;
mod tenant;

use std::ffi::OsString;
use std::io::Write as _;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::Builder;

pub use context::{Context, Output};
pub use exit::{Partial, Refused, Usage};

use crate::config::{Config, ConfigError, LogFormat, Sources};
use crate::telemetry;

/// One server, a PostgreSQL database per customer.
#[derive(Debug, Parser)]
#[command(
    name = "tenantry",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 done in part, 4 refused.\n\n\
                  Example:\n  tenantry dev"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Directory of the installation on this machine [default: TENANTRY_DATA_DIR, or .tenantry/ if it is there].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file [default: TENANTRY_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of results on stdout.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    /// Go on without asking.
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: PostgreSQL, server, demo tenants.
    Dev(dev::DevArgs),
    /// Serve the REST API.
    Serve(serve::ServeArgs),
    /// Work in the background alone.
    #[command(after_help = "Example:\n  tenantry worker --config /etc/tenantry.toml")]
    Worker,
    /// Bring the control plane's database to this release's schema.
    Migrate(migrate::MigrateArgs),
    /// Master keys: make one, rotate them.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// People who run the installation.
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// PostgreSQL servers that tenants are placed on.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Tenants, from their making to their end.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Look at this installation from this machine, and say what to do. Exit code 3 if there is anything.
    #[command(after_help = "Example:\n  tenantry doctor --data-dir .tenantry")]
    Doctor,
    /// All tenants at once: migration, how they stand, drift, what is broken, proof of isolation.
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// The connection pools of a running server.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Check or print the configuration in effect.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask the server, or the worker, on this machine whether it lives.
    #[command(after_help = "Example:\n  tenantry healthcheck --data-dir .tenantry")]
    Healthcheck,
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// Reads the command line, runs the command, and gives the code that the process ends with.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let read = Cli::command().try_get_matches_from(arguments);
    let read = read.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, audit::Deed::of(&matches))));
    let (cli, deed) = match read {
        Ok(read) => read,
        Err(shown) => {
            let code = if shown.use_stderr() { 2 } else { 0 };
            // Help that cannot be shown has no other place.
            let _ = shown.print();
            return code.into();
        }
    };
    match dispatch(cli, deed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to say that stderr is gone.
            let _ = writeln!(std::io::stderr().lock(), "{}", exit::line(&error));
            exit::code(&error).into()
        }
    }
}

fn dispatch(cli: Cli, deed: Option<audit::Deed>) -> anyhow::Result<()> {
    if let Command::Completions(args) = &cli.command {
        return Ok(completions::run(args)?);
    }
    let mut sources = Sources::from_environment();
    sources.data_dir = cli.global.data_dir;
    sources.config = cli.global.config;
    // `dev` makes the data directory, which need not be there yet, and reads the configuration again with it.
    let read = if matches!(cli.command, Command::Dev(_)) { sources.without_data_dir() } else { sources.clone() };
    let config = Arc::new(Config::load(&read)?);
    let _logs = install_logs(&config)?;
    for name in sources.unused() {
        tracing::warn!("{name} is set, but nothing in this release uses it");
    }
    for name in sources.unknown() {
        tracing::warn!("{name} is set, but is no setting; `tenantry config show` lists those there are");
    }
    let context = Context { config, sources, output: cli.global.output, yes: cli.global.yes };
    match &cli.command {
        Command::Dev(args) => serving(args.run(&context)),
        Command::Serve(args) => serving(serve::serve(&context, args)),
        Command::Worker => working(serve::worker(&context)),
        Command::Migrate(args) => blocking(args.run(&context)),
        Command::Key(command) => blocking(audited(&context, deed, command.run(&context))),
        Command::Operator(command) => blocking(audited(&context, deed, command.run(&context))),
        Command::Cluster(command) => blocking(audited(&context, deed, cluster::run(&context, command))),
        Command::Tenant(command) => blocking(audited(&context, deed, tenant::run(&context, command))),
        Command::Doctor => blocking(doctor::run(&context)),
        Command::Fleet(command) => blocking(audited(&context, deed, fleet::run(&context, command))),
        Command::Pool(command) => blocking(command.run(&context)),
        Command::Config(command) => config::run(&context, command),
        Command::Healthcheck => healthcheck::run(&context),
        Command::Completions(_) => Ok(()),
    }
}

/// Runs a command with an entry in the operators' audit, where it changes something.
async fn audited(
    context: &Context,
    deed: Option<audit::Deed>,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let Some(deed) = deed else {
        let Err(error) = work.await else { return Ok(()) };
        return Err(keys::behind(context.control().ok().as_ref(), error).await);
    };
    let begun = deed.begin(context).await?;
    let result = work.await;
    begun.end(audit::outcome(&result)).await;
    result
}

/// Runs a command that asks a database.
fn blocking<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Runs a command that works until it is told to stop, with metrics.
fn working(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    telemetry::install_metrics()?;
    blocking(work)
}

/// Runs a command that serves until it is told to stop, with metrics.
///
/// Half as many threads as processors, for the connections to databases and for work in the background: requests have
/// theirs, one for each processor, and more threads take turns at their expense (docs/performance.md).
fn serving(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    telemetry::install_metrics()?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread().worker_threads(processors.div_ceil(2)).enable_all().build()?.block_on(work)
}

fn install_logs(config: &Config) -> Result<telemetry::LogGuard, ConfigError> {
    let log = config.log();
    telemetry::install_logs(log.format == LogFormat::Json, &log.level).map_err(|error| {
        ConfigError::new(
            "TENANTRY_LOG__LEVEL",
            format!("is no filter: {error}"),
            "set it to error, warn, info, debug or trace",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["tenantry", "config", "show", "--output", "json", "--yes"]).unwrap();
        assert!(cli.global.yes && cli.global.output == Output::Json);
    }

    #[test]
    fn every_command_that_does_something_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "no example:{path}");
            }
            command.get_subcommands().for_each(|sub| walk(sub, &path));
        }
        walk(&Cli::command(), "");
    }
}
