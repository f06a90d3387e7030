//! `tenantry serve` as a process of its own, on an installation of the estate's.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{self, Memory};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");
const START_DEADLINE: Duration = Duration::from_secs(60);
/// The allocator purges in the background.
const SETTLE: Duration = Duration::from_secs(2);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A server that is up; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    started_in: Duration,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with these environment variables alone, and waits until it takes requests.
    pub async fn start(environment: &[(String, String)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        let log = folder.path().join("log");
        let (public, management) = (free_address()?, free_address()?);
        let url = format!("http://{public}");
        let ready = format!("{url}/readyz");
        let client = reqwest::Client::new();
        let begun = Instant::now();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--no-worker"])
            .env_clear()
            .env("TENANTRY_LISTEN", public)
            .env("TENANTRY_MANAGEMENT_LISTEN", management)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("starting tenantry serve")?;
        loop {
            if client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || begun.elapsed() > START_DEADLINE {
                let _ = child.kill();
                bail!(
                    "tenantry serve did not get ready ({ended:?}):\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self { child, url, started_in: begun.elapsed(), _folder: folder })
    }

    /// The public listener, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From the start of the process to the first good answer.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its memory, once the allocator has given back what it does not keep.
    pub async fn memory(&self) -> Result<Memory> {
        tokio::time::sleep(SETTLE).await;
        process::memory(self.child.id())
    }

    /// As a crash ends it: without a word to anybody.
    pub fn crash(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (Ok(None), Ok(id)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("tenantry serve had to be killed");
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An address that nobody listens on at this moment.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string())
}
