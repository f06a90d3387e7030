//! `tenantry serve` and `tenantry worker`: the server, and work in the background.

use anyhow::Context as _;
use clap::Args;
use futures_util::future::OptionFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::tenant::explain;
use super::{Context, Refused, keys};
use crate::config::Config;
use crate::error::ApiError;
use crate::fleet::programs;
use crate::http::{Listeners, Node, manage_alone};
use crate::jobs::{Housekeeping, schedule, serving};
use crate::telemetry;

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tenantry serve --config /etc/tenantry.toml\n  tenantry serve --data-dir .tenantry"
)]
pub struct ServeArgs {
    /// Leave work in the background to `tenantry worker`.
    #[arg(long)]
    no_worker: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If a listener cannot be opened, or the control plane cannot be used.
pub async fn serve(context: &Context, args: &ServeArgs) -> anyhow::Result<()> {
    let config = &context.config;
    let listeners = open_listeners(config)?;
    let node = Node::open_to_run(config)?;
    let server = match node.start(config).await {
        Ok(server) => server,
        Err(error) => return Err(cannot_start(&node, error).await),
    };
    let stop = stop_signal()?;
    programs::sweep();
    let jobs = if args.no_worker { Housekeeping::new() } else { schedule(&node.fleet) };
    let jobs = serving(jobs, server.post_office().clone(), server.workspaces().clone()).start();
    tracing::info!(address = %listeners.public_address()?, public_url = config.public_url(), "serving");
    let work = jobs.finish(&node.fleet, config.http().shutdown_timeout.0);
    server.serve(listeners, stop, work).await.context("the server failed")
}

/// An address that somebody chose is had, or refused; the default one of management may be that of `tenantry dev`.
fn open_listeners(config: &Config) -> Result<Listeners, Refused> {
    let (public, management) = (config.listen(), config.management_listen());
    let opened = if config.management_listen_is_default() {
        Listeners::open_beside(public, management)
    } else {
        Listeners::open(public, Some(management))
    };
    opened.map_err(|(address, error)| {
        let variable = if address == public { "TENANTRY_LISTEN" } else { "TENANTRY_MANAGEMENT_LISTEN" };
        Refused::new(format!("{variable} {address} cannot be opened: {error}"), "free the port, or choose another")
    })
}

async fn cannot_start(node: &Node, error: ApiError) -> anyhow::Error {
    if error.code().status() < 500 {
        return explain(error);
    }
    let error = keys::behind(Some(&node.control), error.into()).await;
    if error.is::<Refused>() {
        return error;
    }
    let remedy = "check TENANTRY_DATABASE_URL and TENANTRY_MASTER_KEY, and run `tenantry migrate`";
    Refused::new(format!("the control plane cannot be used: {error:#}"), remedy).into()
}

/// Works in the background until SIGTERM or SIGINT.
///
/// # Errors
/// If the configuration lacks the control plane, it was never migrated, or its keys are another installation's.
pub async fn worker(context: &Context) -> anyhow::Result<()> {
    let node = Node::open_to_run(&context.config)?;
    // One that does not answer is waited for, by each job.
    keys::check_if_there(&node.control).await?;
    let stop = stop_signal()?;
    programs::sweep();
    let jobs = schedule(&node.fleet).start();
    let ended = CancellationToken::new();
    let shown = show(context, &ended);
    tracing::info!("working");
    stop.await;
    jobs.finish(&node.fleet, context.config.http().shutdown_timeout.0).await;
    ended.cancel();
    if let Some(shown) = OptionFuture::from(shown).await {
        shown.context("the listener of management failed")??;
    }
    Ok(())
}

/// Shows how a worker does. It works all the same where the address is a server's, on the same machine.
fn show(context: &Context, ended: &CancellationToken) -> Option<JoinHandle<std::io::Result<()>>> {
    let address = context.config.management_listen();
    match manage_alone(address, telemetry::metrics()?, ended.clone()) {
        Ok(server) => Some(tokio::spawn(server)),
        Err(error) => {
            tracing::warn!(%address, %error, "TENANTRY_MANAGEMENT_LISTEN cannot be opened: this worker shows no metrics; \
                give it an address of its own");
            None
        }
    }
}

/// Resolves at SIGTERM or SIGINT, which then no longer end the process by themselves.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
