//! Databases of tenants that serve nobody any more: what a move or a restore leaves behind, kept on record until its time
//! is over.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::{clusters as c, kept_databases as k, tenants as t};
use crate::error::ApiResult;
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

/// The most that are listed or dropped at a time.
const MOST: i64 = 1000;

words! {
    /// What left a database behind.
    LeftBy {
        /// A move to another cluster: its role is fenced, and goes with it.
        Move = "move",
        /// A restore in place: the tenant lives beside it.
        Restore = "restore",
    }
}

/// A database that is kept.
#[derive(Debug, Clone)]
pub struct KeptDatabase {
    /// Identity.
    pub id: Uuid,
    /// Whose it was; the tenant may be gone.
    pub tenant_id: TenantId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// Its name.
    pub database_name: String,
    /// The role that owns it, cannot log in, and goes with it.
    pub role_name: Option<String>,
    /// What left it behind.
    pub left_by: LeftBy,
    /// Since when it serves nobody.
    pub kept_since: DateTime<Utc>,
    /// When it may be dropped.
    pub purge_after: DateTime<Utc>,
}

/// One of them, with the names that people know.
#[derive(Debug, Clone)]
pub struct ListedKept {
    /// The database.
    pub kept: KeptDatabase,
    /// The tenant's slug; nothing if it is gone.
    pub slug: Option<String>,
    /// The cluster's name.
    pub cluster: String,
}

type Row = (Uuid, TenantId, ClusterId, String, Option<String>, String, DateTime<Utc>, DateTime<Utc>);

impl Queryable<k::SqlType, Pg> for KeptDatabase {
    type Row = Row;

    fn build(row: Row) -> diesel::deserialize::Result<Self> {
        let (id, tenant_id, cluster_id, database_name, role_name, left_by, kept_since, purge_after) = row;
        let left_by = left_by.parse()?;
        Ok(Self { id, tenant_id, cluster_id, database_name, role_name, left_by, kept_since, purge_after })
    }
}

/// Keeps a database on record, to be dropped after `purge_after`; its role with it, if one is named.
///
/// # Errors
/// If the control plane does not answer.
pub async fn keep(
    conn: &mut MainConn,
    (tenant, cluster): (TenantId, ClusterId),
    (database, role): (&str, Option<&str>),
    left_by: LeftBy,
    purge_after: DateTime<Utc>,
) -> ApiResult<()> {
    diesel::insert_into(k::table)
        .values((
            k::id.eq(Uuid::now_v7()),
            k::tenant_id.eq(tenant),
            k::cluster_id.eq(cluster),
            k::database_name.eq(database),
            k::role_name.eq(role),
            k::left_by.eq(left_by.as_str()),
            k::purge_after.eq(purge_after),
        ))
        .on_conflict((k::cluster_id, k::database_name))
        .do_update()
        .set((
            k::role_name.eq(excluded(k::role_name)),
            k::left_by.eq(excluded(k::left_by)),
            k::purge_after.eq(excluded(k::purge_after)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// A tenant's, the latest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn of_tenant(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Vec<KeptDatabase>> {
    Ok(k::table.filter(k::tenant_id.eq(tenant)).order(k::id.desc()).load(conn).await?)
}

/// Those whose time was over at a moment.
///
/// # Errors
/// If the control plane does not answer.
pub async fn due(conn: &mut MainConn, at: DateTime<Utc>) -> ApiResult<Vec<KeptDatabase>> {
    Ok(k::table.filter(k::purge_after.le(at)).order(k::purge_after).limit(MOST).load(conn).await?)
}

/// All of them, or one tenant's, in the order in which they go; at most a thousand.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn, tenant: Option<TenantId>) -> ApiResult<Vec<ListedKept>> {
    let mut query = k::table
        .inner_join(c::table.on(c::id.eq(k::cluster_id)))
        .left_join(t::table.on(t::id.eq(k::tenant_id)))
        .select((k::all_columns, t::slug.nullable(), c::name))
        .order((k::purge_after, k::id))
        .limit(MOST)
        .into_boxed();
    if let Some(tenant) = tenant {
        query = query.filter(k::tenant_id.eq(tenant));
    }
    let rows: Vec<(KeptDatabase, Option<String>, String)> = query.load(conn).await?;
    Ok(rows.into_iter().map(|(kept, slug, cluster)| ListedKept { kept, slug, cluster }).collect())
}

/// A role goes with this one from here on.
///
/// # Errors
/// If the control plane does not answer.
pub async fn leave_role(conn: &mut MainConn, id: Uuid, role: &str) -> ApiResult<()> {
    diesel::update(k::table.find(id)).set(k::role_name.eq(role)).execute(conn).await?;
    Ok(())
}

/// One is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget(conn: &mut MainConn, id: Uuid) -> ApiResult<()> {
    diesel::delete(k::table.find(id)).execute(conn).await?;
    Ok(())
}

/// A tenant lives in a database from here on: it is not kept for anybody else.
///
/// # Errors
/// If the control plane does not answer.
pub async fn lived_in(conn: &mut MainConn, cluster: ClusterId, database: &str) -> ApiResult<()> {
    let there = k::table.filter(k::cluster_id.eq(cluster)).filter(k::database_name.eq(database));
    diesel::delete(there).execute(conn).await?;
    Ok(())
}
