//! The log of registry changes that nodes follow. Triggers write it; here it is kept short.

use diesel_async::RunQueryDsl;

use crate::error::ApiResult;
use crate::router::MainConn;

/// Forgets changes older than an hour; a node that was away for longer reads its tenants anew.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn) -> ApiResult<()> {
    diesel::sql_query(
        "WITH gone AS (DELETE FROM registry_log WHERE at < now() - interval '1 hour' RETURNING generation) \
         UPDATE registry_head SET floor = greatest(floor, (SELECT max(generation) FROM gone)) \
         WHERE EXISTS (SELECT FROM gone)",
    )
    .execute(conn)
    .await?;
    Ok(())
}
