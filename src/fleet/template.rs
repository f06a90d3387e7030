//! A cluster's own template: a database at the head of all migrations, made once for each set of them, cloned for each
//! tenant.

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use super::migrations::Migrations;
use super::{admin, migrate_error, sql};
use crate::control::clusters::Cluster;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{hex, sha256};
use crate::router::AdminConn;
use crate::router::migrate::{MigrateOptions, migrate_all};

/// Key of the advisory lock in the administrative database: "template" in ASCII.
const LOCK_KEY: i64 = 0x7465_6d70_6c61_7465;
/// Owns what a tenant's database holds: whoever owns the database is its only member, so that a clone is its tenant's as it
/// is.
pub(in crate::fleet) const OWNER: &str = "pg_database_owner";
/// Goes up when templates are made otherwise of the same migrations: those of an earlier release are not cloned.
const MADE: u8 = 2;
/// Templates of other migrations that are kept: during a rolling upgrade two versions clone at the same time.
const KEPT: usize = 1;

/// What the template is called that holds the migrations of a hash.
pub(super) fn name(migrations: &str) -> String {
    format!("tenantry_template_{}", hex(&sha256(format!("{MADE} {migrations}").as_bytes())[..6]))
}

/// The name of the template that holds these migrations; makes it if it is not there. `conn` is in the cluster's
/// administrative database.
///
/// # Errors
/// If the server refuses, or a migration fails.
pub(super) async fn ensure(conn: &mut AdminConn, cluster: &Cluster, migrations: &Migrations) -> ApiResult<String> {
    let name = name(&migrations.hash());
    if is_ready(conn, &name).await? {
        return Ok(name);
    }
    statement(conn, &format!("SELECT pg_advisory_lock({LOCK_KEY})")).await?;
    let made = make_if_missing(conn, cluster, migrations, &name).await;
    statement(conn, &format!("SELECT pg_advisory_unlock({LOCK_KEY})")).await?;
    made.map(|()| name)
}

async fn statement(conn: &mut AdminConn, text: &str) -> ApiResult<()> {
    diesel::sql_query(text).execute(conn).await.map(drop).map_err(ApiError::internal)
}

/// Sealed is ready: a crash while it is made leaves it open.
async fn is_ready(conn: &mut AdminConn, name: &str) -> ApiResult<bool> {
    let name = sql::literal(name);
    admin::ask(
        conn,
        &format!("SELECT datistemplate AND NOT datallowconn AS yes FROM pg_database WHERE datname = {name}"),
    )
    .await
}

async fn make_if_missing(
    conn: &mut AdminConn,
    cluster: &Cluster,
    migrations: &Migrations,
    name: &str,
) -> ApiResult<()> {
    if is_ready(conn, name).await? {
        return Ok(());
    }
    drop_template(conn, name).await?;
    build(conn, cluster, migrations, name).await?;
    admin::run_each(conn, sql::TEMPLATE_SEAL, &[("template", name)]).await?;
    tracing::info!(cluster = %cluster.name, template = name, "made the cluster's template");
    let others = format!(
        "SELECT datname::text AS word FROM pg_database \
         WHERE datname ~ '^tenantry_template_[0-9a-f]{{12}}$' AND datname <> {} ORDER BY oid DESC OFFSET {KEPT}",
        sql::literal(name)
    );
    for old in admin::words(conn, &others).await? {
        // Somebody may be cloning it right now; then the next maker drops it.
        if let Err(error) = drop_template(conn, &old).await {
            tracing::info!(template = old, %error, "an old template stays for now");
        }
    }
    Ok(())
}

/// A new database at the head of these migrations. It is open.
pub(super) async fn build(
    conn: &mut AdminConn,
    cluster: &Cluster,
    migrations: &Migrations,
    name: &str,
) -> ApiResult<()> {
    make_empty(conn, cluster, name).await?;
    let target = cluster.admin.with_database(name);
    let options = MigrateOptions { role: Some(OWNER.into()), ..MigrateOptions::default() };
    migrate_all(&target, &[&migrations.built_in, &migrations.operator], &options).await.1.map_err(migrate_error)
}

/// A new database in which [`OWNER`] may make things.
pub(super) async fn make_empty(conn: &mut AdminConn, cluster: &Cluster, name: &str) -> ApiResult<()> {
    let create = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", sql::ident(name));
    conn.batch_execute(&create).await.map_err(ApiError::internal)?;
    admin::run_each(conn, sql::ISOLATE, &[("database", name)]).await?;
    admin::run(&mut admin::open(&cluster.admin.with_database(name)).await?, sql::GRANTS, &[]).await
}

/// Drops a database, whoever is connected to it.
pub(super) async fn drop_database(conn: &mut AdminConn, name: &str) -> ApiResult<()> {
    let drop = sql::fill("DROP DATABASE IF EXISTS :\"database\" WITH (FORCE)", &[("database", name)]);
    conn.batch_execute(&drop).await.map_err(ApiError::internal)
}

async fn drop_template(conn: &mut AdminConn, name: &str) -> ApiResult<()> {
    let exists = format!("SELECT true AS yes FROM pg_database WHERE datname = {}", sql::literal(name));
    if !admin::ask(conn, &exists).await? {
        return Ok(());
    }
    for text in ["ALTER DATABASE :\"template\" IS_TEMPLATE false", "DROP DATABASE :\"template\" WITH (FORCE)"] {
        conn.batch_execute(&sql::fill(text, &[("template", name)])).await.map_err(ApiError::internal)?;
    }
    Ok(())
}
