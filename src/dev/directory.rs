//! The data directory of `tenantry dev`: what is kept in it, and what it tells the other commands.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::files::{read_json, write_json, write_private};
use super::postgres::LOCK;
use super::{LocalPostgres, PostgresError};
use crate::config::{ConfigError, DEV_MARK};
use crate::kernel::TenantId;
use crate::kernel::crypto::{MasterKeys, random};

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

/// What was generated at the first start and is kept: `dev.json`, by which the directory is known for one of ours. Only
/// this machine's demo installation has its passwords in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    /// Who runs the installation.
    pub(super) operator: Login,
    /// Password of the control plane's database role.
    pub(super) control_password: String,
    /// Password of every demo tenant's people but the administrators.
    pub(super) people_password: String,
    /// Demo tenants by slug.
    pub(super) tenants: BTreeMap<String, KeptTenant>,
}

/// An address with its password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) email: String,
    pub(super) password: String,
}

/// One demo tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeptTenant {
    /// Its first administrator.
    pub(super) admin: Login,
    /// The demo data was written.
    pub(super) filled: bool,
}

/// What other programs are told once the server answers: `ready.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    pub(super) url: String,
    pub(super) management_url: String,
    pub(super) database_url: String,
    pub(super) cluster_admin_url: String,
    pub(super) operator: Login,
    pub(super) tenants: Vec<ReadyTenant>,
}

/// One demo tenant that serves.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadyTenant {
    pub(super) slug: String,
    pub(super) id: TenantId,
    pub(super) admin_email: String,
    pub(super) admin_password: String,
}

impl Directory {
    /// Opens it, or makes it. Others may enter, because PostgreSQL may run as somebody else; every file in it is closed
    /// to them.
    ///
    /// # Errors
    /// [`ConfigError`] if it is in use for something else; nothing is changed in it then.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Self(path.to_owned()).refuse_foreign()?;
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        Ok(Self(path.canonicalize()?))
    }

    /// Refuses a directory that a server in production may have: its master key must not go, and the mark of `dev`
    /// would open its sign-ups.
    fn refuse_foreign(&self) -> anyhow::Result<()> {
        // The server's lock is the first file of a first start, the mark comes later.
        if self.kept().is_file() || self.postgres().join(LOCK).is_file() {
            return Ok(());
        }
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            if !is_harmless(&entry?) {
                let fault = format!("names {}, which is not empty and not of `tenantry dev`", self.0.display());
                return Err(ConfigError::new("--data-dir", fault, "name a new directory with --data-dir").into());
            }
        }
        Ok(())
    }

    /// Removes all data, the server's included; refuses while it runs. Touches nothing that is not ours.
    pub(super) fn reset(&self) -> anyhow::Result<()> {
        self.refuse_foreign()?;
        let is_ours = self.kept().exists();
        LocalPostgres::destroy(&self.postgres())?;
        let snapshots = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let snapshots = snapshots
            .filter(|path| path.extension().is_some_and(|extension| extension == "redb" || extension == "node"));
        for path in snapshots.chain([self.ready(), self.master_key()]) {
            gone(&path, fs::remove_file(&path))?;
        }
        if is_ours {
            // Nobody has the keys of the backups any more.
            let storage = self.0.join("storage");
            gone(&storage, fs::remove_dir_all(&storage))?;
        }
        // The mark goes last: a reset that was interrupted can be asked for again.
        Ok(gone(&self.kept(), fs::remove_file(self.kept()))?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready.json")
    }

    fn kept(&self) -> PathBuf {
        self.0.join(DEV_MARK)
    }

    fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// Makes the master key at the first start.
    pub(super) fn ensure_master_key(&self) -> io::Result<()> {
        let path = self.master_key();
        if path.exists() {
            return Ok(());
        }
        write_private(&path, format!("{}\n", MasterKeys::generate().expose_secret()).as_bytes())
    }

    /// What was kept, or new secrets.
    pub(super) fn load(&self) -> io::Result<Kept> {
        let kept: Option<Kept> = read_json(&self.kept())?;
        Ok(kept.unwrap_or_else(|| Kept {
            operator: Login { email: "operator@tenantry.example".into(), password: new_password() },
            control_password: new_password(),
            people_password: new_password(),
            tenants: BTreeMap::new(),
        }))
    }

    pub(super) fn save(&self, kept: &Kept) -> io::Result<()> {
        write_json(&self.kept(), kept)
    }

    pub(super) fn announce(&self, ready: &Ready) -> io::Result<()> {
        write_json(&self.ready(), ready)
    }

    /// From now on other programs find no installation here.
    pub(super) fn withdraw_ready(&self) {
        // Missing unless a run was killed.
        let _ = fs::remove_file(self.ready());
    }
}

/// What an installation may leave behind without its mark, and what keeps nothing: an empty directory, files of backups,
/// logs.
fn is_harmless(entry: &DirEntry) -> bool {
    let (path, name) = (entry.path(), entry.file_name());
    let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
    let is_empty = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
    if is_dir { name == "storage" || is_empty() } else { path.extension().is_some_and(|extension| extension == "log") }
}

/// What was removed, or was not there.
fn gone(path: &Path, removed: io::Result<()>) -> Result<(), PostgresError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PostgresError::Io(path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// 144 random bits that need no quoting in a shell or in JSON.
pub(super) fn new_password() -> String {
    BASE64URL.encode(random::<18>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_start_goes_on_and_a_server_s_directory_is_refused() {
        let dir = std::env::temp_dir().join(format!("tenantry-directory-{}", new_password()));
        Directory::open(&dir).unwrap();
        for directory in ["postgres", "storage", "storage/acme"] {
            fs::create_dir(dir.join(directory)).unwrap();
        }
        fs::write(dir.join("dev.log"), "").unwrap();
        Directory::open(&dir).unwrap();
        let key = dir.join("master.key");
        fs::write(&key, "of production").unwrap();
        assert!(Directory::open(&dir).unwrap_err().is::<ConfigError>());
        assert!(Directory(dir.clone()).reset().unwrap_err().is::<ConfigError>());
        assert_eq!(fs::read_to_string(&key).unwrap(), "of production");
        // What the first start writes before its mark.
        fs::write(dir.join("postgres").join(LOCK), "").unwrap();
        Directory::open(&dir).unwrap().reset().unwrap();
        assert!(!key.exists() && dir.join("storage/acme").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
