//! Whom the server runs as: PostgreSQL refuses to run as root, so root lends it an unprivileged account.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::PostgresError;

/// The account of the server's processes and files. Without ids it is our own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    /// Our own, unless we are root: then whoever owns the data already, else `postgres`, else `nobody`.
    pub(super) fn choose(home: &Path) -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        if let Ok(owned) = fs::metadata(home)
            && owned.uid() != 0
        {
            return Ok(Self(Some((owned.uid(), owned.gid()))));
        }
        Self::lent().ok_or(PostgresError::NoAccount)
    }

    /// The one that root lends to a new server.
    fn lent() -> Option<Self> {
        let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        user.map(|user| Self(Some((user.uid.as_raw(), user.gid.as_raw()))))
    }

    /// Whether a path is a directory, not a link to one, that we or a server of ours own.
    #[cfg(feature = "testing")]
    pub(super) fn may_have_made(dir: &Path) -> bool {
        let us = geteuid();
        let is_lent = |owner: u32| Self::lent().and_then(|account| account.0).is_some_and(|(uid, _)| uid == owner);
        fs::symlink_metadata(dir)
            .is_ok_and(|found| found.is_dir() && (found.uid() == us.as_raw() || (us.is_root() && is_lent(found.uid()))))
    }

    /// A program run by this account, in a directory that every account can enter. Supplementary groups are dropped
    /// together with root.
    pub(super) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null());
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or directory to this account, with this mode.
    pub(super) fn own(self, path: &Path, mode: u32) -> io::Result<()> {
        if let Some((uid, gid)) = self.0 {
            chown(path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Writes a file that only this account (and root) can read.
    pub(super) fn write(self, path: &Path, content: &[u8]) -> io::Result<()> {
        // Never readable by others, not even for the moment before it is handed over.
        let _ = fs::remove_file(path);
        crate::dev::files::write_private(path, content)?;
        self.own(path, 0o600)
    }

    /// Whether this account can enter a directory: one of its parents may be closed to it, as `/root` is.
    pub(super) fn reaches(self, dir: &Path) -> bool {
        let test = self.command("sh").args(["-c", "cd -- \"$1\" 2>/dev/null", "sh"]).arg(dir).status();
        test.is_ok_and(|status| status.success())
    }
}
