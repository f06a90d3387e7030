//! What a look at a cluster's server found.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::control::schema::cluster_facts as f;
use crate::error::ApiResult;
use crate::kernel::ClusterId;
use crate::router::MainConn;

/// A server, as it was when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = f)]
pub struct Facts {
    /// PostgreSQL's version: `15.8`.
    pub server_version: String,
    /// Extensions that can be installed there, by name.
    pub extensions: Vec<String>,
    /// The most connections that ordinary roles may have open.
    pub max_connections: i32,
    /// Connections that were open, whosesoever.
    pub connections: i32,
    /// Size of its databases in bytes, as far as the administrator may ask for it.
    pub bytes: i64,
    /// When this was so.
    pub probed_at: DateTime<Utc>,
    /// When its databases were measured, which is done less often.
    pub bytes_at: DateTime<Utc>,
}

/// Keeps what a look has found.
///
/// # Errors
/// If the control plane does not answer.
pub async fn keep(conn: &mut MainConn, id: ClusterId, facts: &Facts) -> ApiResult<()> {
    diesel::insert_into(f::table)
        .values((f::cluster_id.eq(id), facts))
        .on_conflict(f::cluster_id)
        .do_update()
        .set(facts)
        .execute(conn)
        .await?;
    Ok(())
}

/// Clusters that nobody has looked at since `since`.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unseen(conn: &mut MainConn, since: DateTime<Utc>) -> ApiResult<Vec<ClusterId>> {
    use crate::control::schema::clusters as c;
    let seen = f::table.filter(f::cluster_id.eq(c::id)).filter(f::probed_at.gt(since));
    Ok(c::table.filter(diesel::dsl::not(diesel::dsl::exists(seen))).select(c::id).load(conn).await?)
}
