//! `tenant psql`: credentials go through the child's environment and private files, never its command line.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::ExposeSecret as _;

use super::{explain, fleet};
use crate::cli::{Context, Refused};
use crate::control::tenants;
use crate::router::{MainConn, Target, TlsMode};

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
    let files = PrivateFiles::new()?;
    let mut command = tokio::process::Command::new("psql");
    command.args(&args.options).envs(environment(&target, &files)?);
    // Ctrl-C belongs to psql while it runs: it cancels a statement there.
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut child = command.spawn().map_err(|error| {
        Refused::new(format!("psql cannot be started: {error}"), "install PostgreSQL's client and have it in PATH")
    })?;
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

fn environment(target: &Target, files: &PrivateFiles) -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGHOST", target.host.clone().into()),
        ("PGPORT", target.port.to_string().into()),
        ("PGDATABASE", target.database.clone().into()),
        ("PGUSER", target.user.clone().into()),
        ("PGPASSWORD", target.password.expose_secret().into()),
        ("PGSSLMODE", target.tls.mode.as_str().into()),
        ("PGAPPNAME", "tenantry-psql".into()),
    ];
    if let Some(ca) = &target.tls.ca {
        variables.push(("PGSSLROOTCERT", files.write("ca.pem", ca)?.into()));
    } else if matches!(target.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        variables.push(("PGSSLROOTCERT", "system".into()));
    }
    if let (Some(chain), Some(key)) = (&target.tls.client_cert, &target.tls.client_key) {
        variables.push(("PGSSLCERT", files.write("client.pem", chain)?.into()));
        variables.push(("PGSSLKEY", files.write("client.key", key.expose_secret())?.into()));
    }
    Ok(variables)
}

/// A directory that only we can read, gone when dropped.
struct PrivateFiles(PathBuf);

impl PrivateFiles {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tenantry-psql-{}", uuid::Uuid::now_v7().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).context("making a private directory")?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        write_private(&path, text).with_context(|| format!("writing {name}"))?;
        Ok(path)
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

impl Drop for PrivateFiles {
    fn drop(&mut self) {
        // What stays is readable by us alone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
