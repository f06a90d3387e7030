//! A server that outlived whoever started it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PostgresError;

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The postmaster of a data directory, as its lock file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postmaster(Pid);

impl Postmaster {
    /// Whoever `postmaster.pid` names, alive or not.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok().map(|pid| Self(Pid::from_raw(pid)))
    }

    /// Whether the process is alive and really the server of this directory; process ids are used again.
    fn serves(self, data: &Path) -> bool {
        if kill(self.0, None).is_err() {
            return false;
        }
        let arguments = fs::read(format!("/proc/{}/cmdline", self.0)).or_else(|_| {
            let listed = Command::new("ps").args(["-o", "command=", "-p", &self.0.to_string()]).output();
            listed.map(|output| output.stdout)
        });
        arguments.is_ok_and(|arguments| {
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            arguments.contains("postgres") && arguments.contains(&*data.to_string_lossy())
        })
    }

    /// Fast shutdown: clients are disconnected, everything is written.
    pub(super) fn interrupt(self) {
        let _ = kill(self.0, Signal::SIGINT);
    }

    /// Immediate shutdown: the next start recovers.
    pub(super) fn quit(self) {
        let _ = kill(self.0, Signal::SIGQUIT);
    }
}

/// Stops the server that still runs on a data directory, if one does, and removes a lock file that nobody holds.
pub(super) fn stop(data: &Path) -> Result<(), PostgresError> {
    let Some(postmaster) = Postmaster::of(data) else { return Ok(()) };
    let begun = Instant::now();
    let (mut interrupted, mut quit) = (false, false);
    while postmaster.serves(data) {
        if begun.elapsed() > STOP_DEADLINE {
            return Err(PostgresError::StillRunning(postmaster.0.as_raw()));
        }
        if begun.elapsed() > STOP_DEADLINE / 2 && !quit {
            postmaster.quit();
            quit = true;
        } else if !interrupted {
            // Not by the clock: the first look at the process may take longer than any bound.
            postmaster.interrupt();
            interrupted = true;
        }
        sleep(Duration::from_millis(20));
    }
    let _ = fs::remove_file(data.join("postmaster.pid"));
    Ok(())
}
