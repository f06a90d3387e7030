//! The snapshot's file: a `redb` database of sealed records. Every write is one durable transaction, so that a process
//! killed at any point leaves the file as it was before or after.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use redb::{
    CommitError, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition,
    TableError, TransactionError,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::open::{OpenFault, copy_of, neighbour, open_database, put_aside};
use super::succession::last_had_by;
use crate::kernel::crypto::{CryptoError, MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{InstallationId, Slug, TenantId};
use crate::router::slices::NodeId;
use crate::router::tenant_row::{TenantRow, base64_bytes};

/// What is said of the whole, under one key.
const HEAD: TableDefinition<'_, (), &[u8]> = TableDefinition::new("head");
/// Tenants by id: the keyed digest of the slug, then the sealed row.
const TENANTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("tenants");
/// Ids of tenants by the keyed digest of their slug.
const SLUGS: TableDefinition<'_, &[u8; DIGEST], u128> = TableDefinition::new("slugs");

const DIGEST: usize = 32;
/// The form of the records; a file of another one is filled anew.
const FORMAT: u32 = 1;
/// Nodes that may share a directory.
const MOST_NODES: u32 = 16;

/// Why a snapshot cannot be used. The text holds nothing secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("{0}")]
    Storage(Box<redb::Error>),
    #[error("{0}")]
    Sealed(#[from] CryptoError),
    #[error("it is of another version of this program")]
    Format,
    #[error("it is damaged")]
    Damaged,
    #[error("{path} and its neighbours are all in use", path = .0.display())]
    InUse(PathBuf),
    #[error("its file could not be opened")]
    Unopened,
}

macro_rules! from_storage {
    ($($error:ty),+) => {$(
        impl From<$error> for SnapshotError {
            fn from(error: $error) -> Self {
                Self::Storage(Box::new(error.into()))
            }
        }
    )+};
}
from_storage!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

pub(super) type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// What is said of the whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    pub(super) installation: InstallationId,
    /// As the control plane has it.
    #[serde(with = "base64_bytes")]
    pub(super) mac_sealed: Vec<u8>,
    /// Every record is at least as new as this generation of the registry.
    pub(super) generation: i64,
    /// When the control plane last answered.
    pub(super) contact: DateTime<Utc>,
}

impl Head {
    pub(super) const fn new(
        installation: InstallationId,
        mac_sealed: Vec<u8>,
        generation: i64,
        contact: DateTime<Utc>,
    ) -> Self {
        Self { format: FORMAT, installation, mac_sealed, generation, contact }
    }
}

/// Which tenants some rows are all of.
#[derive(Debug, Clone)]
pub(super) enum Extent {
    /// These: one that has no row is gone.
    Named(Vec<TenantId>),
    /// Those after the first id, up to the second where there is one.
    Between(TenantId, Option<TenantId>),
}

/// An open file; nobody else has it.
pub(super) struct SnapshotFile {
    path: PathBuf,
    db: ArcSwap<Database>,
    keys: Arc<MasterKeys>,
    /// The node that had it before, and whether the registry was told.
    pub(super) before: Option<NodeId>,
    pub(super) told: AtomicBool,
}

const fn head_place() -> Place {
    Place::new("snapshot", "head", Uuid::nil())
}

fn tenant_place(id: TenantId) -> Place {
    Place::new("snapshot", "tenant", id.uuid())
}

pub(super) fn slug_digest(mac: &MacKey, slug: &str) -> [u8; DIGEST] {
    mac.digest("snapshot-slug", &[slug.as_bytes()])
}

