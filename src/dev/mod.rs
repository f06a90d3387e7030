//! Everything on this machine: the private PostgreSQL of `tenantry dev`, the demo tenants and their data.

mod demo;
mod directory;
mod files;
mod greeting;
mod installation;
pub mod postgres;
mod progress;
mod tenants;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::Context as _;
use secrecy::ExposeSecret;

pub use postgres::{LocalPostgres, LocalPostgresOptions, PostgresError};

use crate::config::{Config, ConfigError, Sources};
use crate::http::{Listeners, Node};
use crate::jobs;
use crate::router::Target;
use directory::{Directory, Kept, Ready, ReadyTenant};
use progress::say;
use tenants::DemoTenants;

/// What `tenantry dev` is told.
#[derive(Debug, Clone, Copy)]
pub struct DevOptions {
    /// Port of the API on loopback; 0 takes a free one. Without it, that of the configured listener.
    pub port: Option<u16>,
    /// Begins anew: all data is removed first.
    pub reset: bool,
    /// How many demo tenants there shall be in all: `acme`, `globex`, `t0003` …
    pub tenants: usize,
}

/// Runs everything on this machine until Ctrl-C or SIGTERM: PostgreSQL, the control plane, demo tenants, the server.
///
/// # Errors
/// What could not be started, with a remedy where it is known.
pub async fn run(mut sources: Sources, options: DevOptions) -> anyhow::Result<()> {
    let begun = Instant::now();
    let path = sources.dev_dir();
    let listeners = open_listeners(&sources, options.port)?;
    let directory = Directory::open(&path).with_context(|| format!("cannot use {}", path.display()))?;
    if options.reset {
        directory.reset()?;
    }
    say("starting PostgreSQL");
    let postgres_options = LocalPostgresOptions::new(directory.postgres());
    let postgres = tokio::task::spawn_blocking(move || LocalPostgres::start(&postgres_options)).await??;
    // The directory is ours alone from here on. What a run that was killed had announced does not answer any more.
    directory.withdraw_ready();
    directory.ensure_master_key()?;
    let mut kept = directory.load()?;
    directory.save(&kept)?;
    let superuser = postgres.target().clone();
    let control = installation::ensure_control_database(&superuser, &kept.control_password)
        .await
        .context("cannot prepare the control plane's database")?;

    sources.data_dir = Some(directory.path().to_owned());
    sources.overrides.extend([
        ("listen", listeners.public_address()?.to_string()),
        ("database_url", control.to_url().expose_secret().to_owned()),
    ]);
    sources.overrides.extend(listeners.management_address()?.map(|address| ("management_listen", address.to_string())));
    let config = Config::load(&sources)?;
    let mut node = Node::open_to_run(&config)?;
    node.log_mails();
    node.migrate().await.context("cannot migrate the control plane")?;
    node.control.ensure_installation().await.context("cannot set up the installation")?;
    installation::ensure_cluster(&node.fleet, &superuser).await?;
    installation::ensure_operator(&node, &kept.operator).await?;
    let demo = DemoTenants {
        fleet: &node.fleet,
        superuser: &superuser,
        cluster: installation::CLUSTER,
        directory: &directory,
    };
    let hash = node.passwords.of_nobody().hash(kept.people_password.clone().into()).await?;
    let ready_tenants = demo.ensure(&mut kept, options.tenants, &hash).await?;

    let stop = stop_signal()?;
    let ready = ready(&config, &listeners, &control, &superuser, &kept, ready_tenants)?;
    let server = node.start(&config).await.context("cannot start the server")?;
    directory.announce(&ready)?;
    greeting::print(&ready, &kept.people_password, &path)?;
    say(&format!("ready after {:.1} s", begun.elapsed().as_secs_f32()));
    let jobs =
        jobs::serving(jobs::schedule(&node.fleet), server.post_office().clone(), server.workspaces().clone()).start();
    let work = jobs.finish(&node.fleet, config.http().shutdown_timeout.0);
    let served = server.serve(listeners, stop, work).await;

    directory.withdraw_ready();
    say("stopping PostgreSQL");
    let stopped = tokio::task::spawn_blocking(move || postgres.stop()).await?;
    served.context("the server failed")?;
    stopped.map_err(Into::into)
}

/// The public port is what was asked for, or an error; management takes a free one where its own is taken.
fn open_listeners(sources: &Sources, port: Option<u16>) -> Result<Listeners, ConfigError> {
    let config = Config::load(&sources.without_data_dir())?;
    let public = port.map_or_else(|| on_loopback(config.listen()), |port| (Ipv4Addr::LOCALHOST, port).into());
    if port.is_none() && public != config.listen() {
        say(&format!("dev lets everybody in, and listens on loopback alone: {public} instead of {}", config.listen()));
    }
    let opened = Listeners::open_beside(public, config.management_listen());
    opened.map_err(|(address, error)| {
        let fault = format!("cannot listen on {address}: {error}");
        ConfigError::new("--port", fault, "stop the other program, or choose another port; --port 0 takes a free one")
    })
}

/// A configured address where it is one of loopback, else its port there: the demo tenants let in whoever reaches them, and
/// have this machine's own addresses fetched. The image has `TENANTRY_LISTEN=0.0.0.0:8080`.
fn on_loopback(configured: SocketAddr) -> SocketAddr {
    if configured.ip().is_loopback() { configured } else { (Ipv4Addr::LOCALHOST, configured.port()).into() }
}

fn ready(
    config: &Config,
    listeners: &Listeners,
    control: &Target,
    superuser: &Target,
    kept: &Kept,
    tenants: Vec<ReadyTenant>,
) -> anyhow::Result<Ready> {
    let management = listeners.management_address()?.context("the management listener is open")?;
    Ok(Ready {
        url: config.public_url().to_owned(),
        management_url: format!("http://{management}"),
        database_url: control.to_url().expose_secret().to_owned(),
        cluster_admin_url: superuser.to_url().expose_secret().to_owned(),
        operator: kept.operator.clone(),
        tenants,
    })
}

/// Resolves at Ctrl-C, SIGTERM or the end of the terminal.
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reaches_it_whatever_is_configured() {
        for (configured, had) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.2:0", "127.0.0.2:0"),
            ("[::1]:9000", "[::1]:9000"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8081", "127.0.0.1:8081"),
            ("192.0.2.7:80", "127.0.0.1:80"),
        ] {
            assert_eq!(on_loopback(configured.parse().unwrap()).to_string(), had, "{configured}");
        }
    }
}
