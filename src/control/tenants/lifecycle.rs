//! From `provisioning` to `active`, and on to `suspended` and `archived`.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::store::{Row, TenantRecord, find, get, records, written};
use crate::control::migration_runs::Head;
use crate::control::schema::tenants as t;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::router::{MainConn, TenantStatus};

/// Explains an update that found no row in the expected state.
async fn refused(conn: &mut MainConn, id: TenantId, wanted: &str) -> ApiError {
    match find(conn, id).await {
        Ok(Some(tenant)) => ApiError::new(Code::Conflict).detail(format!("The tenant is {}; {wanted}.", tenant.status)),
        Ok(None) => ApiError::not_found("tenant"),
        Err(error) => error,
    }
}

/// Changes the status, if it is now one of `from`. To archive, use [`archive`].
///
/// # Errors
/// 404 if there is none; 409 if its status is another.
pub async fn set_status(
    conn: &mut MainConn,
    id: TenantId,
    from: &[TenantStatus],
    to: TenantStatus,
) -> ApiResult<TenantRecord> {
    let from: Vec<_> = from.iter().map(|status| status.as_str()).collect();
    let changed = diesel::update(t::table.find(id).filter(t::status.eq_any(&from)))
        .set(t::status.eq(to.as_str()))
        .execute(conn)
        .await?;
    if changed == 0 {
        return Err(refused(conn, id, &format!("to become {to} it must be {}", from.join(" or "))).await);
    }
    get(conn, id).await
}

/// Makes a tenant that was being made routable, from the moment this commits, with these migrations. Connections that
/// its maker opened to another schema are retired.
///
/// # Errors
/// 404 if there is none; 409 if it is suspended or archived.
pub async fn activate(conn: &mut MainConn, id: TenantId, head: &Head) -> ApiResult<TenantRecord> {
    let from = [TenantStatus::Provisioning.as_str(), TenantStatus::Active.as_str()];
    let is_new = sql::<BigInt>("CASE WHEN migrations_hash IS NOT DISTINCT FROM ")
        .bind::<Text, _>(&head.hash)
        .sql(" THEN 0 ELSE 1 END");
    let changed = diesel::update(t::table.find(id).filter(t::status.eq_any(from)))
        .set((
            t::status.eq(TenantStatus::Active.as_str()),
            t::schema_version.eq(head.schema_version),
            t::operator_version.eq(head.operator_version),
            t::migrations_hash.eq(&head.hash),
            t::epoch.eq(t::epoch + is_new),
        ))
        .returning(written())
        .get_result::<Row>(conn)
        .await
        .optional()?;
    match changed {
        Some(row) => row.try_into(),
        None => Err(refused(conn, id, "only one that is being made becomes active this way").await),
    }
}

/// Takes a tenant from its users; its database is kept until `purge_after`.
///
/// # Errors
/// 404 if there is none; 409 if it is neither active nor suspended; 412 if it is no longer at `expected_version`.
pub async fn archive(
    conn: &mut MainConn,
    id: TenantId,
    expected_version: Option<i64>,
    purge_after: DateTime<Utc>,
) -> ApiResult<TenantRecord> {
    let mut row = diesel::update(t::table.find(id).filter(t::status.eq_any(["active", "suspended"]))).into_boxed();
    if let Some(version) = expected_version {
        row = row.filter(t::version.eq(version));
    }
    let changed = row
        .set((
            t::status.eq(TenantStatus::Archived.as_str()),
            t::archived_at.eq(diesel::dsl::now),
            t::purge_after.eq(purge_after),
        ))
        .execute(conn)
        .await?;
    if changed == 0 {
        if let (Some(version), Some(now)) = (expected_version, find(conn, id).await?)
            && now.version != version
        {
            return Err(ApiError::new(Code::VersionMismatch));
        }
        return Err(refused(conn, id, "only an active or suspended one can be archived").await);
    }
    get(conn, id).await
}

/// Gives an archived tenant back to its users.
///
/// # Errors
/// 404 if there is none; 409 if it is not archived.
pub async fn restore(conn: &mut MainConn, id: TenantId) -> ApiResult<TenantRecord> {
    let changed = diesel::update(t::table.find(id).filter(t::status.eq(TenantStatus::Archived.as_str())))
        .set((
            t::status.eq(TenantStatus::Active.as_str()),
            t::archived_at.eq(None::<DateTime<Utc>>),
            t::purge_after.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    if changed == 0 {
        return Err(refused(conn, id, "only an archived one can be restored").await);
    }
    get(conn, id).await
}

/// Archived tenants whose grace period has ended, the longest ended first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn due_for_purge(conn: &mut MainConn, now: DateTime<Utc>) -> ApiResult<Vec<TenantRecord>> {
    let due = records()
        .filter(t::status.eq(TenantStatus::Archived.as_str()))
        .filter(t::purge_after.le(now))
        .order(t::purge_after)
        .load::<Row>(conn)
        .await?;
    due.into_iter().map(TryInto::try_into).collect()
}

/// Notes that the built-in schema is now at `version`. The epoch grows: every node retires the tenant's connections,
/// because prepared plans and type ids do not survive DDL. Whether the database has every migration of this moment is
/// not known by this: see [`crate::control::migration_runs::at_head`].
///
/// # Errors
/// 404 if there is none.
pub async fn schema_migrated(conn: &mut MainConn, id: TenantId, version: i32) -> ApiResult<TenantRecord> {
    diesel::sql_query(
        "UPDATE tenants SET schema_version = $2, migrations_hash = NULL, epoch = epoch + 1 WHERE id = $1",
    )
    .bind::<diesel::sql_types::Uuid, _>(id)
    .bind::<diesel::sql_types::Integer, _>(version)
    .execute(conn)
    .await?;
    get(conn, id).await
}
