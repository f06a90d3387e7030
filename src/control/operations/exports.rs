//! Exports that are in the storage, for a while: their jobs are what knows of them. What the command line exports is in a
//! directory, which its input names (`to`).

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Operation, steps, store};
use crate::control::schema::operations as o;
use crate::error::ApiResult;
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// The step that says that nothing of one is in the storage any more; after those of the job itself.
const REMOVED: (i32, &str) = (2, "removed");

/// Nothing says yet that the storage has nothing of it.
macro_rules! held {
    () => {
        "operations.kind = 'export' AND NOT operations.input ? 'to' AND NOT EXISTS (SELECT FROM operation_steps gone \
         WHERE gone.operation_id = operations.id AND gone.name = 'removed' AND gone.state = 'done')"
    };
}

const HELD: &str = concat!("(", held!(), ")");

/// Its time is over, or it ended otherwise than done, and whoever drove it is gone by now.
const OVER: &str = concat!(
    "SELECT id FROM operations WHERE ",
    held!(),
    " AND CASE WHEN state = 'done' THEN (result ->> 'expiresAt')::timestamptz <= $1 ELSE finished_at < $2 END ",
    "ORDER BY id LIMIT $3"
);

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    id: OperationId,
}

/// Exports in the storage whose time is over at `now`, and what is left of those that ended otherwise than done before
/// `before`; at most `limit`.
///
/// # Errors
/// If the control plane does not answer.
pub async fn exports_over(
    conn: &mut MainConn,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    limit: i64,
) -> ApiResult<Vec<Operation>> {
    let query = diesel::sql_query(OVER).bind::<Timestamptz, _>(now).bind::<Timestamptz, _>(before);
    let found: Vec<Found> = query.bind::<BigInt, _>(limit).load(conn).await?;
    let mut over = Vec::with_capacity(found.len());
    for one in found {
        over.extend(store::find(conn, one.id).await?);
    }
    Ok(over)
}

/// Nothing of an export is in the storage any more.
///
/// # Errors
/// If the control plane does not answer.
pub async fn export_removed(conn: &mut MainConn, id: OperationId) -> ApiResult<()> {
    let (position, name) = REMOVED;
    steps::step_done(conn, id, position, name, 0, None).await
}

/// Whether the storage may have an export of a tenant.
///
/// # Errors
/// If the control plane does not answer.
pub async fn has_exports(conn: &mut MainConn, tenant: TenantId) -> ApiResult<bool> {
    let held = o::table.filter(o::tenant_id.eq(tenant)).filter(diesel::dsl::sql::<Bool>(HELD)).count();
    let held: i64 = held.get_result(conn).await?;
    Ok(held > 0)
}
