//! Triggers of the tenant's on tables that are emptied or loaded: neither is to be noticed. Their owner alone says so; what an
//! administrator could say (`session_replication_role`) leaves those out that are to run always.

use super::run::Run;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{admin, sql};
use crate::router::AdminConn;

/// The statements after which no trigger runs on these tables.
pub(super) fn none(tables: &[String]) -> Vec<String> {
    tables.iter().map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER")).collect()
}

/// The statements after which each is as it is now.
pub(super) async fn as_they_are(conn: &mut AdminConn, tables: &[String]) -> ApiResult<Vec<String>> {
    let listed: Vec<_> = tables.iter().map(|table| format!("{}::regclass", sql::literal(table))).collect();
    let query = format!(
        "SELECT format('ALTER TABLE %I.%I %s TRIGGER %I', n.nspname, c.relname, CASE g.tgenabled WHEN 'O' THEN 'ENABLE' \
         WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'DISABLE' END, g.tgname) AS word \
         FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT g.tgisinternal AND g.tgrelid IN ({})",
        listed.join(", ")
    );
    admin::words(conn, &query).await
}

/// Empties tables at the target as the tenant's own role, and nothing takes notice of it.
pub(super) async fn truncate(run: &Run<'_>, tables: &[String]) -> ApiResult<()> {
    use diesel_async::SimpleAsyncConnection as _;
    let as_they_were = as_they_are(&mut admin::open(&run.at_target()?).await?, tables).await?;
    let mut statements = none(tables);
    statements.push(format!("TRUNCATE {}", tables.join(", ")));
    statements.extend(as_they_were);
    let quietly = format!("BEGIN; {}; COMMIT", statements.join("; "));
    run.loading(async {
        let mut own = admin::open_own(&run.loader()?).await?;
        own.batch_execute(&quietly).await.map_err(ApiError::internal)
    })
    .await
}
