//! Where a tenant's database is, changed in one transaction; and the copies that it leaves behind.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::hold::{find_hold, release};
use crate::control::schema::{clusters as c, tenant_copies as p, tenants as t};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{ClusterId, OperationId, TenantId};
use crate::router::MainConn;

/// A database that serves nobody: a tenant's, from before it moved away.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = p)]
pub struct TenantCopy {
    /// Identity: the move's that left it.
    pub id: Uuid,
    /// Whose it was.
    pub tenant_id: TenantId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// The database.
    pub database_name: String,
    /// The role that owns it, and cannot log in.
    pub role_name: String,
    /// Since when it serves nobody.
    pub left_at: DateTime<Utc>,
    /// When it may be dropped.
    pub purge_after: DateTime<Utc>,
}

/// A tenant's place changes, from one cluster to another.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// The tenant.
    pub tenant: TenantId,
    /// Who holds it.
    pub by: OperationId,
    /// Where it is.
    pub from: ClusterId,
    /// Where it is to be.
    pub to: ClusterId,
    /// How long the old copy is kept.
    pub grace: Duration,
}

/// The tenant is at its new place, and let go: from the moment this commits, and only if whoever holds it still does. The
/// old copy is kept on record. Gives how long it was held. To be called in a transaction.
///
/// # Errors
/// 409 if the hold has run out, or the cluster is full by now.
pub async fn switch(conn: &mut MainConn, switch: &Switch, now: DateTime<Utc>) -> ApiResult<Duration> {
    let refused = |said: &'static str| ApiError::new(Code::Conflict).detail(said);
    let held = find_hold(conn, switch.tenant, switch.by).await?.filter(|hold| !hold.left.is_zero());
    let held = held.ok_or_else(|| refused("The hold on the tenant has run out, so it stays where it was."))?;
    let room: Option<i32> = c::table.find(switch.to).select(c::max_tenants).for_update().first(conn).await?;
    let there: i64 = t::table.filter(t::cluster_id.eq(switch.to)).count().get_result(conn).await?;
    if room.is_some_and(|room| there >= i64::from(room)) {
        return Err(refused("The cluster has no room for another tenant any more."));
    }
    let moving = t::table.find(switch.tenant).filter(t::cluster_id.eq(switch.from));
    let (database, role): (String, String) = diesel::update(moving)
        .set((t::cluster_id.eq(switch.to), t::epoch.eq(t::epoch + 1)))
        .returning((t::database_name, t::role_name))
        .get_result(conn)
        .await
        .optional()?
        .ok_or_else(|| refused("The tenant is not where it was."))?;
    let grace = TimeDelta::from_std(switch.grace).map_err(ApiError::internal)?;
    keep_copy(conn, (switch.by, switch.tenant), switch.from, (&database, &role), now + grace).await?;
    release(conn, switch.tenant, switch.by).await?;
    Ok(held.since)
}

/// Keeps a copy on record, to be dropped after `purge_after`.
///
/// # Errors
/// If the control plane does not answer.
pub async fn keep_copy(
    conn: &mut MainConn,
    (by, tenant): (OperationId, TenantId),
    cluster: ClusterId,
    (database, role): (&str, &str),
    purge_after: DateTime<Utc>,
) -> ApiResult<()> {
    diesel::insert_into(p::table)
        .values((
            p::id.eq(by.uuid()),
            p::tenant_id.eq(tenant),
            p::cluster_id.eq(cluster),
            p::database_name.eq(database),
            p::role_name.eq(role),
            p::purge_after.eq(purge_after),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The copies of a tenant that serve nobody, the latest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn copies(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Vec<TenantCopy>> {
    let copies = p::table.filter(p::tenant_id.eq(tenant)).order(p::left_at.desc());
    Ok(copies.select(TenantCopy::as_select()).load(conn).await?)
}

/// Copies whose grace period has ended.
///
/// # Errors
/// If the control plane does not answer.
pub async fn copies_due(conn: &mut MainConn, now: DateTime<Utc>) -> ApiResult<Vec<TenantCopy>> {
    let due = p::table.filter(p::purge_after.le(now)).order(p::purge_after).limit(100);
    Ok(due.select(TenantCopy::as_select()).load(conn).await?)
}

/// Forgets a copy that is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget_copy(conn: &mut MainConn, id: Uuid) -> ApiResult<()> {
    diesel::delete(p::table.find(id)).execute(conn).await?;
    Ok(())
}
