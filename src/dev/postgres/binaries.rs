//! Where PostgreSQL's programs are on this machine.

use std::path::PathBuf;
use std::process::Command;

use super::PostgresError;
use crate::fleet::programs::{candidates, output, parse_major};

/// The oldest major version that is taken.
const OLDEST: u32 = 14;

/// One installed PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    dir: PathBuf,
    /// Major version, `15`.
    pub(super) major: u32,
}

impl Binaries {
    /// The first usable one by `PATH`, `pg_config --bindir`, the usual directories (newest first); of this major
    /// version, where data of it exists already.
    pub(super) fn find(major: Option<u32>) -> Result<Self, PostgresError> {
        let found = candidates().into_iter().filter_map(Self::at).collect::<Vec<_>>();
        match major {
            None => found.into_iter().find(|b| b.major >= OLDEST).ok_or(PostgresError::NotInstalled),
            Some(major) => found.into_iter().find(|b| b.major == major).ok_or(PostgresError::OtherVersion(major)),
        }
    }

    fn at(dir: PathBuf) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let version = output(Command::new(dir.join("postgres")).arg("--version"))?;
        Some(Self { dir, major: parse_major(&version)? })
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
