//! A tenant to another cluster, in named steps.
//!
//! Its database is copied there, by dump and restore, or by logical replication while it goes on serving. For the cut-over
//! its requests are held (`router/hold.rs`), and the source is fenced in the database itself: its role cannot log in. Only
//! then is the rest copied, compared, the target opened, and the registry switched, which lets the requests go. At any
//! failure before that the target is dropped and the source opened again, in this order: both are never writable.

mod compare;
mod copy;
mod fence;
mod prepare;
mod replicate;
mod run;
mod steps;
mod target;
mod undo;
mod weigh;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

pub use compare::TableChecksum;
pub(super) use replicate::forget_at as forget_subscription;
pub use steps::{Method, Step};

use crate::control::operations::{self, NewOperation, Operation, OperationKind, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::operation::Journal;
use crate::fleet::rotate::in_the_way;
use crate::fleet::{Fleet, OperationOptions, Progress, Silent, StepTime, refused};
use crate::kernel::{OperationId, OperatorId, TenantId};
use crate::router::{MainConn, TenantKind, TenantStatus};
use run::Run;

/// What a move is asked for.
#[derive(Debug, Clone)]
pub struct MoveTenant {
    /// The cluster's name; the least loaded one if absent.
    pub to: Option<String>,
    /// How long requests may be held; past that, nothing has changed.
    pub hold_deadline: Duration,
    /// How the rows get there; by the size of the database if absent.
    pub method: Option<Method>,
}

/// How long requests may be held, if nobody says otherwise.
pub const HOLD_DEADLINE: Duration = Duration::from_secs(30);

impl Default for MoveTenant {
    fn default() -> Self {
        Self { to: None, hold_deadline: HOLD_DEADLINE, method: None }
    }
}

/// What came of a move.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Relocation {
    /// The cluster that it was on.
    pub from: String,
    /// The cluster that it is on.
    pub to: String,
    /// How the rows got there.
    pub method: Method,
    /// How long requests were held, in milliseconds.
    pub pause_ms: u64,
    /// What was compared, the same on both sides.
    pub checksums: Vec<TableChecksum>,
    /// Sequences that were compared.
    pub sequences: usize,
}

/// A tenant at its new place.
#[derive(Debug)]
pub struct Moved {
    /// The tenant.
    pub tenant: TenantRecord,
    /// What came of it.
    pub relocation: Relocation,
    /// What was done.
    pub steps: Vec<StepTime>,
}

