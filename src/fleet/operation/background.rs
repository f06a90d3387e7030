//! Operations that are left to workers: any number of nodes share them, each is driven by one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::control::operations::{self, NewOperation, Operation, OperationKind, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::{CreateTenant, Fleet, OperationOptions, Silent, lock, refused};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// Operations that one node drives at the same time.
const AT_ONCE: usize = 8;
/// As many of them may be backups that nobody asked for: whatever else comes finds a place.
const SCHEDULED_AT_ONCE: usize = AT_ONCE / 2;
/// Operations that are looked at together.
const LOOK: i64 = 64;

/// What this node drives in the background.
#[derive(Debug)]
pub(crate) struct Workers {
    places: Arc<Semaphore>,
    scheduled: Arc<Semaphore>,
    busy: Arc<Mutex<HashSet<OperationId>>>,
    tasks: TaskTracker,
}

impl Workers {
    /// What this node waits for before it ends.
    pub(in crate::fleet) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Places for an operation; none if there are none for such a one.
    fn places_for(&self, operation: &Operation) -> Option<Vec<OwnedSemaphorePermit>> {
        let scheduled = operation.is_scheduled_backup().then_some(&self.scheduled);
        let kinds = [&self.places].into_iter().chain(scheduled);
        kinds.map(|places| places.clone().try_acquire_owned().ok()).collect()
    }

    /// Has this node drive an operation, unless it does so already.
    fn begin(&self, id: OperationId) -> Option<Busy> {
        let is_new = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_new.then(|| Busy { id, all: self.busy.clone() })
    }
}

/// This node drives it; not any more when dropped, also by a panic.
struct Busy {
    id: OperationId,
    all: Arc<Mutex<HashSet<OperationId>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            scheduled: Arc::new(Semaphore::new(SCHEDULED_AT_ONCE)),
            busy: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }
}

impl Fleet {
    /// Queues an operation for a worker.
    ///
    /// # Errors
    /// 409 while another operation works on the same tenant.
    pub async fn enqueue(&self, mut new: NewOperation) -> ApiResult<Operation> {
        new.background = true;
        let kind = new.kind;
        // A move that failed holds the fence of the tenant's database until it is taken back.
        if kind != OperationKind::Erase
            && let Some((tenant, _)) = &new.tenant
            && let Some(open) = self.pending_move(*tenant).await?
        {
            return Err(crate::fleet::rotate::in_the_way(&open));
        }
        let queued =
            self.control.db.transaction(async move |conn: &mut MainConn| operations::begin(conn, &new).await).await?;
        if queued.kind == kind && queued.state == OperationState::Queued {
            return Ok(queued);
        }
        Err(refused(format!(
            "Another job ({}, {}) works on this tenant; wait for it to end, or cancel it.",
            queued.kind, queued.id
        )))
    }

