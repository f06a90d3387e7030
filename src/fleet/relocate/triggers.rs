//! Triggers of the tenant's on tables that are emptied or loaded: neither is to be noticed. Their owner alone says so; what an
//! administrator could say (`session_replication_role`) leaves those out that are to run always. And what the owner of a table
//! may not do with it, having taken the right from itself: it gives it back to itself meanwhile.

use super::run::Run;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{admin, sql};
use crate::router::AdminConn;

/// The statements after which no trigger runs on these tables.
fn none(tables: &[String]) -> Vec<String> {
    tables.iter().map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER")).collect()
}

/// The statements after which each is as it is now.
async fn as_they_are(conn: &mut AdminConn, tables: &[String]) -> ApiResult<Vec<String>> {
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

/// What the owners of tables may not do that empties or loads them, as `TRUNCATE ON TABLE …`.
async fn withheld(conn: &mut AdminConn, tables: &[String]) -> ApiResult<Vec<String>> {
    let listed: Vec<_> = tables.iter().map(|table| format!("{}::regclass", sql::literal(table))).collect();
    let query = format!(
        "SELECT format('%s ON TABLE %I.%I', may.what, n.nspname, c.relname) AS word FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace, (VALUES ('INSERT'), ('TRUNCATE')) AS may (what) \
         WHERE c.oid IN ({}) AND NOT has_table_privilege(c.relowner, c.oid, may.what)",
        listed.join(", ")
    );
    admin::words(conn, &query).await
}

/// The statements before and after tables are emptied or loaded by their owner, by what is so at this side.
pub(super) async fn around(conn: &mut AdminConn, tables: &[String]) -> ApiResult<(Vec<String>, Vec<String>)> {
    let withheld = withheld(conn, tables).await?;
    let mut before = none(tables);
    before.extend(withheld.iter().map(|what| format!("GRANT {what} TO CURRENT_USER")));
    let mut after = as_they_are(conn, tables).await?;
    after.extend(withheld.iter().map(|what| format!("REVOKE {what} FROM CURRENT_USER")));
    Ok((before, after))
}

/// Empties tables at the target as the tenant's own role, and nothing takes notice of it.
pub(super) async fn truncate(run: &Run<'_>, tables: &[String]) -> ApiResult<()> {
    use diesel_async::SimpleAsyncConnection as _;
    let (mut statements, after) = around(&mut admin::open(&run.at_target()?).await?, tables).await?;
    statements.push(format!("TRUNCATE {}", tables.join(", ")));
    statements.extend(after);
    let quietly = format!("BEGIN; {}; COMMIT", statements.join("; "));
    run.loading(async {
        let mut own = admin::open_own(&run.loader()?).await?;
        own.batch_execute(&quietly).await.map_err(ApiError::internal)
    })
    .await
}
