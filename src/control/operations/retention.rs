//! What has ended is kept for a while; what was left behind is found.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Operation, OperationKind, store};
use crate::error::ApiResult;
use crate::kernel::OperationId;
use crate::router::MainConn;

/// What goes, and what stays though it ended long ago: the certificate of an erasure, the latest run over the fleet, a
/// living tenant's latest operation and what its next command looks back to because it was not done, what marks a canary as
/// one, a part of what is not done, what other rows name, and an export of which the storage may have something.
const TRIM: &str = "DELETE FROM operations WHERE id IN (SELECT o.id FROM operations o \
    WHERE o.finished_at < $1 AND o.kind <> 'erase' \
    AND NOT (o.kind = 'migrate' AND NOT EXISTS ( \
        SELECT FROM operations newer WHERE newer.kind = 'migrate' AND newer.id > o.id)) \
    AND NOT (o.state IN ('failed', 'cancelled') AND EXISTS (SELECT FROM tenants t WHERE t.id = o.tenant_id) \
        AND NOT EXISTS (SELECT FROM operations newer \
            WHERE newer.tenant_id = o.tenant_id AND newer.kind = o.kind AND newer.id > o.id)) \
    AND NOT (EXISTS (SELECT FROM tenants t WHERE t.id = o.tenant_id) \
        AND NOT EXISTS (SELECT FROM operations newer WHERE newer.tenant_id = o.tenant_id \
            AND (newer.started_at, newer.id) > (o.started_at, o.id))) \
    AND NOT (o.input ->> 'canary' IS NOT DISTINCT FROM 'true' AND EXISTS (SELECT FROM tenants t WHERE t.id = o.tenant_id)) \
    AND NOT EXISTS (SELECT FROM operations whole \
        WHERE whole.finished_at IS NULL AND whole.id::text = o.input ->> 'partOf') \
    AND NOT EXISTS (SELECT FROM tenant_holds h WHERE h.operation_id = o.id) \
    AND NOT EXISTS (SELECT FROM kept_databases k WHERE k.id = o.id) \
    AND NOT EXISTS (SELECT FROM backups b WHERE b.id = o.id AND b.state = 'running') \
    AND NOT (o.kind = 'export' AND NOT o.input ? 'to' AND NOT EXISTS (SELECT FROM operation_steps gone \
        WHERE gone.operation_id = o.id AND gone.name = 'removed' AND gone.state = 'done')) \
    ORDER BY o.finished_at LIMIT $2)";

/// Ended otherwise than done, or left by the command that drove it; a step was begun, and another one, which clears up
/// after it, is not done.
const LEFT_BEHIND: &str = "SELECT o.id FROM operations o WHERE o.kind = $1 \
    AND (o.state = 'undone' OR coalesce(o.finished_at, o.started_at) < $4) AND o.state <> 'done' \
    AND (o.finished_at IS NOT NULL OR NOT o.background) \
    AND EXISTS (SELECT FROM operation_steps s WHERE s.operation_id = o.id AND s.name = $2) \
    AND NOT EXISTS (SELECT FROM operation_steps s \
        WHERE s.operation_id = o.id AND s.name = $3 AND s.state = 'done') ORDER BY o.id LIMIT $5";

/// A living tenant's last move, if it has neither ended nor come to its switch, has begun a step, and holds nothing.
/// What is left to workers they go on with by themselves.
const UNHELD: &str = "SELECT o.id FROM operations o JOIN tenants t ON t.id = o.tenant_id \
    WHERE o.kind = 'move' AND o.state NOT IN ('done', 'undone') AND o.result IS NULL \
    AND (o.finished_at IS NOT NULL OR NOT o.background) \
    AND EXISTS (SELECT FROM operation_steps s WHERE s.operation_id = o.id AND s.name = $1) \
    AND NOT EXISTS (SELECT FROM tenant_holds h WHERE h.operation_id = o.id) \
    AND NOT EXISTS (SELECT FROM operations newer \
        WHERE newer.tenant_id = o.tenant_id AND newer.kind = 'move' AND newer.id > o.id) ORDER BY o.id LIMIT $2";
/// How many of them one look takes in.
const MOST_UNHELD: i64 = 1000;

const FORGET: &str = "DELETE FROM operation_steps WHERE operation_id = $1 AND position >= ( \
    SELECT position FROM operation_steps WHERE operation_id = $1 AND name = $2)";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    id: OperationId,
}

/// Forgets operations that ended before `before`, with their steps, at most `limit` of them; gives how many went.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn, before: DateTime<Utc>, limit: i64) -> ApiResult<usize> {
    Ok(diesel::sql_query(TRIM).bind::<Timestamptz, _>(before).bind::<BigInt, _>(limit).execute(conn).await?)
}

/// A step that leaves something behind, and the one that clears it up.
#[derive(Debug, Clone, Copy)]
pub struct Litter {
    /// Of which operations.
    pub kind: OperationKind,
    /// The step that leaves it.
    pub leaves: &'static str,
    /// The step that takes it away.
    pub clears: &'static str,
}

/// Operations that were given up with something left behind: taken back at any time, ended otherwise before `before`, or
/// begun before it by a command of which nobody knows whether it still runs (its lock does).
///
/// # Errors
/// If the control plane does not answer.
pub async fn left_behind(
    conn: &mut MainConn,
    litter: Litter,
    before: DateTime<Utc>,
    limit: i64,
) -> ApiResult<Vec<Operation>> {
    let found: Vec<Found> = diesel::sql_query(LEFT_BEHIND)
        .bind::<Text, _>(litter.kind.as_str())
        .bind::<Text, _>(litter.leaves)
        .bind::<Text, _>(litter.clears)
        .bind::<Timestamptz, _>(before)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?;
    as_they_are(conn, found).await
}

/// Moves that have begun a step, stopped before their switch, and hold no tenant; whether somebody drives them, their
/// tenants' locks say.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unheld_moves(conn: &mut MainConn, begun: &str) -> ApiResult<Vec<Operation>> {
    let query = diesel::sql_query(UNHELD).bind::<Text, _>(begun).bind::<BigInt, _>(MOST_UNHELD);
    let found: Vec<Found> = query.load(conn).await?;
    as_they_are(conn, found).await
}

async fn as_they_are(conn: &mut MainConn, found: Vec<Found>) -> ApiResult<Vec<Operation>> {
    let mut operations = Vec::with_capacity(found.len());
    for one in found {
        operations.extend(store::find(conn, one.id).await?);
    }
    Ok(operations)
}

/// What a step left is no longer to be used: whoever goes on with the operation does it again.
///
/// # Errors
/// If the control plane does not answer.
pub async fn step_undone(conn: &mut MainConn, id: OperationId, name: &str) -> ApiResult<()> {
    let undone = "UPDATE operation_steps SET state = 'running', output = NULL WHERE operation_id = $1 AND name = $2";
    diesel::sql_query(undone).bind::<SqlUuid, _>(id).bind::<Text, _>(name).execute(conn).await?;
    Ok(())
}

/// A step and those after it were not done: whoever goes on with the operation does them again.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget_steps(conn: &mut MainConn, id: OperationId, from: &str) -> ApiResult<()> {
    diesel::sql_query(FORGET).bind::<SqlUuid, _>(id).bind::<Text, _>(from).execute(conn).await?;
    Ok(())
}
