//! A private PostgreSQL server from the programs installed on this machine.
//!
//! It listens on loopback with a generated password, keeps its port, and never outlives the program that started it:
//! a watchdog holds the other end of a pipe (see `watchdog.sh`).

mod account;
mod binaries;
mod error;
mod home;
mod leftover;
mod process;
mod settings;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::files::{read_json, write_json};
use crate::kernel::crypto::{hex, random};
use crate::router::{Target, TlsMode, TlsPolicy};
use binaries::Binaries;
pub use error::PostgresError;
use error::at;
use home::Home;
use leftover::Postmaster;
use process::{init, last_lines, watch};

const SUPERUSER: &str = "postgres";
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Held while a server runs; its presence says that the directory is ours.
pub(super) const LOCK: &str = "lock";

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct LocalPostgresOptions {
    /// The server's own directory: data, log, port and password. Made where missing.
    pub dir: PathBuf,
    /// Whether data survives a crash of the machine. Tests do without, and are faster.
    pub durable: bool,
    /// Whether `dir` is removed as soon as the server ends, however that happens.
    pub ephemeral: bool,
    /// The server's limit of connections.
    pub max_connections: u32,
    /// Lines of `pg_hba.conf` that come before the default one (password for everybody on loopback).
    pub hba: Vec<String>,
    /// Further settings; they win over the defaults.
    pub settings: Vec<(String, String)>,
    /// Further files in the data directory (certificates, keys), by name; readable by the server alone.
    pub files: Vec<(String, SecretString)>,
}

impl LocalPostgresOptions {
    /// A durable server of 200 connections that keeps its data in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durable: true,
            ephemeral: false,
            max_connections: 200,
            hba: Vec::new(),
            settings: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// Kept beside the data from the first start on.
#[derive(Serialize, Deserialize)]
struct Kept {
    port: u16,
    password: String,
}

/// A running private server. Dropping it stops it.
#[derive(Debug)]
pub struct LocalPostgres {
    data: PathBuf,
    target: Target,
    watchdog: Child,
    _lock: File,
}

impl LocalPostgres {
    /// Starts the server, making its data at the first time. Blocks until it takes connections: some two seconds the
    /// first time, well under one later.
    ///
    /// # Errors
    /// [`PostgresError`], which says what to do.
    pub fn start(options: &LocalPostgresOptions) -> Result<Self, PostgresError> {
        let dir = make_dir(&options.dir)?;
        let lock = lock(&dir)?;
        let home = Home::choose(&dir, options.ephemeral)?;
        let (data, account) = (home.path.join("data"), home.account);
        leftover::stop(&data)?;

        let major = fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
        let binaries = Binaries::find(major)?;
        let kept_at = dir.join("server.json");
        let kept: Option<Kept> = read_json(&kept_at).map_err(at(&kept_at))?;
        let mut kept = match (kept, major) {
            (Some(kept), Some(_)) => kept,
            (kept, _) => {
                let password = kept.map_or_else(new_password, |kept| kept.password);
                init(&binaries, &home, &data, &password)?;
                Kept { port: 0, password }
            }
        };
        for (name, content) in &options.files {
            account.write(&data.join(name), content.expose_secret().as_bytes()).map_err(at(&data))?;
        }
        account.write(&data.join("pg_hba.conf"), settings::hba(options).as_bytes()).map_err(at(&data))?;

        // Somebody may take the free port between the look and the start.
        let mut attempts = 0;
        loop {
            kept.port = free_port(kept.port).map_err(at(&dir))?;
            write_json(&kept_at, &kept).map_err(at(&kept_at))?;
            account
                .write(&data.join("postgresql.conf"), settings::conf(options, kept.port).as_bytes())
                .map_err(at(&data))?;
            attempts += 1;
            let mut server = Self {
                watchdog: watch(&binaries, &home, &data, &dir, options.ephemeral)?,
                data: data.clone(),
                target: target(&kept),
                _lock: lock.try_clone().map_err(at(&dir))?,
            };
            match server.wait_ready(&dir) {
                Ok(()) => return Ok(server),
                Err(_) if attempts < 4 && !is_free(kept.port) => kept.port = 0,
                Err(error) => return Err(error),
            }
        }
    }