impl SnapshotFile {
    /// Opens the file at `path`, or the first of its neighbours (`registry-2.redb`, …) that no other node has. One that
    /// cannot be read is put aside.
    pub(super) fn open(path: &Path, keys: Arc<MasterKeys>) -> Result<Self> {
        for number in 1..=MOST_NODES {
            let path = neighbour(path, number);
            match open_database(&path) {
                Ok(db) => {
                    tracing::debug!(path = %path.display(), "the registry snapshot is kept here");
                    return Ok(Self::new(path, db, keys));
                }
                Err(OpenFault::InUse) => {}
                Err(OpenFault::Io(error)) => return Err(SnapshotError::Io(path, error)),
                Err(OpenFault::Damaged(why)) => {
                    let aside = path.with_extension("damaged");
                    if !put_aside(&path, &aside).map_err(|error| SnapshotError::Io(path.clone(), error))? {
                        continue;
                    }
                    tracing::warn!(path = %path.display(), aside = %aside.display(), why,
                        "the registry snapshot cannot be read; it is put aside and made anew");
                    match open_database(&path) {
                        Ok(db) => return Ok(Self::new(path, db, keys)),
                        Err(OpenFault::InUse) => {}
                        Err(_) => return Err(SnapshotError::Damaged),
                    }
                }
            }
        }
        Err(SnapshotError::InUse(path.to_owned()))
    }

