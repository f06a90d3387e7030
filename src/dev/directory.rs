//! The data directory of `tenantry dev`: what is kept in it, and what it tells the other commands.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::files::{read_json, write_json, write_private};
use super::{LocalPostgres, PostgresError};
use crate::config::DEV_MARK;
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
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        path.canonicalize().map(Self)
    }

    /// Removes all data, the server's included; refuses while it runs. Touches nothing that is not ours.
    pub(super) fn reset(&self) -> Result<(), PostgresError> {
        let is_ours = self.kept().exists();
        LocalPostgres::destroy(&self.postgres())?;
        let snapshots = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let snapshots = snapshots.filter(|path| path.extension().is_some_and(|extension| extension == "redb"));
        for path in snapshots.chain([self.ready(), self.kept(), self.master_key()]) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PostgresError::Io(path.display().to_string(), error));
                }
                _ => {}
            }
        }
        if !is_ours {
            return Ok(());
        }
        // Nobody has the keys of the backups any more.
        let storage = self.0.join("storage");
        match fs::remove_dir_all(&storage) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PostgresError::Io(storage.display().to_string(), error))
            }
            _ => Ok(()),
        }
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

/// 144 random bits that need no quoting in a shell or in JSON.
pub(super) fn new_password() -> String {
    BASE64URL.encode(random::<18>())
}
