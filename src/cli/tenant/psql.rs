//! `tenant psql`: credentials go through the child's environment and private files, never its command line.

use std::ffi::OsString;

use anyhow::{Context as _, bail};
use clap::Args;

use super::{explain, fleet};
use crate::cli::{Context, Refused};
use crate::control::tenants;
use crate::fleet::programs;
use crate::router::MainConn;

/// Options of `tenant psql`.
#[derive(Debug, Args)]
pub struct PsqlArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// What psql itself is told.
    #[arg(last = true, value_name = "PSQL OPTIONS")]
    options: Vec<OsString>,
}

pub(super) async fn run(context: &Context, args: &PsqlArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    let (id, keys) = (tenant.id, fleet.control.keys.clone());
    let found = fleet.control.db.read(async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await).await;
    let (_, target) = found.map_err(explain)?;
    let (mut command, _files) = programs::client("psql", &target).map_err(cannot_start)?;
    command.args(&args.options);
    // Ctrl-C belongs to psql while it runs: it cancels a statement there.
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut child = command.spawn().map_err(cannot_start)?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("waiting for psql")?,
            _ = interrupts.recv() => {}
        }
    };
    if !status.success() {
        bail!("psql ended with {status}");
    }
    Ok(())
}

fn cannot_start(error: std::io::Error) -> Refused {
    Refused::new(format!("psql cannot be started: {error}"), "install PostgreSQL's client and have it in PATH")
}
