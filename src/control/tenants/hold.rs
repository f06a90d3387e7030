//! Tenants whose requests wait while somebody works on their database.

use std::time::Duration;

use diesel::OptionalExtension as _;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// A hold begins, or begins anew for another while. By one operation at a time; one that has run out gives way.
const HOLD: &str = "\
INSERT INTO tenant_holds AS h (tenant_id, operation_id, held_until) \
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond') \
ON CONFLICT (tenant_id) DO UPDATE SET operation_id = excluded.operation_id, held_until = excluded.held_until, \
    held_since = CASE WHEN h.operation_id = excluded.operation_id AND h.held_until > clock_timestamp() \
                      THEN h.held_since ELSE clock_timestamp() END \
WHERE h.operation_id = excluded.operation_id OR h.held_until < clock_timestamp()";

#[derive(diesel::QueryableByName)]
struct Times {
    #[diesel(sql_type = BigInt)]
    since_ms: i64,
    #[diesel(sql_type = BigInt)]
    left_ms: i64,
}

/// How long a tenant has been held, and for how much longer.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// Since its requests wait.
    pub since: Duration,
    /// Until they do so no more; nothing once it has run out.
    pub left: Duration,
}

#[derive(diesel::QueryableByName)]
struct Expired {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = SqlUuid)]
    operation_id: OperationId,
}

/// Has a tenant's requests wait, on every node, for at most so long from now.
///
/// # Errors
/// 409 while another operation holds it.
pub async fn hold(conn: &mut MainConn, id: TenantId, by: OperationId, lasting: Duration) -> ApiResult<()> {
    let ms = i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX);
    let held = diesel::sql_query(HOLD)
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(by)
        .bind::<BigInt, _>(ms)
        .execute(conn)
        .await?;
    if held == 1 {
        Ok(())
    } else {
        Err(ApiError::new(Code::Conflict).detail("Another job holds this tenant; wait for it to end."))
    }
}

/// The hold of an operation on a tenant, if there is one. In a transaction, nobody changes it before that ends.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_hold(conn: &mut MainConn, id: TenantId, by: OperationId) -> ApiResult<Option<Hold>> {
    let query = "SELECT (extract(epoch FROM clock_timestamp() - held_since) * 1000)::bigint AS since_ms, \
                 (extract(epoch FROM held_until - clock_timestamp()) * 1000)::bigint AS left_ms \
                 FROM tenant_holds WHERE tenant_id = $1 AND operation_id = $2 FOR UPDATE";
    let times: Option<Times> =
        diesel::sql_query(query).bind::<SqlUuid, _>(id).bind::<SqlUuid, _>(by).get_result(conn).await.optional()?;
    let span = |ms: i64| Duration::from_millis(ms.try_into().unwrap_or_default());
    Ok(times.map(|times| Hold { since: span(times.since_ms), left: span(times.left_ms) }))
}

/// Lets a tenant's requests through again, wherever its database is now.
///
/// # Errors
/// If the control plane does not answer.
pub async fn release(conn: &mut MainConn, id: TenantId, by: OperationId) -> ApiResult<()> {
    diesel::sql_query("DELETE FROM tenant_holds WHERE tenant_id = $1 AND operation_id = $2")
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(by)
        .execute(conn)
        .await?;
    Ok(())
}

/// Holds that have run out, with what held: whoever should have lifted them is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn expired_holds(conn: &mut MainConn) -> ApiResult<Vec<(TenantId, OperationId)>> {
    // Of each cluster some: those of one that does not answer stay, and hide no others.
    let query = "SELECT h.tenant_id, h.operation_id FROM tenant_holds h LEFT JOIN tenants t ON t.id = h.tenant_id \
                 WHERE h.held_until < clock_timestamp() \
                 ORDER BY row_number() OVER (PARTITION BY t.cluster_id ORDER BY h.held_until) LIMIT 100";
    let rows: Vec<Expired> = diesel::sql_query(query).load(conn).await?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.operation_id)).collect())
}
