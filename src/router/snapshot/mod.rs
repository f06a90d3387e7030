//! The registry as it was last known, kept sealed on local disk: with the control plane down, tenants are served from
//! it, at start too, and also those that nobody has asked this node for before.
//!
//! `file.rs` is the file, `open.rs` finds it, `succession.rs` knows whose it was before, `keeper.rs` keeps it up to date,
//! `circuit.rs` remembers that the control plane does not answer, `contact.rs` when it last did.

mod circuit;
mod contact;
mod file;
mod keeper;
mod open;
mod succession;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::control_plane::InstallationRow;
use super::error::{Error, Result};
use super::main_db::MainDb;
use super::registry::Changes;
use super::tenant_row::TenantRow;
use crate::kernel::crypto::{MacKey, MasterKeys, random};
use crate::kernel::{Clock, InstallationId, Slug, TenantId};
use circuit::Circuit;
use contact::Contact;
use file::{SnapshotError, SnapshotFile};
pub(super) use succession::Succession;

/// How long a request waits for the control plane where the snapshot can answer instead.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tenants that are remembered one by one; with more, it is all of them.
const MOST_REMEMBERED: usize = 10_000;

/// Where the snapshot is and how long it may be used.
#[derive(Debug, Clone)]
pub struct SnapshotSettings {
    /// The file. Where another node on this machine has it, one beside it is used: `registry-2.redb`.
    pub path: PathBuf,
    /// How long after the control plane last answered tenants are still served from it.
    pub max_age: Duration,
    /// The clock.
    pub clock: Clock,
}

impl SnapshotSettings {
    /// A file, used for seven days by the system's clock.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), max_age: Duration::from_secs(7 * 24 * 60 * 60), clock: Clock::system() }
    }
}

/// A length of time, up to an eighth more or less: nodes that began together do not stay together.
pub(super) fn jittered(span: Duration) -> Duration {
    let [byte] = random::<1>();
    span * (896 + u32::from(byte)) / 1024
}

/// See the module.
pub(super) struct LastKnown {
    inner: Arc<Inner>,
    keeper: OnceLock<JoinHandle<()>>,
}

struct Inner {
    settings: SnapshotSettings,
    db: MainDb,
    keys: Arc<MasterKeys>,
    circuit: Circuit,
    file: OnceCell<Option<Arc<SnapshotFile>>>,
    /// The file's records are this installation's.
    trusted: AtomicBool,
    /// When the control plane last answered.
    contact: Contact,
    /// Changes that were announced and are not in the file yet, with their generation.
    announced: Mutex<HashMap<TenantId, i64>>,
    /// Tenants that were given out from the file since the control plane last answered.
    lent: Mutex<Lent>,
    /// Something was announced.
    news: Notify,
}

#[derive(Default)]
struct Lent {
    tenants: HashMap<TenantId, Slug>,
    too_many: bool,
}

impl fmt::Debug for LastKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LastKnown({})", self.inner.settings.path.display())
    }
}

impl Drop for LastKnown {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl LastKnown {
    pub(super) fn new(settings: SnapshotSettings, db: MainDb, keys: Arc<MasterKeys>) -> Self {
        let inner = Inner {
            contact: Contact::new(settings.clock.clone()),
            settings,
            db,
            keys,
            circuit: Circuit::default(),
            file: OnceCell::new(),
            trusted: AtomicBool::new(false),
            announced: Mutex::default(),
            lent: Mutex::default(),
            news: Notify::new(),
        };
        Self { inner: Arc::new(inner), keeper: OnceLock::new() }
    }

    /// Keeps the file up to date from now on, in the background of the current runtime.
    pub(super) fn keep(&self, installation: InstallationId) {
        self.keeper.get_or_init(|| tokio::spawn(keeper::keep(self.inner.clone(), installation)));
    }

    /// Asks the control plane, unless it is known not to answer; and not for long.
    pub(super) async fn asked<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.inner.circuit.admits(Instant::now()) {
            return Err(Error::control_plane("it did not answer a moment ago"));
        }
        let answer = timeout(PATIENCE, question)
            .await
            .unwrap_or_else(|_| Err(Error::control_plane("no answer within two seconds")));
        self.inner.heard(answer.as_ref().err());
        answer
    }

