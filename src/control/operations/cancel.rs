//! Operations that are to stop.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::store::get;
use super::{Operation, OperationState};
use crate::control::schema::operations as o;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::OperationId;
use crate::router::MainConn;

/// Asks that an operation stop at its next safe point; a queued one is cancelled at once.
///
/// # Errors
/// 404 if there is none; 409 if it has ended.
pub async fn request_cancel(conn: &mut MainConn, id: OperationId) -> ApiResult<Operation> {
    let queued = diesel::update(o::table.find(id).filter(o::state.eq(OperationState::Queued.as_str())))
        .set((o::state.eq(OperationState::Cancelled.as_str()), o::finished_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    if queued == 0 {
        let running = diesel::update(o::table.find(id).filter(o::state.eq(OperationState::Running.as_str())))
            .set(o::cancel_requested.eq(true))
            .execute(conn)
            .await?;
        if running == 0 {
            let ended = get(conn, id).await?;
            return Err(
                ApiError::new(Code::Conflict).detail(format!("The job is {}; it cannot be cancelled.", ended.state))
            );
        }
    }
    get(conn, id).await
}

/// Leaves an operation that runs, and that nobody drives, to a worker, with the wish that it stop if there is one.
///
/// # Errors
/// If the control plane does not answer.
pub async fn hand_over(conn: &mut MainConn, id: OperationId) -> ApiResult<()> {
    diesel::update(o::table.find(id).filter(o::state.eq(OperationState::Running.as_str())))
        .set(o::background.eq(true))
        .execute(conn)
        .await?;
    Ok(())
}
