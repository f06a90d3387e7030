//! A tenant into another database of its cluster.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::control::kept::{self, LeftBy};
use crate::control::migration_runs::Head;
use crate::control::schema::tenants as t;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;

/// A shared tenant lives in another database of its cluster from here on, which has the migrations of `head`; the one
/// before is kept until `purge_after`. Every node retires the tenant's connections. Running it twice is running it once.
///
/// # Errors
/// 404 if there is no such shared tenant.
pub async fn move_database(
    conn: &mut MainConn,
    tenant: TenantId,
    to: &str,
    head: &Head,
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
    kept::keep(conn, (tenant, cluster), (&from, None), LeftBy::Restore, purge_after).await?;
    kept::lived_in(conn, cluster, to).await?;
    diesel::update(t::table.find(tenant))
        .set((
            t::database_name.eq(to),
            t::schema_version.eq(head.schema_version),
            t::operator_version.eq(head.operator_version),
            t::migrations_hash.eq(&head.hash),
            t::epoch.eq(t::epoch + 1),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
