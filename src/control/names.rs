//! What the control plane keeps on its clusters' servers.

use std::collections::HashSet;

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;

use crate::error::ApiResult;
use crate::router::MainConn;

/// The columns that name a database or a role on a cluster, whichever table they are in.
const COLUMNS: &str = "SELECT format('SELECT %1$I::text AS name FROM %2$I.%3$I WHERE %1$I IS NOT NULL', \
    column_name, table_schema, table_name) AS name \
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) \
    WHERE column_name IN ('database_name', 'role_name') AND table_type = 'BASE TABLE' \
    AND table_schema = ANY (current_schemas(false))";

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The names of all databases and roles on clusters that some row knows of: a tenant's, a ready one's, one that is kept
/// for a while. The schema itself is asked where such names stand, so that none is taken for left over.
///
/// # Errors
/// If the control plane does not answer.
pub async fn names_on_servers(conn: &mut MainConn) -> ApiResult<HashSet<String>> {
    let queries: Vec<Row> = diesel::sql_query(COLUMNS).load(conn).await?;
    let query = queries.into_iter().map(|row| row.name).collect::<Vec<_>>().join(" UNION ");
    let names: Vec<Row> = diesel::sql_query(query).load(conn).await?;
    Ok(names.into_iter().map(|row| row.name).collect())
}
