//! (e) pgbouncer: the naive pools through PgBouncer in transaction mode.
//!
//! PgBouncer limits connections per database and per user, not in all. Where every pool logs in as the same user, the
//! limit per user is one of all: it closes another database's idle connection when that is reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use url::Url;

use super::{Order, Yardstick, run, this_program};
use crate::Effort;
use crate::support::server::free_address;

const PROGRAMS: [&str; 2] = ["pgbouncer", "/usr/sbin/pgbouncer"];
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Starts both, on these databases by tenant; `None`, with a word about it, where PgBouncer is not installed.
pub async fn start(databases: &BTreeMap<String, String>, cap: usize, effort: Effort) -> Result<Option<Yardstick>> {
    let mut found = None;
    for program in PROGRAMS {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().await.is_ok() {
            found = Some(program);
            break;
        }
    }
    let Some(program) = found else {
        eprintln!("  PgBouncer is not installed (Debian: apt-get install pgbouncer): left out");
        return Ok(None);
    };
    let server = Url::parse(databases.values().next().context("no database")?)?;
    let address: SocketAddr = free_address()?.parse()?;
    let child = start_pooler(program, &server, address, cap).await?;
    let through = databases.iter().map(|(tenant, url)| {
        let mut url = Url::parse(url)?;
        url.set_port(Some(address.port())).ok().context("a URL without a port")?;
        Ok((tenant.clone(), url.into()))
    });
    let databases: BTreeMap<String, String> = through.collect::<Result<_>>()?;
    let yardstick = run("pgbouncer", "pgbouncer", this_program("pgbouncer")?, &Order::new(&databases, effort)).await?;
    Ok(Some(Yardstick { _helper: Some(child), ..yardstick }))
}

async fn start_pooler(program: &str, server: &Url, address: SocketAddr, cap: usize) -> Result<Child> {
    let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
    let config = folder.path().join("pgbouncer.ini");
    let (host, port) = (server.host_str().context("no host")?, server.port().context("no port")?);
    let (user, password) = (server.username(), server.password().unwrap_or_default());
    let users = folder.path().join("users.txt");
    let text = format!(
        "[databases]\n* = host={host} port={port}\n\
         [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = transaction\nmax_client_conn = 4000\ndefault_pool_size = 4\nmax_user_connections = {cap}\n\
         server_idle_timeout = 600\nignore_startup_parameters = extra_float_digits,options\n\
         log_connections = 0\nlog_disconnections = 0\n",
        address.ip(),
        address.port(),
        users.display(),
    );
    // It will not run as root, and has read both before it becomes somebody else.
    for (path, text) in [(&config, text), (&users, format!("\"{user}\" \"{password}\"\n"))] {
        std::fs::write(path, text)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    let mut command = Command::new(program);
    command.arg("--quiet").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.args(["--user", "nobody"]);
    }
    let mut child = command.kill_on_drop(true).spawn()?;
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("PgBouncer ended: {status}");
        }
        if begun.elapsed() > START_DEADLINE {
            bail!("PgBouncer does not listen");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(child)
}
