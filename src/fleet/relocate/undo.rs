//! Back to where it was: the target goes first, then the source may be written to again. Each can be repeated.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::run::Run;
use super::{Method, MoveTenant, Step, fence, replicate};
use crate::control::kept::{self, LeftBy};
use crate::control::operations::{self, Operation, OperationKind, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::Lock;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, Progress, Silent, admin, lock, refused, sql, sweep};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// What a target that does not answer may keep its source waiting.
const TARGET: Duration = Duration::from_secs(4);
/// What the end of one hold that has run out may keep those of the same server waiting.
const HOLD: Duration = Duration::from_secs(60);

impl Fleet {
    /// Takes a move back that is under way: the tenant is served where it was, and nothing is left at the target.
    ///
    /// # Errors
    /// 404 if there is no such tenant; 409 if no move of it is under way, if it is at its new place already, or while
    /// another process works on it; 503 if the source does not answer.
    pub async fn abort_move(&self, id: TenantId, progress: &dyn Progress) -> ApiResult<TenantRecord> {
        let _lock = Lock::tenant(&self.control, id).await?;
        let operation = self.pending_move(id).await?.ok_or_else(|| {
            refused("No move of this tenant is under way. Nothing was done; `tenantry tenant show` says where it is.")
        })?;
        if !self.take_move_back(id, operation, progress).await? {
            return Err(refused(
                "The tenant is at its new place already. The same command without --abort finishes the move.",
            ));
        }
        self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await
    }

    /// The same for a tenant that is about to go, for whoever has its lock: nothing is to be left anywhere.
    pub(in crate::fleet) async fn clear_move(&self, id: TenantId) -> ApiResult<()> {
        if let Some(open) = self.pending_move(id).await? {
            self.take_move_back(id, open, &Silent).await?;
        }
        Ok(())
    }

    /// False if the tenant is at its new place already.
    pub(super) async fn take_move_back(
        &self,
        id: TenantId,
        operation: Operation,
        progress: &dyn Progress,
    ) -> ApiResult<bool> {
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        let journal = Journal::open(&self.control, operation, progress, None).await?;
        let run = Run::new(self, tenant, &MoveTenant::default(), &journal).await?;
        if run.is_switched() {
            return Ok(false);
        }
        self.undo(&run, &journal).await
    }

    /// After a failure: takes back what was done. If the tenant is at its new place after all, because the answer to its
    /// switch was lost, it gives the operation, to be gone on with.
    pub(super) async fn after_failure(&self, run: &Run<'_>, journal: &Journal<'_>) -> ApiResult<Option<Operation>> {
        let (progress, id, driver) = (journal.progress(), journal.operation.id, journal.driver());
        match self.undo(run, journal).await {
            Ok(true) => {
                progress.note("the move was taken back: the tenant is served where it was");
                Ok(None)
            }
            Ok(false) => {
                progress.note("the tenant is at its new place: only the answer to its switch was lost");
                let reopened = self.control.db.transaction(async move |conn: &mut MainConn| {
                    operations::is_driven(conn, driver).await?;
                    operations::reopen(conn, id).await
                });
                reopened.await.map(Some)
            }
            Err(left) if operations::is_taken_over(&left) => Err(left),
            Err(left) => {
                self.leave_to_worker(run, journal).await;
                progress.note("the move could not be taken back now; `tenant move --abort` does it, or a worker will");
                tracing::warn!(error = %left, cause = ?left.cause(), "a failed move was not taken back");
                Ok(None)
            }
        }
    }

