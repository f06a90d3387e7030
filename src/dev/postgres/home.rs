//! Where the private server's data lies, and whose it is.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::{PostgresError, at};
use crate::kernel::crypto::{hex, sha256};

/// Where data goes when root keeps its own in a directory that nobody else can enter.
const ELSEWHERE: &str = "/var/lib/tenantry";

/// Where data and password file lie, and whose they are.
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) account: Account,
}

impl Home {
    /// The place an earlier start chose, or would choose first. A note that names any other is somebody else's: whoever
    /// wrote it may not send us to remove what is there.
    pub(super) fn known(dir: &Path) -> Result<PathBuf, PostgresError> {
        let (inside, note) = (dir.join("cluster"), dir.join("pgdata"));
        let Ok(text) = fs::read_to_string(&note) else { return Ok(inside) };
        let named = Path::new(text.trim());
        let places = [inside, elsewhere(dir)];
        places.into_iter().find(|place| place == named).ok_or(PostgresError::NotOurs(note))
    }

    /// In `dir`, unless the server's account cannot get there; the file `pgdata` then says where it is.
    pub(super) fn choose(dir: &Path, ephemeral: bool) -> Result<Self, PostgresError> {
        let path = Self::known(dir)?;
        let account = Account::choose(&path)?;
        let inside = path.starts_with(dir);
        make_home(&path, account)?;
        if ephemeral {
            // Else the watchdog could not remove it.
            account.own(dir, 0o755).map_err(at(dir))?;
        }
        if account.reaches(&path) || !inside {
            return Ok(Self { path, account });
        }
        fs::remove_dir(&path).map_err(at(&path))?;
        let elsewhere = elsewhere(dir);
        make_home(&elsewhere, account)?;
        // Whatever root's umask is, its account has to get through.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(ELSEWHERE, open).map_err(at(Path::new(ELSEWHERE)))?;
        let note = dir.join("pgdata");
        fs::write(&note, format!("{}\n", elsewhere.display())).map_err(at(&note))?;
        Ok(Self { path: elsewhere, account })
    }
}

/// The place outside of `dir`, a directory's own.
fn elsewhere(dir: &Path) -> PathBuf {
    Path::new(ELSEWHERE).join(hex(&sha256(dir.as_os_str().as_encoded_bytes())[..8]))
}

fn make_home(path: &Path, account: Account) -> Result<(), PostgresError> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(at(path))?;
    account.own(path, 0o700).map_err(at(path))
}
