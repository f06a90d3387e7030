//! What the nodes see while a run is on.

use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::Head;
use crate::error::ApiResult;
use crate::kernel::OperationId;
use crate::router::MainConn;

/// Has the nodes watch a run, for so many seconds; said again and again while it is on.
///
/// # Errors
/// If the control plane does not answer.
pub async fn watch(conn: &mut MainConn, run: OperationId, head: &Head, seconds: i32) -> ApiResult<()> {
    diesel::sql_query(
        "WITH told AS (UPDATE registry_head SET watch_run = $1, watch_hash = $2, \
         watch_until = now() + $3 * interval '1 second' RETURNING generation) \
         SELECT pg_notify('tenantry_registry', generation::text) FROM told",
    )
    .bind::<SqlUuid, _>(run)
    .bind::<Text, _>(&head.hash)
    .bind::<Integer, _>(seconds)
    .execute(conn)
    .await?;
    Ok(())
}

/// The nodes need not watch a run any more.
///
/// # Errors
/// If the control plane does not answer.
pub async fn end_watch(conn: &mut MainConn, run: OperationId) -> ApiResult<()> {
    diesel::sql_query(
        "UPDATE registry_head SET watch_run = NULL, watch_hash = NULL, watch_until = NULL WHERE watch_run = $1",
    )
    .bind::<SqlUuid, _>(run)
    .execute(conn)
    .await?;
    Ok(())
}

/// What one node has seen since a run began.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Seen {
    /// Of tenants that have the run's migrations; else of the rest.
    #[diesel(sql_type = Bool)]
    pub migrated: bool,
    /// Requests.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Those that were answered with 5xx.
    #[diesel(sql_type = BigInt)]
    pub errors: i64,
    /// Requests by how long they took: see [`crate::router::rollout`].
    #[diesel(sql_type = Array<BigInt>)]
    pub buckets: Vec<i64>,
    /// How many milliseconds ago the node said so.
    #[diesel(sql_type = BigInt)]
    pub age_ms: i64,
    /// When that was, in microseconds.
    #[diesel(sql_type = BigInt)]
    pub at_us: i64,
}

/// What the nodes have seen of a run, one row for each node and side.
///
/// # Errors
/// If the control plane does not answer.
pub async fn seen(conn: &mut MainConn, run: OperationId) -> ApiResult<Vec<Seen>> {
    let query = diesel::sql_query(
        "SELECT migrated, requests, errors, buckets, (extract(epoch FROM clock_timestamp() - at) * 1000)::bigint AS age_ms, \
         (extract(epoch FROM at) * 1000000)::bigint AS at_us \
         FROM migration_health WHERE run_id = $1",
    );
    Ok(query.bind::<SqlUuid, _>(run).load(conn).await?)
}

#[derive(diesel::QueryableByName)]
struct Nodes {
    #[diesel(sql_type = BigInt)]
    nodes: i64,
}

/// How many nodes serve.
///
/// # Errors
/// If the control plane does not answer.
pub async fn nodes(conn: &mut MainConn) -> ApiResult<i64> {
    let row: Nodes = diesel::sql_query("SELECT count(*) AS nodes FROM budget_nodes WHERE expires_at > now()")
        .get_result(conn)
        .await?;
    Ok(row.nodes)
}
