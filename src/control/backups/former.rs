//! Databases that tenants lived in before.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::control::schema::{former_databases as f, tenants as t};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;

/// A database that a tenant lived in before.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = f)]
pub struct FormerDatabase {
    /// Identity.
    pub id: Uuid,
    /// Whose it was; the tenant may be gone.
    pub tenant_id: TenantId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// Its name.
    pub database_name: String,
    /// When it goes.
    pub purge_after: DateTime<Utc>,
}

/// A shared tenant lives in another database of its cluster from here on; the one before is kept until `purge_after`.
/// Every node retires the tenant's connections. Running it twice is running it once.
///
/// # Errors
/// 404 if there is no such shared tenant.
pub async fn move_database(
    conn: &mut MainConn,
    tenant: TenantId,
    to: &str,
    schema_version: i32,
    purge_after: DateTime<Utc>,
) -> ApiResult<()> {
    let found = t::table
        .find(tenant)
        .filter(t::cluster_id.is_not_null())
        .select((t::cluster_id.assume_not_null(), t::database_name))
        .for_update()
        .first::<(ClusterId, String)>(conn)
        .await
        .optional()?;
    let (cluster, from) = found.ok_or_else(|| ApiError::not_found("tenant"))?;
    if from == to {
        return Ok(());
    }
    note_former(conn, tenant, cluster, &from, purge_after).await?;
    diesel::delete(f::table.filter(f::cluster_id.eq(cluster)).filter(f::database_name.eq(to))).execute(conn).await?;
    diesel::update(t::table.find(tenant))
        .set((t::database_name.eq(to), t::schema_version.eq(schema_version), t::epoch.eq(t::epoch + 1)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes a database that nobody lives in: it goes at `purge_after`, unless a tenant moves in.
///
/// # Errors
/// If the control plane does not answer.
pub async fn note_former(
    conn: &mut MainConn,
    tenant: TenantId,
    cluster: ClusterId,
    name: &str,
    purge_after: DateTime<Utc>,
) -> ApiResult<()> {
    diesel::insert_into(f::table)
        .values((
            f::id.eq(Uuid::now_v7()),
            f::tenant_id.eq(tenant),
            f::cluster_id.eq(cluster),
            f::database_name.eq(name),
            f::purge_after.eq(purge_after),
        ))
        .on_conflict((f::cluster_id, f::database_name))
        .do_update()
        .set(f::purge_after.eq(purge_after))
        .execute(conn)
        .await?;
    Ok(())
}

/// A tenant's former databases.
///
/// # Errors
/// If the control plane does not answer.
pub async fn former_of(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Vec<FormerDatabase>> {
    let rows = f::table.filter(f::tenant_id.eq(tenant)).order(f::id).select(FormerDatabase::as_select());
    Ok(rows.load(conn).await?)
}

/// Former databases whose time has come.
///
/// # Errors
/// If the control plane does not answer.
pub async fn due_former(conn: &mut MainConn, now: DateTime<Utc>) -> ApiResult<Vec<FormerDatabase>> {
    let rows = f::table.filter(f::purge_after.le(now)).order(f::purge_after).select(FormerDatabase::as_select());
    Ok(rows.load(conn).await?)
}

/// A former database is dropped.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget_former(conn: &mut MainConn, id: Uuid) -> ApiResult<()> {
    diesel::delete(f::table.find(id)).execute(conn).await?;
    Ok(())
}