    /// The installation, at a start without the control plane.
    pub(super) async fn installation(&self, cause: Error) -> Result<InstallationRow> {
        let inner = &self.inner;
        let without = |why: String| {
            let path = inner.settings.path.display();
            Error::control_plane(format!("{}, and there is no snapshot to start from at {path}: {why}", reason(&cause)))
        };
        let (first, latest) = (inner.settings.path.clone(), inner.contact.latest());
        let adopted = inner.look(move |file| file.adopt_newest(&first, latest)).await;
        match adopted {
            Ok(Some(from)) => tracing::info!(from = %from.display(), "another node's snapshot is newer; it is used"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the snapshots of other nodes cannot be looked at"),
        }
        let head = inner.look(SnapshotFile::head).await.map_err(|error| without(error.to_string()))?;
        let head = head.ok_or_else(|| without("none was written yet".into()))?;
        if inner.contact.is_ahead(head.contact) {
            return Err(without(format!(
                "it was last up to date at {}, which lies ahead of this machine's clock ({}), so its age is not known. Set \
                 the clock and start again; if the clock is right, it was wrong then: bring the control plane back",
                head.contact,
                inner.settings.clock.now()
            )));
        }
        inner.contact.read(head.contact);
        let age = inner.contact.age();
        if age > inner.settings.max_age {
            let max = inner.settings.max_age;
            return Err(without(format!("it is {age:?} old, more than router.snapshot_max_age ({max:?})")));
        }
        inner.trusted.store(true, Ordering::Release);
        tracing::warn!(
            cause = %reason(&cause), age = ?Duration::from_secs(age.as_secs()),
            "started from the snapshot: the control plane does not answer, and known tenants are served as they were"
        );
        Ok(InstallationRow { id: head.installation, mac_sealed: head.mac_sealed })
    }

    /// The generation to follow the registry from, at a start without the control plane.
    pub(super) async fn generation(&self, cause: Error) -> Result<Changes> {
        match self.inner.known(SnapshotFile::head).await {
            Some(head) => Ok(Changes { generation: head.generation, ..Changes::default() }),
            None => Err(cause),
        }
    }

    /// A tenant as last known, when the control plane does not answer. One that it had announced a change of, which
    /// could not be read any more, is not: the change may have been a suspension.
    pub(super) async fn tenant(&self, id: TenantId, cause: Error) -> Result<TenantRow> {
        let inner = &self.inner;
        if lock(&inner.announced).contains_key(&id) {
            return Err(cause);
        }
        let row = inner.known(move |file| file.tenant(id)).await.ok_or(cause)?;
        let mut lent = lock(&inner.lent);
        if lent.tenants.len() < MOST_REMEMBERED
            && let Ok(slug) = row.slug.parse()
        {
            lent.tenants.insert(id, slug);
        } else {
            lent.too_many = true;
        }
        Ok(row)
    }

    /// The id behind a slug as last known.
    pub(super) async fn id_by_slug(&self, mac: MacKey, slug: &Slug, cause: Error) -> Result<TenantId> {
        let slug = slug.clone();
        self.inner.known(move |file| file.id_by_slug(&mac, &slug)).await.ok_or(cause)
    }

    /// Whoever follows the registry has asked it for changes. Tenants given out from the file meanwhile have changed
    /// for all that is known: they are read anew.
    pub(super) fn followed(&self, answer: Result<Changes>) -> Result<Changes> {
        let inner = &self.inner;
        inner.heard(answer.as_ref().err());
        let mut changes = answer?;
        if !changes.tenants.is_empty() || changes.reset {
            inner.announce(&changes);
        }
        let lent = std::mem::take(&mut *lock(&inner.lent));
        let named: HashSet<TenantId> = changes.tenants.iter().map(|(id, _)| *id).collect();
        changes.tenants.extend(lent.tenants.into_iter().filter(|(id, _)| !named.contains(id)));
        changes.reset |= lent.too_many;
        Ok(changes)
    }
}

impl Inner {
    /// The file is behind by these changes until its keeper has brought them.
    fn announce(&self, changes: &Changes) {
        // Without a file there is nothing to be behind.
        if matches!(self.file.get(), Some(None)) {
            return;
        }
        let mut announced = lock(&self.announced);
        announced.extend(changes.tenants.iter().map(|(id, _)| (*id, changes.generation)));
        if announced.len() > MOST_REMEMBERED {
            // It cannot be written, it seems; nothing in it is used until it is.
            announced.clear();
            self.trusted.store(false, Ordering::Release);
        }
        drop(announced);
        self.news.notify_one();
    }

    /// Uses the file from now on if it is of this installation.
    async fn trust(&self, installation: InstallationId) {
        if let Ok(Some(head)) = self.look(SnapshotFile::head).await
            && head.installation == installation
        {
            self.contact.read(head.contact);
            self.trusted.store(true, Ordering::Release);
        }
    }

    /// The control plane has answered, or has not.
    fn heard(&self, error: Option<&Error>) {
        if error.is_none() {
            self.contact.answered();
        }
        if self.circuit.heard(error.is_none(), Instant::now()) {
            match error {
                Some(error) => {
                    tracing::warn!(cause = %reason(error), "the control plane does not answer; tenants are served as last known");
                }
                None => tracing::info!("the control plane answers again"),
            }
        }
    }

    /// The file, opened by whoever needs it first; `None` if it cannot be.
    async fn file(&self) -> Option<Arc<SnapshotFile>> {
        let opened = self.file.get_or_init(async || {
            let (path, keys) = (self.settings.path.clone(), self.keys.clone());
            match blocking(move || SnapshotFile::open(&path, keys)).await {
                Ok(file) => Some(Arc::new(file)),
                Err(error) => {
                    tracing::error!(%error, "no registry snapshot is kept: without the control plane, this node cannot start");
                    None
                }
            }
        });
        opened.await.clone()
    }

    /// Looks into the file, beside the runtime's own threads.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SnapshotFile) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let file = self.file().await.ok_or(SnapshotError::Unopened)?;
        blocking(move || work(&file)).await
    }

    /// What the file knows, if it may be used.
    async fn known<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SnapshotFile) -> Result<Option<T>, SnapshotError> + Send + 'static,
    ) -> Option<T> {
        if !self.trusted.load(Ordering::Acquire) || self.contact.age() > self.settings.max_age {
            return None;
        }
        self.look(work).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the registry snapshot cannot be read");
            None
        })
    }
}

/// A damaged file makes an error of a panic, too.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SnapshotError::Damaged))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its cause, in one line.
fn reason(error: &Error) -> String {
    match error {
        Error::ControlPlane(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
