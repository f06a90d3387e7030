//! Keeps the snapshot's file up to date: follows the registry's changes, and reads all tenants page by page, at start
//! and every so often, so that nothing stays wrong for long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::file::{Extent, Head, SnapshotError, SnapshotFile};
use super::{Inner, jittered, lock};
use crate::kernel::crypto::MacKey;
use crate::kernel::{InstallationId, TenantId};
use crate::router::control_plane::{InstallationRow, read_changes, read_installation};
use crate::router::error::{Error, Result};
use crate::router::tenant_row::TenantRow;

/// The start itself comes first.
const FIRST_AFTER: Duration = Duration::from_millis(500);
/// Changes within this time are one write.
const COLLECT: Duration = Duration::from_millis(300);
/// How often changes are looked for that nobody announced.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// Between two pages of a sweep.
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// Tenants of one page.
const PAGE: usize = 500;
/// How often all tenants are read anew.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it is written down, at most, that the control plane has answered.
const CONTACT_EVERY: Duration = Duration::from_secs(60);

/// Why the file is not up to date.
enum Trouble {
    /// The control plane does not answer, which others say.
    Plane,
    /// The file cannot be written.
    File(SnapshotError),
}

impl From<Error> for Trouble {
    fn from(_: Error) -> Self {
        Self::Plane
    }
}

impl From<SnapshotError> for Trouble {
    fn from(error: SnapshotError) -> Self {
        Self::File(error)
    }
}

/// Runs until it is dropped.
pub(super) async fn keep(inner: Arc<Inner>, installation: InstallationId) {
    if inner.file().await.is_none() {
        return;
    }
    inner.trust(installation).await;
    sleep(jittered(FIRST_AFTER)).await;
    let mut keeper =
        Keeper { inner: inner.clone(), installation, confirmed: None, followed: None, sweep: None, swept: None };
    let mut failing = false;
    loop {
        match keeper.step().await {
            Err(Trouble::File(error)) if !failing => {
                tracing::error!(%error, "the registry snapshot cannot be written; it will be tried again");
                failing = true;
            }
            Ok(()) if failing => {
                tracing::info!("the registry snapshot is written again");
                failing = false;
            }
            Ok(()) if keeper.sweep.is_some() => {
                sleep(PAGE_PAUSE).await;
                continue;
            }
            _ => {}
        }
        tokio::select! {
            () = inner.news.notified() => sleep(COLLECT).await,
            () = sleep(jittered(LOOK_EVERY)) => {}
        }
    }
}

/// How far the file reflects the registry.
struct Followed {
    /// Changes up to here were read.
    generation: i64,
    /// Every record is at least this new; less than `generation` until a sweep has made up for a log that was too short.
    all: i64,
    /// When it was last written down that the control plane answers.
    noted: Instant,
}

struct Keeper {
    inner: Arc<Inner>,
    /// The one that this node belongs to.
    installation: InstallationId,
    confirmed: Option<(InstallationRow, MacKey)>,
    followed: Option<Followed>,
    /// The tenant after which the next page begins.
    sweep: Option<TenantId>,
    swept: Option<Instant>,
}

impl Keeper {
    async fn step(&mut self) -> Result<(), Trouble> {
        if !self.inner.circuit.admits(Instant::now()) {
            return Err(Trouble::Plane);
        }
        if self.confirmed.is_none() {
            self.confirm().await?;
        }
        if self.sweep.is_none() && self.swept.is_none_or(|at| at.elapsed() > SWEEP_EVERY) {
            // The row is sealed anew when master keys are rotated.
            let row = read_installation(&self.inner.db).await?.ok_or(Trouble::Plane)?;
            let mac = row.open(&self.inner.keys)?.mac;
            self.confirmed = Some((row, mac));
            self.sweep = Some(uuid::Uuid::nil().into());
            self.swept = Some(Instant::now());
        }
        self.follow().await?;
        if let Some(after) = self.sweep {
            self.page(after).await?;
        }
        self.note().await
    }

