//! The nodes that share the clusters' connection budgets. They keep their rows themselves: `router/slices/`.

use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use crate::error::ApiResult;
use crate::router::MainConn;

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many nodes have been heard of lately.
///
/// # Errors
/// If the control plane does not answer.
pub async fn live_nodes(conn: &mut MainConn) -> ApiResult<i64> {
    let nodes = diesel::sql_query("SELECT count(*) FROM budget_nodes WHERE expires_at > now()");
    Ok(nodes.get_result::<Count>(conn).await?.count)
}
