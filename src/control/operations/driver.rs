//! Who drives an operation: whoever opened its journal last. The lock of what it works on can be lost without its holder
//! hearing of it; a driver whom another has followed finds the other's token in the operation, and stops.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::store::OPEN;
use super::{Operation, OperationState};
use crate::control::schema::operations as o;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::OperationId;
use crate::router::MainConn;

/// What a driver is told whom another has followed.
const TAKEN_OVER: &str = "Another process has taken this job over; this one does nothing more.";

/// The one who drives an operation.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    operation: OperationId,
    token: Uuid,
}

impl Driver {
    /// What no other driver has: a name for what this one alone makes.
    #[must_use]
    pub const fn token(self) -> Uuid {
        self.token
    }
}

fn taken_over() -> ApiError {
    ApiError::new(Code::Conflict).detail(TAKEN_OVER)
}

/// Whether an error says that another process drives the operation.
#[must_use]
pub fn is_taken_over(error: &ApiError) -> bool {
    error.client_detail() == TAKEN_OVER
}

/// Begins to drive an operation, as the caller has read it: whoever drove it until now finds that he does not any more.
///
/// # Errors
/// 409 if another process has begun to since it was read.
pub async fn drive(conn: &mut MainConn, operation: &Operation) -> ApiResult<Driver> {
    let token = Uuid::now_v7();
    let as_read = o::table.find(operation.id).filter(o::driver.is_not_distinct_from(operation.driver));
    let taken = diesel::update(as_read).set(o::driver.eq(Some(token))).execute(conn).await?;
    if taken == 1 { Ok(Driver { operation: operation.id, token }) } else { Err(taken_over()) }
}

/// In a transaction: nobody else drives the operation until its end.
///
/// # Errors
/// 409 if another process drives it already.
pub async fn is_driven(conn: &mut MainConn, by: Driver) -> ApiResult<()> {
    let ours = o::table.find(by.operation).filter(o::driver.eq(Some(by.token)));
    let found = ours.select(o::id).for_no_key_update().first::<OperationId>(conn).await.optional()?;
    found.map(drop).ok_or_else(taken_over)
}

/// A queued operation runs from here on. False if it is not to be run any more.
///
/// # Errors
/// 409 if another process drives it.
pub async fn start(conn: &mut MainConn, by: Driver) -> ApiResult<bool> {
    let ours = o::table.find(by.operation).filter(o::driver.eq(Some(by.token)));
    let changed = diesel::update(ours.filter(o::state.eq_any(OPEN)))
        .set(o::state.eq(OperationState::Running.as_str()))
        .execute(conn)
        .await?;
    if changed == 0 {
        is_driven(conn, by).await?;
    }
    Ok(changed == 1)
}

/// Notes how far an operation has come, and answers whether it shall stop.
///
/// # Errors
/// 409 if another process drives it.
pub async fn report(conn: &mut MainConn, by: Driver, (done, total): (i64, i64)) -> ApiResult<bool> {
    let ours = o::table.find(by.operation).filter(o::driver.eq(Some(by.token)));
    diesel::update(ours)
        .set((o::progress_done.eq(done), o::progress_total.eq(total)))
        .returning(o::cancel_requested)
        .get_result(conn)
        .await
        .optional()?
        .ok_or_else(taken_over)
}

/// Ends an operation.
///
/// # Errors
/// 409 if another process drives it.
pub async fn finish_driven(
    conn: &mut MainConn,
    by: Driver,
    state: OperationState,
    error: Option<&str>,
) -> ApiResult<()> {
    let ours = o::table.find(by.operation).filter(o::driver.eq(Some(by.token)));
    let ended = diesel::update(ours)
        .set((o::state.eq(state.as_str()), o::error.eq(error), o::finished_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    if ended == 1 { Ok(()) } else { Err(taken_over()) }
}

/// Keeps what came of an operation.
///
/// # Errors
/// 409 if another process drives it.
pub async fn set_driven_result(conn: &mut MainConn, by: Driver, result: &serde_json::Value) -> ApiResult<()> {
    let ours = o::table.find(by.operation).filter(o::driver.eq(Some(by.token)));
    let kept = diesel::update(ours).set(o::result.eq(result)).execute(conn).await?;
    if kept == 1 { Ok(()) } else { Err(taken_over()) }
}
