//! What all turns of a run share: what stops them, and what becomes of each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::MigrateFleet;
use super::ledger::Ledger;
use super::locks::Locks;
use super::tenant::Turn;
use crate::control::ControlPlane;
use crate::control::migration_runs::Finished;
use crate::error::ApiError;
use crate::fleet::migrations::Migrations;
use crate::kernel::{InstallationId, OperationId};

/// What all turns of a run share.
pub(super) struct Turns {
    pub(super) control: ControlPlane,
    pub(super) run: OperationId,
    pub(super) migrations: Migrations,
    pub(super) wanted: MigrateFleet,
    pub(super) installation: InstallationId,
    /// It goes on with one that was interrupted.
    pub(super) resumed: bool,
    pub(super) locks: Arc<Locks>,
    pub(super) ledger: Ledger,
    /// Whether a digest in the registry is that of today's migrations up to these versions.
    pub(super) digests: Mutex<HashMap<(i32, i32, String), bool>>,
    /// Nobody begins a turn any more.
    pub(super) stop: CancellationToken,
    /// Why, if it is not that somebody asked for it.
    pub(super) reason: Mutex<Option<String>>,
    /// What broke in the run itself.
    pub(super) broken: Mutex<Option<ApiError>>,
    pub(super) over: AtomicI64,
    pub(super) failed: AtomicI64,
    /// So many failures stop the run.
    pub(super) bearable: i64,
    pub(super) aside: Mutex<JoinSet<()>>,
    pub(super) aside_places: Semaphore,
}

impl Turns {
    pub(super) async fn unlock(&self, turn: &Turn) {
        self.locks.release(&[turn.tenant.tenant_id]).await;
    }

    pub(super) async fn take(&self, turn: &Turn, finished: Finished) {
        let failure = finished.error.clone();
        if !self.ledger.take(finished).await {
            return self.stop.cancel();
        }
        self.over.fetch_add(1, Ordering::Relaxed);
        let Some(error) = failure else { return };
        tracing::warn!(tenant = %turn.tenant.slug, error, "a tenant could not be migrated");
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if failed >= self.bearable {
            self.stop_for(format!("{failed} tenants failed, and no more than that is borne (--max-failures)"));
        }
    }

    /// Ends the run: nobody begins a turn any more.
    pub(super) fn stop_for(&self, why: String) {
        let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert(why);
        self.stop.cancel();
    }

    /// The run itself cannot go on.
    pub(super) fn broke(&self, error: ApiError) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(error);
        self.stop.cancel();
    }
}