    /// Begins to drive what waits for a worker and nobody drives, as far as there are places. Gives how many it took.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn work(&self) -> ApiResult<usize> {
        let (mut taken, mut passed) = (0, 0);
        loop {
            let page = async move |conn: &mut MainConn| operations::waiting(conn, LOOK, passed).await;
            let waiting = self.control.db.read(page).await?;
            let is_last = i64::try_from(waiting.len()).is_ok_and(|found| found < LOOK);
            if waiting.is_empty() {
                return Ok(taken);
            }
            let driven = lock::held(&self.control).await?;
            for operation in waiting.into_iter().filter(|operation| !driven.contains(&lock::key_of(operation))) {
                // Those for which there are fewer places come last, so that none is left for what follows either.
                let Some(places) = self.workers.places_for(&operation) else { return Ok(taken) };
                if let Some(busy) = self.workers.begin(operation.id) {
                    taken += 1;
                    self.drive_aside(operation, (busy, places));
                }
            }
            if is_last {
                return Ok(taken);
            }
            // All of those are driven, by whichever node: others wait behind them.
            passed += LOOK;
        }
    }

    /// Drives an operation as a task of this node's, which has its places until then.
    fn drive_aside(&self, operation: Operation, place: (Busy, Vec<OwnedSemaphorePermit>)) {
        let fleet = self.clone();
        self.workers.tasks.spawn(async move {
            match fleet.carry_out(&operation).await {
                Ok(()) => {}
                // Another worker has it, or has just finished it.
                Err(error) if matches!(error.code(), Code::Conflict | Code::AlreadyExists) => {}
                Err(error) => tracing::warn!(job = %operation.id, kind = %operation.kind, %error, "a job failed"),
            }
            drop(place);
        });
    }

    /// Waits until what this node drives has ended, at most for `patience`: what has not is gone on with by another.
    pub async fn finish_work(&self, patience: Duration) {
        self.workers.tasks.close();
        if tokio::time::timeout(patience, self.workers.tasks.wait()).await.is_err() {
            tracing::warn!("some jobs did not end in time; another worker goes on with them");
        }
    }

    /// Drives one operation to its end, with the lock of what it works on.
    async fn carry_out(&self, operation: &Operation) -> ApiResult<()> {
        let slug = || {
            let tenant = operation.tenant.as_ref();
            tenant.map(|(_, slug)| slug.clone()).ok_or_else(|| ApiError::internal("a job without its tenant"))
        };
        match operation.kind {
            OperationKind::Create => {
                let wanted = CreateTenant::named(slug()?);
                let made = self.create(&wanted, &OperationOptions::of_worker(operation), &Silent).await.map(drop);
                self.refused(operation, made).await
            }
            OperationKind::Backup => self.ended(operation, self.carry_out_backup(operation).await).await,
            OperationKind::Export => self.ended(operation, self.carry_out_export(operation).await).await,
            OperationKind::Clone => self.ended(operation, self.carry_out_clone(operation).await).await,
            OperationKind::Erase => self.ended(operation, self.carry_out_erase(operation).await).await,
            OperationKind::Restore => self.ended(operation, self.carry_out_restore(operation).await).await,
            OperationKind::RotateCredentials => self.refused(operation, self.resume_rotation(operation).await).await,
            OperationKind::Move => self.refused(operation, self.resume_move(operation).await).await,
            OperationKind::Drain => self.refused(operation, self.resume_drain(operation).await).await,
            OperationKind::Migrate => {
                self.refused(operation, self.migrate_in_background(operation, &Silent).await).await
            }
            OperationKind::Drift => self.ended(operation, self.carry_out_drift(operation).await).await,
            OperationKind::Verify => self.ended(operation, self.carry_out_verify(operation).await).await,
            kind => Err(ApiError::internal(format!("{kind} is not left to workers"))),
        }
    }

    /// A tenant and an operation on it, as they are now; the caller has the tenant's lock.
    ///
    /// # Errors
    /// 409 if the operation has ended meanwhile.
    pub(in crate::fleet) async fn still_open(
        &self,
        tenant: TenantId,
        operation: OperationId,
    ) -> ApiResult<(TenantRecord, Operation)> {
        let read = async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((tenants::get(conn, tenant).await?, operations::get(conn, operation).await?))
        };
        let (tenant, operation) = self.control.db.read(read).await?;
        if operation.state.is_final() { Err(refused("The job has ended.")) } else { Ok((tenant, operation)) }
    }

    /// As [`Self::ended`], for what may be half done: a server that does not answer is waited for.
    async fn refused(&self, operation: &Operation, done: ApiResult<()>) -> ApiResult<()> {
        match &done {
            Err(error) if error.code().status() < 500 => self.ended(operation, done).await,
            _ => done,
        }
    }

    /// What failed before its first step has failed too: nobody tries it again by himself.
    async fn ended(&self, operation: &Operation, done: ApiResult<()>) -> ApiResult<()> {
        let Err(error) = &done else { return done };
        if lock::is_busy(error) {
            return done;
        }
        let (id, note) = (operation.id, error.client_detail().to_owned());
        let noted = self.control.db.read(async move |conn: &mut MainConn| {
            if !operations::get(conn, id).await?.state.is_final() {
                operations::finish(conn, id, OperationState::Failed, Some(&note)).await?;
            }
            Ok::<_, ApiError>(())
        });
        noted.await?;
        done
    }
}
