//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;

use super::{Backup, BackupState};
use crate::control::schema::{backups as b, operations as o, tenants as t};
use crate::control::word;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{BackupId, Slug, TenantId};
use crate::router::{MainConn, TenantStatus};

#[derive(Queryable, Selectable)]
#[diesel(table_name = b)]
struct Row {
    id: BackupId,
    tenant_id: TenantId,
    slug: String,
    state: String,
    scheduled: bool,
    bytes: Option<i64>,
    rows: Option<i64>,
    schema_version: i32,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Backup {
    type Error = ApiError;

    fn try_from(row: Row) -> ApiResult<Self> {
        Ok(Self {
            id: row.id,
            tenant_id: row.tenant_id,
            slug: row.slug.parse().map_err(|e: crate::kernel::slug::SlugError| ApiError::internal(e))?,
            state: word(&row.state)?,
            scheduled: row.scheduled,
            bytes: row.bytes,
            rows: row.rows,
            schema_version: row.schema_version,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

/// Notes a backup that is being made. One that is noted already stays as it is.
///
/// # Errors
/// If the control plane does not answer.
pub async fn begin(conn: &mut MainConn, new: &Backup) -> ApiResult<()> {
    diesel::insert_into(b::table)
        .values((
            b::id.eq(new.id),
            b::tenant_id.eq(new.tenant_id),
            b::slug.eq(new.slug.to_string()),
            b::scheduled.eq(new.scheduled),
            b::schema_version.eq(new.schema_version),
            b::created_at.eq(new.created_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The backup is whole, and as its manifest says: it can be restored from here on.
///
/// # Errors
/// 404 if it was taken away meanwhile.
pub async fn finish(
    conn: &mut MainConn,
    id: BackupId,
    (bytes, rows, schema_version): (i64, i64, i32),
    at: DateTime<Utc>,
) -> ApiResult<Backup> {
    diesel::update(b::table.find(id).filter(b::state.ne(BackupState::Removing.as_str())))
        .set((
            b::state.eq(BackupState::Done.as_str()),
            b::bytes.eq(bytes),
            b::rows.eq(rows),
            b::schema_version.eq(schema_version),
            b::finished_at.eq(at),
        ))
        .execute(conn)
        .await?;
    get(conn, id).await
}

/// A backup, in whatever state.
///
/// # Errors
/// 404 if there is none.
pub async fn get(conn: &mut MainConn, id: BackupId) -> ApiResult<Backup> {
    let row = b::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("backup"))?.try_into()
}

/// Backups of a tenant that can be restored, and those being made, the latest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Vec<Backup>> {
    let rows = b::table.filter(b::tenant_id.eq(tenant)).order(b::created_at.desc()).select(Row::as_select());
    rows.load(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// Backups of a tenant by their ids: as [`list`], a page of them, before (`after`) or beyond (`before`) one.
///
/// # Errors
/// If the control plane does not answer.
pub async fn page(
    conn: &mut MainConn,
    tenant: TenantId,
    limit: i64,
    after: Option<BackupId>,
    before: Option<BackupId>,
) -> ApiResult<Vec<Backup>> {
    let mut query = b::table.filter(b::tenant_id.eq(tenant)).limit(limit).select(Row::as_select()).into_boxed();
    query = match before {
        Some(before) => query.filter(b::id.gt(before)).order(b::id.asc()),
        None => query.order(b::id.desc()),
    };
    if let Some(after) = after {
        query = query.filter(b::id.lt(after));
    }
    query.load(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// How many backups of a tenant there are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn, tenant: TenantId) -> ApiResult<i64> {
    Ok(b::table.filter(b::tenant_id.eq(tenant)).count().get_result(conn).await?)
}

/// The tenant that last had this slug when it was backed up: for one that is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn last_of_slug(conn: &mut MainConn, slug: &Slug) -> ApiResult<Option<TenantId>> {
    let rows = b::table.filter(b::slug.eq(slug.to_string())).order(b::created_at.desc()).select(b::tenant_id);
    Ok(rows.first(conn).await.optional()?)
}

/// A backup goes: from here on it cannot be restored.
///
/// # Errors
/// If the control plane does not answer.
pub async fn removing(conn: &mut MainConn, id: BackupId) -> ApiResult<()> {
    diesel::update(b::table.find(id)).set(b::state.eq(BackupState::Removing.as_str())).execute(conn).await?;
    Ok(())
}

/// A backup is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn remove(conn: &mut MainConn, id: BackupId) -> ApiResult<()> {
    diesel::delete(b::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Nothing is in the way of a tenant's backup: neither an open operation, nor a move that is to be ended first.
const FREE: &str = "NOT EXISTS (SELECT FROM operations open \
        WHERE open.tenant_id = tenants.id AND open.state IN ('queued', 'running')) \
    AND coalesce((SELECT last.state IN ('done', 'undone') \
            OR last.state = 'cancelled' AND NOT EXISTS (SELECT FROM operation_steps s WHERE s.operation_id = last.id) \
        FROM operations last \
        WHERE last.tenant_id = tenants.id AND last.kind = 'move' ORDER BY last.id DESC LIMIT 1), true)";

/// When a tenant was last backed up, or it was tried: those of whom it fails wait for their turn as others do.
const LAST_TURN: &str = "greatest( \
    (SELECT max(made.created_at) FROM backups made WHERE made.tenant_id = tenants.id), \
    (SELECT max(tried.started_at) FROM operations tried \
        WHERE tried.tenant_id = tenants.id AND tried.kind = 'backup')) NULLS FIRST";

/// Active tenants without a backup (scheduled or not) since `since` and with nothing in the way of one, the longest
/// without a turn first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn due(conn: &mut MainConn, since: DateTime<Utc>, limit: i64) -> ApiResult<Vec<TenantId>> {
    let recent = b::table.filter(b::tenant_id.eq(t::id)).filter(b::created_at.gt(since));
    let tenants = t::table
        .filter(t::status.eq(TenantStatus::Active.as_str()))
        .filter(t::created_at.le(since))
        .filter(diesel::dsl::not(diesel::dsl::exists(recent)))
        .filter(diesel::dsl::sql::<Bool>(FREE))
        .order(diesel::dsl::sql::<Nullable<Timestamptz>>(LAST_TURN))
        .then_order_by(t::created_at)
        .limit(limit)
        .select(t::id);
    Ok(tenants.load(conn).await?)
}

/// Backups that nobody makes any more: their job ended without them, or was begun before `before` by a command of which
/// nobody knows whether it still runs (its lock does).
///
/// # Errors
/// If the control plane does not answer.
pub async fn abandoned(conn: &mut MainConn, before: DateTime<Utc>, limit: i64) -> ApiResult<Vec<Backup>> {
    let driven = o::finished_at.is_null().and(o::background.or(o::started_at.ge(before)));
    let fresh = o::table.filter(o::id.eq(b::id)).filter(driven.or(o::finished_at.ge(before).assume_not_null()));
    let rows = b::table
        .filter(b::state.eq(BackupState::Running.as_str()))
        .filter(diesel::dsl::not(diesel::dsl::exists(fresh)))
        .order(b::created_at)
        .limit(limit)
        .select(Row::as_select());
    rows.load(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// Backups made by themselves before `before`, but for the newest whole one of each tenant; and those on their way out.
///
/// # Errors
/// If the control plane does not answer.
pub async fn outdated(conn: &mut MainConn, before: DateTime<Utc>, limit: i64) -> ApiResult<Vec<Backup>> {
    let newer = diesel::alias!(b as newer);
    let has_newer = newer
        .filter(newer.field(b::tenant_id).eq(b::tenant_id))
        .filter(newer.field(b::state).eq(BackupState::Done.as_str()))
        .filter(newer.field(b::created_at).gt(b::created_at));
    let rows = b::table
        .filter(
            b::state
                .eq(BackupState::Removing.as_str())
                .or(b::scheduled.and(b::created_at.lt(before)).and(diesel::dsl::exists(has_newer))),
        )
        .order(b::created_at)
        .limit(limit)
        .select(Row::as_select());
    rows.load(conn).await?.into_iter().map(TryInto::try_into).collect()
}
