//! Moves that are left to workers.

use std::time::Duration;

use super::begin::{may_move, new_move, same_target};
use super::{HOLD_DEADLINE, MoveTenant};
use crate::control::operations::{self, NewOperation, Operation};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::rotate::in_the_way;
use crate::fleet::{Fleet, OperationOptions, Silent};
use crate::kernel::{OperatorId, TenantId};
use crate::router::MainConn;

impl Fleet {
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
    pub(in crate::fleet) async fn resume_move(&self, operation: &Operation) -> ApiResult<()> {
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
}
