//! Processor time of a turn: of this program, of what it started, and of the servers. Unlike a rate it hardly depends on
//! who else is busy on the machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

/// Linux counts in hundredths of a second.
const TICKS: f64 = 100.0;
/// A server counts a backend that has ended a moment later.
const REAPED: Duration = Duration::from_millis(200);

/// Whose time is counted.
#[derive(Debug)]
pub struct Processor {
    processes: Vec<u32>,
}

impl Processor {
    /// This program's, and that of the servers that these are connected to.
    pub async fn of(servers: impl IntoIterator<Item = &Client>) -> Result<Self> {
        let mut processes = vec![std::process::id()];
        for server in servers {
            let backend: i32 = server.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
            // The server is whose child the backend is.
            processes.push(fields(u32::try_from(backend)?)?.get(1).context("a parent")?.parse()?);
        }
        Ok(Self { processes })
    }

    /// Seconds until now, those of children that have ended included.
    pub async fn seconds(&self) -> Result<f64> {
        tokio::time::sleep(REAPED).await;
        let mut ticks = 0.0;
        for process in &self.processes {
            for field in fields(*process)?.iter().skip(11).take(4) {
                ticks += field.parse::<f64>()?;
            }
        }
        Ok(ticks / TICKS)
    }
}

/// What comes after a process's name, which may have blanks.
fn fields(process: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let rest = stat.rsplit_once(')').context("a process's state")?.1;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}
