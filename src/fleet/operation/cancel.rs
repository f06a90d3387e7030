//! Operations that somebody wants to stop.

use crate::control::operations::{self, Operation, OperationKind, OperationState};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::lock::Lock;
use crate::kernel::OperationId;
use crate::router::MainConn;

impl Fleet {
    /// Asks an operation to stop: whoever drives it does so at its next safe point. One of a command that was interrupted
    /// has nobody who would, and ends here, or is left to a worker where something is to be taken back.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it has ended.
    pub async fn cancel(&self, id: OperationId) -> ApiResult<Operation> {
        let db = &self.control.db;
        let asked = db.read(async move |conn: &mut MainConn| operations::request_cancel(conn, id).await).await?;
        if !waits_for_its_command(&asked) {
            return Ok(asked);
        }
        if self.stop_undriven(&asked).await? {
            let parts = db.read(async move |conn: &mut MainConn| {
                operations::cancel_parts(conn, id).await?;
                operations::open_parts(conn, id).await
            });
            for part in parts.await?.iter().filter(|part| waits_for_its_command(part)) {
                self.stop_undriven(part).await?;
            }
        }
        db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await
    }

    /// False if somebody drives it.
    async fn stop_undriven(&self, operation: &Operation) -> ApiResult<bool> {
        let Some(lock) = Lock::of_undriven(&self.locks, &self.control, operation).await? else { return Ok(false) };
        let id = operation.id;
        let stop = async move |conn: &mut MainConn| {
            let now = operations::get(conn, id).await?;
            if !waits_for_its_command(&now) {
                return Ok::<_, ApiError>(());
            }
            if may_hold_something(&now) {
                return operations::hand_over(conn, id).await;
            }
            operations::finish(conn, id, OperationState::Cancelled, Some("The job was cancelled.")).await
        };
        let stopped = self.control.db.transaction(stop).await;
        // Whatever is asked for next finds the tenant free.
        lock.release().await;
        stopped.map(|()| true)
    }
}

/// Whether no worker takes it: the command that began it drives it, or was interrupted.
fn waits_for_its_command(operation: &Operation) -> bool {
    operation.state == OperationState::Running && !operation.background
}

/// Whether a tenant may be held, fenced or closed by it, a server may know another password than the registry, or its end is
/// written down elsewhere too: whoever drives it next finds that it is to stop, takes back what is to be, and finishes what
/// cannot be left half done.
fn may_hold_something(operation: &Operation) -> bool {
    match operation.kind {
        OperationKind::Move | OperationKind::Restore | OperationKind::Migrate => true,
        // Of all tenants, its parts are asked one by one.
        OperationKind::RotateCredentials => operation.tenant.is_some(),
        _ => false,
    }
}