    fn new(path: PathBuf, db: Database, keys: Arc<MasterKeys>) -> Self {
        let before = last_had_by(&path);
        Self { path, db: ArcSwap::from_pointee(db), keys, before, told: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is said of the whole; `None` in a file that was never filled.
    pub(super) fn head(&self) -> Result<Option<Head>> {
        head_of(&self.db.load(), &self.keys)
    }

    /// Takes the newest snapshot of the nodes that share the directory, where that is newer than one's own and of the same
    /// installation; without one's own, the newest of all. What is later than `latest` was written by a wrong clock, or ours is wrong: it is not taken, and not replaced either.
    pub(super) fn adopt_newest(&self, first: &Path, latest: DateTime<Utc>) -> Result<Option<PathBuf>> {
        let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let own = self.head().ok().flatten();
        if own.as_ref().is_some_and(|own| own.contact > latest) {
            return Ok(None);
        }
        let mut others: Vec<(SystemTime, PathBuf)> = (1..=MOST_NODES)
            .map(|number| neighbour(first, number))
            .filter(|path| *path != self.path)
            .filter_map(|path| Some((modified(&path)?, path)))
            .collect();
        others.sort_by(|a, b| b.cmp(a));
        for (_, other) in others {
            let copy = self.path.with_extension("copy");
            let adopted = copy_of(&other, &copy, &self.keys);
            match adopted {
                Ok((_, head)) if own.as_ref().is_some_and(|own| own.installation != head.installation) => {
                    tracing::debug!(path = %other.display(), "not taken over: it is another installation's");
                }
                Ok((_, head)) if head.contact > latest => {
                    tracing::warn!(path = %other.display(), at = %head.contact,
                        "a neighbour's snapshot is not used: it lies ahead of this machine's clock; set the clock");
                }
                Ok((db, head)) if own.as_ref().is_none_or(|own| head.contact > own.contact) => {
                    fs::rename(&copy, &self.path).map_err(|error| SnapshotError::Io(self.path.clone(), error))?;
                    self.db.store(Arc::new(db));
                    return Ok(Some(other));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(path = %other.display(), %error, "not taken over"),
            }
            // Left behind, it is overwritten by the next one.
            let _ = fs::remove_file(&copy);
        }
        Ok(None)
    }

    /// A tenant's row.
    pub(super) fn tenant(&self, id: TenantId) -> Result<Option<TenantRow>> {
        let read = self.db.load().begin_read()?;
        let Some(table) = unless_missing(read.open_table(TENANTS))? else { return Ok(None) };
        let Some(found) = table.get(id.uuid().as_u128())? else { return Ok(None) };
        let sealed = found.value().get(DIGEST..).ok_or(SnapshotError::Damaged)?;
        let plain = self.keys.open(tenant_place(id), &Sealed::from(sealed.to_vec()))?;
        serde_json::from_slice(&plain).map(Some).map_err(|_| SnapshotError::Format)
    }

    /// The id that a slug leads to.
    pub(super) fn id_by_slug(&self, mac: &MacKey, slug: &Slug) -> Result<Option<TenantId>> {
        let read = self.db.load().begin_read()?;
        let Some(table) = unless_missing(read.open_table(SLUGS))? else { return Ok(None) };
        let found = table.get(&slug_digest(mac, slug.as_str()))?;
        Ok(found.map(|id| Uuid::from_u128(id.value()).into()))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<()> {
        let write = self.db.load().begin_write()?;
        write.delete_table(HEAD)?;
        write.delete_table(TENANTS)?;
        write.delete_table(SLUGS)?;
        Ok(write.commit()?)
    }

    /// Writes what is said of the whole, and the rows that are all there is within an extent.
    pub(super) fn write(&self, head: &Head, mac: &MacKey, rows: &[TenantRow], extent: &Extent) -> Result<()> {
        let mut write = self.db.load().begin_write()?;
        // After a kill, the file opens at once, whatever its size.
        write.set_quick_repair(true);
        {
            let mut tenants = write.open_table(TENANTS)?;
            let mut slugs = write.open_table(SLUGS)?;
            let there: HashSet<u128> = rows.iter().map(|row| row.id.uuid().as_u128()).collect();
            let known: Vec<u128> = match extent {
                Extent::Named(ids) => ids.iter().map(|id| id.uuid().as_u128()).collect(),
                Extent::Between(after, last) => {
                    let last = last.map_or(Bound::Unbounded, |last| Bound::Included(last.uuid().as_u128()));
                    let range = (Bound::Excluded(after.uuid().as_u128()), last);
                    tenants.range(range)?.map(|entry| Ok(entry?.0.value())).collect::<Result<_>>()?
                }
            };
            let gone = known.into_iter().filter(|id| !there.contains(id));
            for id in gone {
                let old = tenants.remove(id)?.and_then(|old| digest_of(old.value()));
                if let Some(digest) = old {
                    forget_slug(&mut slugs, &digest, id)?;
                }
            }
            for row in rows {
                let id = row.id.uuid().as_u128();
                let digest = slug_digest(mac, &row.slug);
                let plain = serde_json::to_vec(row).map_err(|_| SnapshotError::Format)?;
                let (same, old) = match tenants.get(id)? {
                    Some(old) => (self.is_same(row.id, old.value(), &plain), digest_of(old.value())),
                    None => (false, None),
                };
                if let Some(old) = old.filter(|old| *old != digest) {
                    forget_slug(&mut slugs, &old, id)?;
                }
                if !same {
                    let mut record = digest.to_vec();
                    record.extend_from_slice(self.keys.seal(tenant_place(row.id), &plain).as_bytes());
                    tenants.insert(id, record.as_slice())?;
                }
                // Always: another tenant of this page may just have given the slug up.
                slugs.insert(&digest, id)?;
            }
            let plain = serde_json::to_vec(head).map_err(|_| SnapshotError::Format)?;
            write.open_table(HEAD)?.insert((), self.keys.seal(head_place(), &plain).as_bytes())?;
        }
        Ok(write.commit()?)
    }

    /// Whether a record says the same, under the newest master key.
    fn is_same(&self, id: TenantId, record: &[u8], plain: &[u8]) -> bool {
        let Some(sealed) = record.get(DIGEST..) else { return false };
        let sealed = Sealed::from(sealed.to_vec());
        !self.keys.is_stale(&sealed) && self.keys.open(tenant_place(id), &sealed).is_ok_and(|old| *old == plain)
    }
}

fn digest_of(record: &[u8]) -> Option<[u8; DIGEST]> {
    record.first_chunk().copied()
}

/// A slug no longer leads to this tenant. It may lead to another already.
fn forget_slug(
    slugs: &mut redb::Table<'_, &'static [u8; DIGEST], u128>,
    digest: &[u8; DIGEST],
    id: u128,
) -> Result<()> {
    if slugs.get(digest)?.is_some_and(|found| found.value() == id) {
        slugs.remove(digest)?;
    }
    Ok(())
}

fn unless_missing<T>(opened: Result<T, TableError>) -> Result<Option<T>> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn head_of(db: &Database, keys: &MasterKeys) -> Result<Option<Head>> {
    let read = db.begin_read()?;
    let Some(table) = unless_missing(read.open_table(HEAD))? else { return Ok(None) };
    let Some(found) = table.get(())? else { return Ok(None) };
    let plain = keys.open(head_place(), &Sealed::from(found.value().to_vec()))?;
    let head: Head = serde_json::from_slice(&plain).map_err(|_| SnapshotError::Format)?;
    if head.format == FORMAT { Ok(Some(head)) } else { Err(SnapshotError::Format) }
}
