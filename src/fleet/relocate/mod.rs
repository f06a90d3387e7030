//! A tenant to another cluster, in named steps.
//!
//! Its database is copied there, by dump and restore, or by logical replication while it goes on serving. For the cut-over
//! its requests are held (`router/hold.rs`), and the source is fenced in the database itself: its role cannot log in. Only
//! then is the rest copied, compared, the target opened, and the registry switched, which lets the requests go. At any
//! failure before that the target is dropped and the source opened again, in this order: both are never writable.

mod abandoned;
mod begin;
mod code;
mod compare;
mod copy;
mod fence;
mod later;
mod prepare;
mod replicate;
mod request;
mod run;
mod steps;
mod target;
mod triggers;
mod undo;
mod weigh;

pub(super) use abandoned::Abandoned;
pub use compare::TableChecksum;
pub(super) use replicate::{forget_at as forget_subscription, name as slot_name};
pub use request::{HOLD_DEADLINE, LONGEST_HOLD, MoveTenant, Moved, Relocation};
pub use steps::{Method, Step};

use crate::control::operations::{self, Operation, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::error::ApiResult;
use crate::fleet::lock::Lock;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, refused};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;
use run::Run;

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

    pub(super) async fn drive_move(
        &self,
        tenant: TenantRecord,
        operation: Operation,
        wanted: &MoveTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Moved> {
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let mut run = Run::new(self, tenant, wanted, &journal).await?;
        let steps = match Box::pin(journal.drive(&mut run, Step::ALL)).await {
            Ok(steps) => steps,
            Err(error) if run.is_switched() || operations::is_taken_over(&error) => return Err(error),
            Err(error) => {
                let Some(switched) = self.after_failure(&run, &journal).await? else { return Err(error) };
                journal = Journal::open(&self.control, switched, progress, options.halt.clone()).await?;
                run = Run::new(self, run.tenant.clone(), wanted, &journal).await?;
                Box::pin(journal.drive(&mut run, Step::ALL)).await?
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