    /// Whether the file is this installation's; one that is not is emptied.
    async fn confirm(&mut self) -> Result<(), Trouble> {
        let inner = &self.inner;
        let row = read_installation(&inner.db).await?.ok_or(Trouble::Plane)?;
        if row.id != self.installation {
            tracing::error!("the control plane is of another installation than this node's; restart the node");
            return Err(Trouble::Plane);
        }
        let mac = row.open(&inner.keys)?.mac;
        let head = match inner.look(SnapshotFile::head).await {
            Ok(Some(head)) if head.installation == row.id => Some(head),
            found => {
                let why = match &found {
                    Ok(None) => None,
                    Ok(Some(_)) => Some("it is another installation's".to_owned()),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(why) = why {
                    tracing::warn!(why, "the registry snapshot is not used; it is made anew");
                }
                inner.trusted.store(false, Ordering::Release);
                inner.look(SnapshotFile::clear).await?;
                None
            }
        };
        inner.trusted.store(true, Ordering::Release);
        self.followed =
            head.map(|head| Followed { generation: head.generation, all: head.generation, noted: Instant::now() });
        self.confirmed = Some((row, mac));
        Ok(())
    }

    /// Brings the tenants that changed.
    async fn follow(&mut self) -> Result<(), Trouble> {
        let since = self.followed.as_ref().map(|followed| followed.generation);
        let changes = read_changes(&self.inner.db, since).await?;
        self.inner.heard(None);
        let generation = changes.generation;
        let Some(Followed { generation: before, all, .. }) = self.followed else {
            // Nothing in an empty file is older than what a sweep reads from now on.
            self.followed = Some(Followed { generation, all: generation, noted: Instant::now() });
            return self.write(generation, Vec::new(), Extent::Named(Vec::new())).await;
        };
        if changes.reset {
            self.sweep = Some(uuid::Uuid::nil().into());
        }
        let ids: BTreeSet<TenantId> = changes.tenants.into_iter().map(|(id, _)| id).collect();
        let ids: Vec<TenantId> = ids.into_iter().collect();
        for ids in ids.chunks(PAGE) {
            let rows = TenantRow::of(&self.inner.db, ids.to_vec()).await?;
            self.write(all, rows, Extent::Named(ids.to_vec())).await?;
        }
        if all == before && !changes.reset {
            self.reached(generation, generation).await
        } else {
            // Only the end of a sweep says that nothing is older.
            self.reached(generation, all).await
        }
    }

    /// Changes up to `generation` are in the file; nothing in it is older than `all`.
    async fn reached(&mut self, generation: i64, all: i64) -> Result<(), Trouble> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        let news = all != followed.all;
        followed.generation = generation;
        if news {
            self.write(all, Vec::new(), Extent::Named(Vec::new())).await?;
        }
        if all == generation {
            lock(&self.inner.announced).retain(|_, announced| *announced > generation);
            self.inner.trusted.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Brings the next page of all tenants.
    async fn page(&mut self, after: TenantId) -> Result<(), Trouble> {
        let Some(Followed { generation, all, .. }) = self.followed else { return Ok(()) };
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let rows = TenantRow::after(&self.inner.db, after, limit).await?;
        let last = (rows.len() == PAGE).then(|| rows.last().map(|row| row.id)).flatten();
        self.write(all, rows, Extent::Between(after, last)).await?;
        self.sweep = last;
        match last {
            Some(_) => Ok(()),
            None => self.reached(generation, generation).await,
        }
    }

    /// Writes down now and then that the control plane answers.
    async fn note(&mut self) -> Result<(), Trouble> {
        let every = CONTACT_EVERY.min(self.inner.settings.max_age / 10);
        match &self.followed {
            Some(followed) if followed.noted.elapsed() >= every => {
                self.write(followed.all, Vec::new(), Extent::Named(Vec::new())).await
            }
            _ => Ok(()),
        }
    }

    /// One durable write: these rows, and that nothing is older than `all`.
    async fn write(&mut self, all: i64, rows: Vec<TenantRow>, extent: Extent) -> Result<(), Trouble> {
        let (Some((row, mac)), Some(followed)) = (&self.confirmed, &mut self.followed) else { return Ok(()) };
        let head = Head::new(row.id, row.mac_sealed.clone(), all, self.inner.contact.last());
        let mac = mac.clone();
        self.inner.look(move |file| file.write(&head, &mac, &rows, &extent)).await?;
        (followed.all, followed.noted) = (all, Instant::now());
        Ok(())
    }
}
