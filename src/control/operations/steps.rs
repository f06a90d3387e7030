//! The steps of an operation.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::control::schema::operation_steps as s;
use crate::error::ApiResult;
use crate::kernel::OperationId;
use crate::router::MainConn;

/// A step of an operation.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = s)]
pub struct Step {
    /// Its place in the list.
    pub position: i32,
    /// Its name.
    pub name: String,
    /// `running` or `done`.
    pub state: String,
    /// When it was (last) begun.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds.
    pub ms: Option<i64>,
    /// What it found out that a later one needs.
    pub output: Option<serde_json::Value>,
}

impl Step {
    /// Whether it need not be done again.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == "done"
    }
}

/// Notes that a step begins (again).
///
/// # Errors
/// If the control plane does not answer.
pub async fn step_started(conn: &mut MainConn, id: OperationId, position: i32, name: &str) -> ApiResult<()> {
    diesel::insert_into(s::table)
        .values((s::operation_id.eq(id), s::position.eq(position), s::name.eq(name), s::state.eq("running")))
        .on_conflict((s::operation_id, s::position))
        .do_update()
        .set((s::name.eq(name), s::state.eq("running"), s::started_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that a step is done, how long it took in milliseconds, and what it found out.
///
/// # Errors
/// If the control plane does not answer.
pub async fn step_done(
    conn: &mut MainConn,
    id: OperationId,
    position: i32,
    name: &str,
    ms: i64,
    output: Option<&serde_json::Value>,
) -> ApiResult<()> {
    let done = (
        s::name.eq(name),
        s::state.eq("done"),
        s::finished_at.eq(diesel::dsl::now),
        s::ms.eq(ms),
        s::output.eq(output),
    );
    diesel::insert_into(s::table)
        .values((s::operation_id.eq(id), s::position.eq(position), done))
        .on_conflict((s::operation_id, s::position))
        .do_update()
        .set(done)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes steps that were done in one go: the place, the name, and the milliseconds of each.
///
/// # Errors
/// If the control plane does not answer.
pub async fn steps_done(conn: &mut MainConn, id: OperationId, done: &[(i32, String, i64)]) -> ApiResult<()> {
    let rows: Vec<_> = done
        .iter()
        .map(|(position, name, ms)| {
            let done = (s::state.eq("done"), s::finished_at.eq(diesel::dsl::now), s::ms.eq(ms));
            (s::operation_id.eq(id), s::position.eq(position), s::name.eq(name), done)
        })
        .collect();
    diesel::insert_into(s::table).values(rows).execute(conn).await?;
    Ok(())
}

/// The steps of an operation, in their order.
///
/// # Errors
/// If the control plane does not answer.
pub async fn steps(conn: &mut MainConn, id: OperationId) -> ApiResult<Vec<Step>> {
    Ok(s::table.filter(s::operation_id.eq(id)).order(s::position).select(Step::as_select()).load(conn).await?)
}
