//! One operation of many parts: each part is an operation of its own, whose input names the whole.

use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Operation, store};
use crate::error::ApiResult;
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

#[derive(diesel::QueryableByName)]
struct Part {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: TenantId,
}

#[derive(diesel::QueryableByName)]
struct Open {
    #[diesel(sql_type = SqlUuid)]
    id: OperationId,
}

/// Asks the parts of an operation that are under way to stop at their next safe point.
///
/// # Errors
/// If the control plane does not answer.
pub async fn cancel_parts(conn: &mut MainConn, whole: OperationId) -> ApiResult<()> {
    let cancel = "UPDATE operations SET cancel_requested = true WHERE input ? 'partOf' AND input ->> 'partOf' = $1 \
                  AND state = 'running' AND NOT cancel_requested";
    diesel::sql_query(cancel).bind::<Text, _>(whole.to_string()).execute(conn).await?;
    Ok(())
}

/// The parts of an operation that have not ended.
///
/// # Errors
/// If the control plane does not answer.
pub async fn open_parts(conn: &mut MainConn, whole: OperationId) -> ApiResult<Vec<Operation>> {
    let open = "SELECT id FROM operations WHERE input ? 'partOf' AND input ->> 'partOf' = $1 \
                AND state IN ('queued', 'running')";
    let rows: Vec<Open> = diesel::sql_query(open).bind::<Text, _>(whole.to_string()).load(conn).await?;
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.extend(store::find(conn, row.id).await?);
    }
    Ok(parts)
}

/// The tenants whose part of an operation is done.
///
/// # Errors
/// If the control plane does not answer.
pub async fn parts_done(conn: &mut MainConn, whole: OperationId) -> ApiResult<Vec<TenantId>> {
    let done = "SELECT tenant_id FROM operations WHERE input ? 'partOf' AND input ->> 'partOf' = $1 \
                AND state = 'done' AND tenant_id IS NOT NULL";
    let rows: Vec<Part> = diesel::sql_query(done).bind::<Text, _>(whole.to_string()).load(conn).await?;
    Ok(rows.into_iter().map(|part| part.tenant_id).collect())
}
