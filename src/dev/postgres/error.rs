//! Why the private server does not run, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the private server does not run.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No programs of a supported version.
    #[error(
        "PostgreSQL 14 or newer is not installed here (looked along PATH, at `pg_config --bindir` and in the usual \
         directories); install it, for example by `apt-get install postgresql` on Debian"
    )]
    NotInstalled,
    /// The data is of a major version whose programs are gone.
    #[error(
        "the data was made by PostgreSQL {0}, which is not installed here; install it (Debian: `apt-get install \
         postgresql-{0}`) or start afresh with `--reset`"
    )]
    OtherVersion(u32),
    /// Root, and nobody to hand the server to.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`; add one of them")]
    NoAccount,
    /// Another process has it.
    #[error("{0} is in use by another running process; stop that one or choose another directory")]
    InUse(PathBuf),
    /// Something else lies where the server's data would be removed.
    #[error("{0} was not made by this program; remove it by hand, or choose another directory")]
    NotOurs(PathBuf),
    /// A server of an earlier run does not stop.
    #[error("the server of an earlier run (process {0}) does not stop; stop it by hand")]
    StillRunning(i32),
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Init(String),
    /// The server ended while starting, or was not ready in time.
    #[error("PostgreSQL did not start: {0}")]
    Start(String),
    /// The server does not stop.
    #[error("PostgreSQL did not stop in time")]
    Stop,
    /// A file or a process.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
}

impl PostgresError {
    /// Whether a precondition is not met, which the text names with its remedy; else something broke.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotInstalled
                | Self::OtherVersion(_)
                | Self::NoAccount
                | Self::InUse(_)
                | Self::NotOurs(_)
                | Self::StillRunning(_)
        )
    }
}

/// Names the file or program that an error of the operating system is about.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.display().to_string();
    |error| PostgresError::Io(path, error)
}