    /// The superuser, at database `postgres`.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Stops it: clients are disconnected, everything is written.
    ///
    /// # Errors
    /// [`PostgresError::Stop`] if it does not end in time.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        self.shut_down()
    }

    /// Stops the server that an earlier run may have left on `dir`, and removes all of it.
    ///
    /// # Errors
    /// If it is not a server's directory, somebody uses it, the server does not stop, or a file cannot be removed.
    pub fn destroy(dir: &Path) -> Result<(), PostgresError> {
        if !dir.exists() {
            return Ok(());
        }
        let dir = make_dir(dir)?;
        let is_empty = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
        if !is_empty && !dir.join(LOCK).is_file() {
            return Err(PostgresError::NotOurs(dir));
        }
        let _lock = lock(&dir)?;
        let home = Home::known(&dir)?;
        leftover::stop(&home.join("data"))?;
        if !home.starts_with(&dir) && home.exists() {
            fs::remove_dir_all(&home).map_err(at(&home))?;
        }
        fs::remove_dir_all(&dir).map_err(at(&dir))
    }

    /// Whether a directory can be one of ours at all: where everybody may write, others can make one of any name.
    #[cfg(feature = "testing")]
    pub(crate) fn may_have_made(dir: &Path) -> bool {
        account::Account::may_have_made(dir)
    }

    /// As `pg_ctl` waits: the last line of the lock file says when connections are taken.
    fn wait_ready(&mut self, dir: &Path) -> Result<(), PostgresError> {
        let begun = Instant::now();
        loop {
            let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            if pid_file.lines().nth(7).is_some_and(|status| ["ready", "standby"].contains(&status.trim())) {
                return Ok(());
            }
            if self.watchdog.try_wait().map_err(at(dir))?.is_some() {
                return Err(PostgresError::Start(last_lines(&dir.join("postgres.log"))));
            }
            if begun.elapsed() > START_DEADLINE {
                return Err(PostgresError::Start(format!("not ready within {} s", START_DEADLINE.as_secs())));
            }
            sleep(Duration::from_millis(15));
        }
    }

    fn shut_down(&mut self) -> Result<(), PostgresError> {
        let begun = Instant::now();
        let postmaster = Postmaster::of(&self.data);
        if let Some(postmaster) = postmaster
            && matches!(self.watchdog.try_wait(), Ok(None))
        {
            postmaster.interrupt();
        } else {
            // Not far enough to have a lock file: the watchdog knows the process.
            drop(self.watchdog.stdin.take());
        }
        while let Ok(None) = self.watchdog.try_wait() {
            if begun.elapsed() > STOP_DEADLINE {
                if let Some(postmaster) = postmaster {
                    postmaster.quit();
                }
                // The watchdog goes on by itself once its input is closed.
                drop(self.watchdog.stdin.take());
                return Err(PostgresError::Stop);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!(%error, "the private PostgreSQL");
        }
    }
}

fn make_dir(dir: &Path) -> Result<PathBuf, PostgresError> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(at(dir))?;
    dir.canonicalize().map_err(at(dir))
}

fn lock(dir: &Path) -> Result<File, PostgresError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PostgresError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(PostgresError::Io(path.display().to_string(), error)),
    }
}

fn new_password() -> String {
    hex(&random::<24>())
}

fn target(kept: &Kept) -> Target {
    Target {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: kept.port,
        database: "postgres".into(),
        user: SUPERUSER.into(),
        password: kept.password.clone().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The port of last time, if nobody took it meanwhile; else any free one.
fn free_port(kept: u16) -> io::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, kept)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}
