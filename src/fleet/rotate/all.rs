//! `tenant rotate-credentials --all`: every tenant, a few at a time; by a command, or by a worker.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind, OperationState};
use crate::control::tenants::TenantFilter;
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::parts::{FailedPart, Parts, each};
use crate::fleet::{Fleet, OperationOptions, Progress, Silent, refused};
use crate::kernel::{OperationId, OperatorId, Slug, TenantId};
use crate::router::tenant::words;
use crate::router::{MainConn, TenantStatus};

/// Tenants that are rotated at the same time.
const AT_ONCE: usize = 4;
/// What whoever begins a run has the right to while he does so: of those who ask at once, one begins it.
const BEGINNING: &str = "a rotation of all passwords begins";

words! {
    /// The one step: each tenant has a journal of its own.
    Step {
        /// Every tenant.
        Rotate = "rotate",
    }
}

/// What became of all tenants.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AllRotated {
    /// Tenants with another password, those of an interrupted run included.
    pub rotated: usize,
    /// Those that could not be rotated, with the cause.
    pub failed: Vec<FailedPart>,
}

struct Run<'a> {
    fleet: &'a Fleet,
    result: Option<AllRotated>,
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, _: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        let (fleet, whole) = (self.fleet, journal.operation.id);
        let (all, done) = (fleet.all_made().await?, fleet.rotated_by(whole).await?);
        let left = all.iter().filter(|(id, _)| !done.contains(id)).cloned().collect();
        let options = OperationOptions::default();
        let rotate = |id: TenantId| {
            let options = &options;
            async move { fleet.rotate_part(id, Some(whole), options, &Silent).await.map(drop) }
        };
        let Parts { done: first, mut failed, mut busy } = each(journal, left, AT_ONCE, rotate).await?;
        // Whoever was working on those may have ended by now; a worker, after whoever had begun them was killed, with this.
        let done = fleet.rotated_by(whole).await?;
        busy.retain(|(id, _)| !done.contains(id));
        failed.retain(|part| busy.iter().all(|(_, slug)| *slug != part.slug));
        let again = each(journal, busy, AT_ONCE, rotate).await?;
        failed.extend(again.failed);
        let done = fleet.rotated_by(whole).await?;
        let there: HashSet<TenantId> = fleet.all_made().await?.into_iter().map(|(id, _)| id).collect();
        let mut rotated: HashSet<Slug> = first.into_iter().chain(again.done).collect();
        rotated.extend(all.iter().filter(|(id, _)| done.contains(id)).map(|(_, slug)| slug.clone()));
        // Deleted meanwhile.
        let gone: HashSet<Slug> = all.into_iter().filter(|(id, _)| !there.contains(id)).map(|(_, slug)| slug).collect();
        failed.retain(|part| !rotated.contains(&part.slug) && !gone.contains(&part.slug));
        failed.sort_by(|a, b| a.slug.as_str().cmp(b.slug.as_str()));
        let result = AllRotated { rotated: rotated.len(), failed };
        journal.set_result(&result).await?;
        self.result = Some(result);
        Ok(())
    }
}

impl Fleet {
    /// Gives every tenant's role another password, or goes on with an interrupted run.
    ///
    /// # Errors
    /// 409 while another process does so; 503 if the control plane does not answer. Tenants that could not be rotated are
    /// no error: they are listed.
    pub async fn rotate_all(&self, options: &OperationOptions, progress: &dyn Progress) -> ApiResult<AllRotated> {
        let operation = self.begin_all(None, false).await?;
        let _lock = Lock::operation(&self.control, &operation).await?;
        self.drive_all(operation, options, progress).await
    }

    /// As [`Fleet::rotate_all`], left to a worker.
    ///
    /// # Errors
    /// 409 while somebody else begins it.
    pub async fn rotate_all_later(&self, requested_by: Option<OperatorId>) -> ApiResult<Operation> {
        self.begin_all(requested_by, true).await
    }

    /// Goes on with what was left to a worker.
    pub(super) async fn resume_all(&self, operation: &Operation) -> ApiResult<()> {
        let _lock = Lock::operation(&self.control, operation).await?;
        self.drive_all(operation.clone(), &OperationOptions::default(), &Silent).await.map(drop)
    }

    /// Every tenant whose making has ended.
    async fn all_made(&self) -> ApiResult<Vec<(TenantId, Slug)>> {
        let all = self.list(TenantFilter::default()).await?.into_iter();
        let made = all.filter(|tenant| tenant.status != TenantStatus::Provisioning);
        Ok(made.map(|tenant| (tenant.id, tenant.slug)).collect())
    }

    /// Those that a run has rotated so far, whoever drove it.
    async fn rotated_by(&self, whole: OperationId) -> ApiResult<HashSet<TenantId>> {
        let db = &self.control.db;
        let done = db.read(async move |conn: &mut MainConn| operations::parts_done(conn, whole).await).await?;
        Ok(done.into_iter().collect())
    }

    /// The run that is under way, or a new one. For a worker, one whose command may be gone is left to it.
    async fn begin_all(&self, requested_by: Option<OperatorId>, background: bool) -> ApiResult<Operation> {
        let kind = OperationKind::RotateCredentials;
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                if lock::free_until_commit(conn, &[BEGINNING.to_owned()]).await? != [true] {
                    return Err(refused("Somebody else begins it at this moment; ask again."));
                }
                let mut open = None;
                for state in [OperationState::Queued, OperationState::Running] {
                    let filter = OperationFilter { kind: Some(kind), state: Some(state), ..OperationFilter::default() };
                    let found = operations::list(conn, &filter).await?;
                    open = open.or_else(|| found.into_iter().find(|one| one.tenant.is_none()));
                }
                match open {
                    Some(open) if open.cancel_requested => {
                        Err(refused("The run under way is being cancelled. Ask again once it has ended."))
                    }
                    Some(open) if background && !open.background => {
                        operations::hand_over(conn, open.id).await?;
                        operations::get(conn, open.id).await
                    }
                    Some(open) => Ok(open),
                    None => {
                        let input = json!({});
                        operations::begin(conn, &NewOperation { kind, tenant: None, input, background, requested_by })
                            .await
                    }
                }
            })
            .await
    }

    async fn drive_all(
        &self,
        operation: Operation,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<AllRotated> {
        let mut run = Run { fleet: self, result: None };
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        journal.drive(&mut run, Step::ALL).await?;
        // One that was killed after its step has only to be ended.
        let before = journal.operation.result.take().and_then(|result| serde_json::from_value(result).ok());
        run.result.or(before).ok_or_else(|| ApiError::internal("a run without its result"))
    }
}