    /// Takes back what was done. False if the tenant is at its new place already.
    async fn undo(&self, run: &Run<'_>, journal: &Journal<'_>) -> ApiResult<bool> {
        let (id, by, driver) = (run.tenant.id, journal.operation.id, journal.driver());
        let (tenant, operation) = self
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                // A switch whose answer was lost may still be committing: it has this row.
                tenants::find_hold(conn, id, by).await?;
                operations::is_driven(conn, driver).await?;
                Ok::<_, ApiError>((tenants::get(conn, id).await?, operations::get(conn, by).await?))
            })
            .await?;
        // Somebody else has ended it, and others may be at work by now.
        let ended = matches!(operation.state, OperationState::Done | OperationState::Undone);
        // Written with the switch.
        if !ended && operation.result.is_some() {
            return Ok(false);
        }
        if ended || tenant.cluster_id != Some(run.source.id) {
            return Err(ApiError::internal("a move that has ended cannot be taken back"));
        }
        if run.plan.is_some() {
            self.undo_servers(run, journal).await?;
        }
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                tenants::release(conn, id, by).await?;
                operations::finish_driven(conn, driver, OperationState::Undone, operation.error.as_deref()).await
            })
            .await?;
        Ok(true)
    }

    /// A worker looks for holds that have run out. What failed before the hold leaves one that never was one, so that the
    /// replication it has begun does not keep the source's log for ever.
    async fn leave_to_worker(&self, run: &Run<'_>, journal: &Journal<'_>) {
        let (id, by) = (run.tenant.id, journal.operation.id);
        let pending = self.pending_move(id).await.ok().flatten().is_some_and(|pending| pending.id == by);
        if !pending {
            return;
        }
        let note = async move |conn: &mut MainConn| {
            let is_held = tenants::find_hold(conn, id, by).await?.is_some();
            // After its switch there is nothing to take back.
            if is_held || operations::get(conn, by).await?.result.is_some() {
                return Ok::<_, ApiError>(());
            }
            tenants::hold(conn, id, by, Duration::ZERO).await
        };
        if let Err(error) = self.control.db.transaction(note).await {
            tracing::warn!(tenant = %id, %error, "nobody is told that a move is to be taken back");
        }
    }

    /// Once it was prepared: what is at the target, and the fence around the source.
    async fn undo_servers(&self, run: &Run<'_>, journal: &Journal<'_>) -> ApiResult<()> {
        if let Some(target) = &run.target {
            let dropped = timeout(TARGET, drop_target(run)).await;
            let dropped = dropped.unwrap_or_else(|_| Err(ApiError::internal("no answer in time")));
            if let Err(error) = dropped {
                if run.may_be_open.load(Ordering::Relaxed) {
                    // Then the source must not be.
                    let said = "The target does not answer, and may be open already. The move is taken back, or finished, \
                                once it does.";
                    return Err(ApiError::new(Code::TenantDatabaseUnavailable).detail(said).caused_by(error));
                }
                journal.progress().note("the target does not answer; what is left there is dropped later");
                tracing::warn!(%error, cause = ?error.cause(), cluster = target.name, "leftovers of a move stay for now");
                self.drop_later(run).await?;
            }
        }
        if journal.has_begun(Step::Fence.as_str()) {
            fence::set_login(&run.source.admin, &run.tenant.role_name, true).await?;
        }
        // The tenant need not wait until the server lets go of a slot; the move does.
        if run.plan.is_some_and(|plan| plan.method == Method::Replicate) {
            replicate::forget_source(run).await?;
        }
        Ok(())
    }

    async fn drop_later(&self, run: &Run<'_>) -> ApiResult<()> {
        let (whose, now) = ((run.tenant.id, run.target()?.id), self.control.clock.now());
        let (database, role) = (run.tenant.database_name.clone(), run.tenant.role_name.clone());
        let db = &self.control.db;
        db.read(async move |conn: &mut MainConn| {
            kept::keep(conn, whose, (&database, Some(&role)), LeftBy::Move, now).await
        })
        .await
    }

    /// Ends holds that have run out: whoever should have lifted them is gone. A move that has not come to its switch is
    /// taken back, so that the source serves. Gives how many.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn end_expired_holds(&self) -> ApiResult<usize> {
        let expired = self.control.db.read(async |conn: &mut MainConn| tenants::expired_holds(conn).await).await?;
        if expired.is_empty() {
            return Ok(0);
        }
        let driven = lock::held(&self.control).await?;
        let mut holds = Vec::new();
        for (tenant, by) in expired {
            let found = self.control.db.read(async move |conn: &mut MainConn| operations::get(conn, by).await).await;
            let is_move = found.as_ref().is_ok_and(|operation| operation.kind == OperationKind::Move);
            if found.is_ok_and(|operation| driven.contains(&lock::key_of(&operation))) {
                continue;
            }
            let lives =
                self.control.db.read(async move |conn: &mut MainConn| tenants::find(conn, tenant).await).await?;
            let server = sweep::server_of(lives.and_then(|tenant| tenant.cluster_id), tenant);
            holds.push((server, (tenant, by, is_move)));
        }
        Ok(sweep::by_server(holds, self.sweep_deadline(HOLD), |hold| self.end_hold(hold)).await)
    }

    /// Whether it has ended.
    async fn end_hold(&self, (tenant, by, is_move): (TenantId, OperationId, bool)) -> bool {
        let done = if is_move {
            self.end_hold_of_move(tenant, by).await
        } else {
            self.release(tenant, by).await.map(|()| false)
        };
        match &done {
            Ok(taken_back) => tracing::warn!(%tenant, taken_back, "a hold that had run out was ended"),
            Err(error) => tracing::warn!(%tenant, %error, cause = ?error.cause(), "a hold could not be ended"),
        }
        done.is_ok()
    }

    /// Whether the move was taken back: the hold of one that was switched, or has ended, is only let go.
    async fn end_hold_of_move(&self, tenant: TenantId, by: OperationId) -> ApiResult<bool> {
        let _lock = Lock::tenant(&self.control, tenant).await?;
        if let Some(pending) = self.pending_move(tenant).await?.filter(|pending| pending.id == by)
            && self.take_move_back(tenant, pending, &Silent).await?
        {
            return Ok(true);
        }
        self.release(tenant, by).await.map(|()| false)
    }

    async fn release(&self, tenant: TenantId, by: OperationId) -> ApiResult<()> {
        self.control.db.read(async move |conn: &mut MainConn| tenants::release(conn, tenant, by).await).await
    }
}

async fn drop_target(run: &Run<'_>) -> ApiResult<()> {
    replicate::forget_target(run).await?;
    let mut server = admin::open(&run.target()?.admin).await?;
    admin::run_each(&mut server, sql::DATABASE_UNDO, &[("database", &run.tenant.database_name)]).await?;
    admin::run_each(&mut server, sql::ROLE_UNDO, &[("role", &run.tenant.role_name)]).await
}