impl Fleet {
    /// Moves a tenant to another cluster, or goes on where an interrupted move stopped. If it fails before the switch, what
    /// was done is taken back and the source serves. Asked for again once it is done, it gives what came of it.
    ///
    /// # Errors
    /// 404 if there is no such tenant or cluster; 409 if it cannot be moved there, while another process works on it, or
    /// if it took longer than it may be held; 503 if a server does not answer.
    pub async fn relocate(
        &self,
        id: TenantId,
        wanted: &MoveTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Moved> {
        self.relocate_part(id, wanted, None, options, progress).await
    }

    /// The same, perhaps as a part of a larger operation.
    pub(super) async fn relocate_part(
        &self,
        id: TenantId,
        wanted: &MoveTenant,
        part_of: Option<OperationId>,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Moved> {
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        let open = self.open_move(id).await?;
        if open.is_none()
            && let Some(to) = &wanted.to
            && tenant.cluster.as_ref() == Some(to)
        {
            return self.moved_before(tenant, to).await;
        }
        let operation = self.begin_move(&tenant, open, wanted, part_of).await?;
        self.drive_move(tenant, operation, wanted, options, progress).await
    }

    /// Leaves a move to a worker; one that failed and was not taken back is gone on with.
    ///
    /// # Errors
    /// 404 if there is no such tenant; 409 if it cannot be moved, or while another job works on it.
    pub async fn relocate_later(
        &self,
        id: TenantId,
        wanted: &MoveTenant,
        requested_by: Option<OperatorId>,
    ) -> ApiResult<Operation> {
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        if let Some(to) = &wanted.to {
            self.cluster(to).await?;
        }
        may_move(&tenant)?;
        match self.open_move(id).await? {
            Some(open) if !open.state.is_final() => Err(in_the_way(&open)),
            Some(failed) => {
                same_target(&failed, wanted)?;
                self.control.db.read(async move |conn: &mut MainConn| operations::requeue(conn, failed.id).await).await
            }
            None => self.enqueue(NewOperation { requested_by, ..new_move(&tenant, wanted, None) }).await,
        }
    }

    /// Goes on with a move that was left to a worker.
    pub(super) async fn resume_move(&self, operation: &Operation) -> ApiResult<()> {
        let Some((tenant, _)) = operation.tenant else { return Err(ApiError::internal("a move without its tenant")) };
        let _lock = Lock::tenant(&self.control, tenant).await?;
        let (tenant, operation) = self.still_open(tenant, operation.id).await?;
        let wanted = MoveTenant {
            to: operation.input["to"].as_str().map(str::to_owned),
            hold_deadline: operation.input["holdDeadlineMs"].as_u64().map_or(HOLD_DEADLINE, Duration::from_millis),
            method: operation.input["method"].as_str().and_then(|word| word.parse().ok()),
        };
        self.drive_move(tenant, operation, &wanted, &OperationOptions::default(), &Silent).await.map(drop)
    }

    /// The move of a tenant that has neither been finished nor taken back.
    pub(super) async fn pending_move(&self, id: TenantId) -> ApiResult<Option<Operation>> {
        let filter = operations::OperationFilter {
            kind: Some(OperationKind::Move),
            tenant: Some(id),
            limit: Some(1),
            ..operations::OperationFilter::default()
        };
        let last = self.control.db.read(async move |conn: &mut MainConn| operations::list(conn, &filter).await).await?;
        let ended = |one: &Operation| matches!(one.state, OperationState::Done | OperationState::Undone);
        Ok(last.into_iter().next().filter(|last| !ended(last)))
    }

    /// The same; refused while other work on the tenant is unfinished.
    async fn open_move(&self, id: TenantId) -> ApiResult<Option<Operation>> {
        let pending = self.pending_move(id).await?;
        if pending.is_some() {
            return Ok(pending);
        }
        let open = self.control.db.read(async move |conn: &mut MainConn| operations::find_open(conn, id).await).await?;
        match open.filter(|open| !open.state.is_final()) {
            Some(open) => Err(in_the_way(&open)),
            None => Ok(None),
        }
    }

    async fn begin_move(
        &self,
        tenant: &TenantRecord,
        open: Option<Operation>,
        wanted: &MoveTenant,
        part_of: Option<OperationId>,
    ) -> ApiResult<Operation> {
        may_move(tenant)?;
        let Some(open) = open else {
            let new = new_move(tenant, wanted, part_of);
            return self
                .control
                .db
                .transaction(async move |conn: &mut MainConn| operations::begin(conn, &new).await)
                .await;
        };
        same_target(&open, wanted)?;
        self.control.db.read(async move |conn: &mut MainConn| operations::reopen(conn, open.id).await).await
    }

    async fn drive_move(
        &self,
        tenant: TenantRecord,
        operation: Operation,
        wanted: &MoveTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Moved> {
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let mut run = Run::new(self, tenant, wanted, &journal).await?;
        let driven = journal.drive(&mut run, Step::ALL).await;
        let steps = match driven {
            Ok(steps) => steps,
            Err(error) if run.is_switched() => return Err(error),
            Err(error) => {
                if let Err(left) = self.undo(&run, &journal).await {
                    self.leave_to_worker(&run, &journal).await;
                    progress
                        .note("the move could not be taken back now; `tenant move --abort` does it, or a worker will");
                    tracing::warn!(error = %left, cause = ?left.cause(), "a failed move was not taken back");
                } else {
                    progress.note("the move was taken back: the tenant is served where it was");
                }
                return Err(error);
            }
        };
        let relocation = run.relocation()?;
        tracing::info!(
            tenant = %run.tenant.id, from = relocation.from, to = relocation.to, pause_ms = relocation.pause_ms, "moved"
        );
        Ok(Moved { tenant: self.get(&run.tenant.id.to_string()).await?, relocation, steps })
    }

    /// Where it is to be it is already: by an earlier move, or since ever.
    async fn moved_before(&self, tenant: TenantRecord, to: &str) -> ApiResult<Moved> {
        let filter = operations::OperationFilter {
            kind: Some(OperationKind::Move),
            tenant: Some(tenant.id),
            limit: Some(1),
            ..operations::OperationFilter::default()
        };
        let last = self.control.db.read(async move |conn: &mut MainConn| operations::list(conn, &filter).await).await?;
        let last = last.into_iter().next().and_then(|last| last.result);
        let relocation = last.and_then(|result| serde_json::from_value::<Relocation>(result).ok());
        match relocation.filter(|relocation| relocation.to == to) {
            Some(relocation) => Ok(Moved { tenant, relocation, steps: Vec::new() }),
            None => Err(refused(format!("The tenant is on '{to}' already. Name another cluster."))),
        }
    }
}

fn new_move(tenant: &TenantRecord, wanted: &MoveTenant, part_of: Option<OperationId>) -> NewOperation {
    let mut input = json!({"holdDeadlineMs": u64::try_from(wanted.hold_deadline.as_millis()).unwrap_or(u64::MAX)});
    if let Some(to) = &wanted.to {
        input["to"] = json!(to);
    }
    if let Some(method) = wanted.method {
        input["method"] = json!(method.as_str());
    }
    if let Some(whole) = part_of {
        input["partOf"] = json!(whole.to_string());
    }
    NewOperation::on(tenant.id, &tenant.slug, OperationKind::Move, input)
}

/// A move that was begun is finished where it was to go.
fn same_target(open: &Operation, wanted: &MoveTenant) -> ApiResult<()> {
    match (open.input["to"].as_str(), wanted.to.as_deref()) {
        (Some(begun), Some(to)) if begun != to => Err(refused(format!(
            "A move of this tenant to '{begun}' is under way. Finish it with `--to {begun}`, or take it back with \
             `--abort`."
        ))),
        _ => Ok(()),
    }
}

fn may_move(tenant: &TenantRecord) -> ApiResult<()> {
    if tenant.kind == TenantKind::Dedicated {
        return Err(refused(
            "A dedicated database is where its owner has it; only a tenant on a cluster can be moved.",
        ));
    }
    if tenant.status == TenantStatus::Provisioning {
        return Err(refused("The tenant is still being made. Finish that first: the command that began it goes on."));
    }
    Ok(())
}
