//! Where a tenant's database is, changed in one transaction.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::hold::{find_hold, release};
use crate::control::kept::{self, LeftBy};
use crate::control::schema::{clusters as c, tenants as t};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{ClusterId, OperationId, TenantId};
use crate::router::MainConn;

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
    // Not against whoever names the cluster by a foreign key: who makes a tenant there holds what is to be changed next.
    let room: Option<i32> = c::table.find(switch.to).select(c::max_tenants).for_no_key_update().first(conn).await?;
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
    kept::lived_in(conn, switch.to, &database).await?;
    let (whose, left) = ((switch.tenant, switch.from), (&*database, Some(&*role)));
    kept::keep(conn, whose, left, LeftBy::Move, now + grace).await?;
    release(conn, switch.tenant, switch.by).await?;
    Ok(held.since)
}
