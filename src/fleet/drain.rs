//! `cluster drain`: its tenants to other clusters, a few at a time.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::lock::Lock;
use super::operation::{Journal, Steps};
use super::parts::{FailedPart, each};
use super::relocate::MoveTenant;
use super::{Fleet, OperationOptions, Progress, Silent};
use crate::control::clusters::{self, Cluster, ClusterChanges};
use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind};
use crate::control::tenants::{self, TenantFilter};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{OperatorId, Slug, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

/// Tenants that are moved at the same time.
const AT_ONCE: usize = 2;

words! {
    /// A step's name, as it is journaled and shown.
    Step {
        /// No new tenants.
        Close = "close",
        /// Its tenants to other clusters; each has a journal of its own.
        Move = "move",
    }
}

/// What became of a cluster's tenants.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// Tenants that were moved.
    pub moved: Vec<Slug>,
    /// Those that could not be, with the cause.
    pub failed: Vec<FailedPart>,
}

struct Run<'a> {
    fleet: &'a Fleet,
    cluster: String,
    result: Drained,
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        let fleet = self.fleet;
        if step == Step::Close {
            let changes = ClusterChanges { draining: Some(true), ..ClusterChanges::default() };
            return fleet.set_cluster(&self.cluster, changes).await.map(drop);
        }
        let (name, whole) = (&self.cluster, journal.operation.id);
        let all = fleet.list(TenantFilter::default()).await?;
        let there = all.into_iter().filter(|tenant| tenant.cluster.as_ref() == Some(name));
        let left: Vec<(TenantId, Slug)> = there.map(|tenant| (tenant.id, tenant.slug)).collect();
        let options = OperationOptions::default();
        let parts = each(journal, left, AT_ONCE, |id| {
            let options = &options;
            async move {
                let anywhere = MoveTenant::default();
                fleet.relocate_part(id, &anywhere, Some(whole), options, &Silent).await.map(drop)
            }
        })
        .await?;
        let before = fleet.control.db.read(async move |conn: &mut MainConn| operations::parts_done(conn, whole).await);
        let mut moved = Vec::new();
        for id in before.await? {
            let found = fleet.control.db.read(async move |conn: &mut MainConn| tenants::find(conn, id).await).await?;
            moved.extend(found.map(|tenant| tenant.slug));
        }
        moved.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.result = Drained { moved, failed: parts.failed };
        journal.set_result(&self.result).await
    }
}

impl Fleet {
    /// Keeps new tenants off a cluster and moves its own to others, or goes on with that.
    ///
    /// # Errors
    /// 404 if there is no such cluster; 409 while another process does so. Tenants that could not be moved are no error:
    /// they are listed.
    pub async fn drain(
        &self,
        name: &str,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<(Cluster, Drained)> {
        let operation = self.begin_drain(name, None, false).await?;
        let drained = self.drive_drain(operation, options, progress).await?;
        Ok((self.cluster(name).await?, drained))
    }

    /// Leaves it to a worker.
    ///
    /// # Errors
    /// 404 if there is no such cluster.
    pub async fn drain_later(&self, name: &str, requested_by: Option<OperatorId>) -> ApiResult<Operation> {
        self.begin_drain(name, requested_by, true).await
    }

    /// Goes on with what was left to a worker.
    pub(super) async fn resume_drain(&self, operation: &Operation) -> ApiResult<()> {
        self.drive_drain(operation.clone(), &OperationOptions::default(), &Silent).await.map(drop)
    }

    /// The run that is under way for this cluster, or a new one. For a worker, one whose command may be gone is left to it.
    async fn begin_drain(
        &self,
        name: &str,
        requested_by: Option<OperatorId>,
        background: bool,
    ) -> ApiResult<Operation> {
        let name = name.to_owned();
        let kind = OperationKind::Drain;
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                // Of those who ask at once, one begins it.
                clusters::lock(conn, &name).await?;
                let filter = OperationFilter { kind: Some(kind), ..OperationFilter::default() };
                let all = operations::list(conn, &filter).await?;
                let open = all.into_iter().find(|one| !one.state.is_final() && one.input["cluster"] == *name);
                match open {
                    Some(open) if background && !open.background => {
                        operations::hand_over(conn, open.id).await?;
                        operations::get(conn, open.id).await
                    }
                    Some(open) => Ok(open),
                    None => {
                        let input = json!({"cluster": name});
                        operations::begin(conn, &NewOperation { kind, tenant: None, input, background, requested_by })
                            .await
                    }
                }
            })
            .await
    }

    async fn drive_drain(
        &self,
        operation: Operation,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Drained> {
        let _lock = Lock::operation(&self.control, &operation).await?;
        let cluster = operation.input["cluster"].as_str().map(str::to_owned);
        let cluster = cluster.ok_or_else(|| ApiError::internal("a drain without its cluster"))?;
        let mut run = Run { fleet: self, cluster, result: Drained::default() };
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        journal.drive(&mut run, Step::ALL).await?;
        Ok(run.result)
    }
}
