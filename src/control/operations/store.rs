//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::steps::steps;
use super::{Operation, OperationKind, OperationState};
use crate::control::schema::operations as o;
use crate::control::word;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperationId, OperatorId, Slug, TenantId, request};
use crate::router::MainConn;

pub(super) const OPEN: [&str; 2] = [OperationState::Queued.as_str(), OperationState::Running.as_str()];

#[derive(Queryable, Selectable)]
#[diesel(table_name = o)]
pub(super) struct Row {
    id: OperationId,
    tenant_id: Option<TenantId>,
    slug: Option<String>,
    kind: String,
    state: String,
    background: bool,
    input: serde_json::Value,
    result: Option<serde_json::Value>,
    error: Option<String>,
    progress_done: Option<i64>,
    progress_total: Option<i64>,
    cancel_requested: bool,
    requested_by: Option<OperatorId>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    driver: Option<Uuid>,
    request_id: Option<String>,
}

impl TryFrom<Row> for Operation {
    type Error = ApiError;

    fn try_from(row: Row) -> ApiResult<Self> {
        let tenant = match row.tenant_id.zip(row.slug) {
            Some((id, slug)) => {
                Some((id, slug.parse().map_err(|e: crate::kernel::slug::SlugError| ApiError::internal(e))?))
            }
            None => None,
        };
        Ok(Self {
            id: row.id,
            kind: word(&row.kind)?,
            tenant,
            state: word(&row.state)?,
            background: row.background,
            input: row.input,
            result: row.result,
            error: row.error,
            progress: row.progress_done.zip(row.progress_total),
            cancel_requested: row.cancel_requested,
            requested_by: row.requested_by,
            request_id: row.request_id,
            started_at: row.started_at,
            finished_at: row.finished_at,
            driver: row.driver,
        })
    }
}

/// An operation to be.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// What it does.
    pub kind: OperationKind,
    /// The tenant and its slug; none for work on a cluster or the fleet.
    pub tenant: Option<(TenantId, Slug)>,
    /// What is asked for; neither secrets nor anything personal.
    pub input: serde_json::Value,
    /// Left to a worker; else whoever begins it drives it.
    pub background: bool,
    /// Who asked for it over REST.
    pub requested_by: Option<OperatorId>,
}

impl NewOperation {
    /// An operation on a tenant that the caller drives.
    #[must_use]
    pub fn on(tenant: TenantId, slug: &Slug, kind: OperationKind, input: serde_json::Value) -> Self {
        Self { kind, tenant: Some((tenant, slug.clone())), input, background: false, requested_by: None }
    }
}

/// Begins an operation; one in the background is queued. There is at most one open operation of a tenant: an open one
/// is given back whatever its kind (look at it). One that failed is not resumed by this: see [`reopen`].
///
/// # Errors
/// 409 if it is on no tenant, and another of its kind has the one place there is; 503 if the control plane does not answer.
pub async fn begin(conn: &mut MainConn, new: &NewOperation) -> ApiResult<Operation> {
    let id = OperationId::generate();
    let state = if new.background { OperationState::Queued } else { OperationState::Running };
    let request = request::current();
    let begun: Option<Row> = diesel::insert_into(o::table)
        .values((
            o::id.eq(id),
            o::tenant_id.eq(new.tenant.as_ref().map(|(id, _)| *id)),
            o::slug.eq(new.tenant.as_ref().map(|(_, slug)| slug.to_string())),
            o::kind.eq(new.kind.as_str()),
            o::state.eq(state.as_str()),
            o::background.eq(new.background),
            o::input.eq(&new.input),
            o::requested_by.eq(new.requested_by),
            o::request_id.eq(request.as_deref()),
        ))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    if let Some(begun) = begun {
        return begun.try_into();
    }
    let Some((tenant, _)) = &new.tenant else {
        let said = format!("Another job of this kind ({}) is open; wait for it to end, or cancel it.", new.kind);
        return Err(ApiError::new(Code::Conflict).detail(said));
    };
    let open = o::table
        .filter(o::tenant_id.eq(*tenant))
        .filter(o::state.eq_any(OPEN))
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?;
    open.ok_or_else(|| ApiError::internal("the operation in the way has just ended; try again"))?.try_into()
}

/// Begins an operation that waits for somebody's word: no worker takes it.
///
/// # Errors
/// If the control plane does not answer.
pub async fn begin_waiting(conn: &mut MainConn, new: &NewOperation) -> ApiResult<Operation> {
    let begun = begin(conn, new).await?;
    diesel::update(o::table.find(begun.id)).set(o::state.eq(OperationState::Queued.as_str())).execute(conn).await?;
    get(conn, begun.id).await
}

/// Runs a failed operation again, or one whose driver is gone; its done steps stay done.
///
/// # Errors
/// If the control plane does not answer.
pub async fn reopen(conn: &mut MainConn, id: OperationId) -> ApiResult<Operation> {
    diesel::update(o::table.find(id))
        .set((
            o::state.eq(OperationState::Running.as_str()),
            o::error.eq(None::<String>),
            o::finished_at.eq(None::<DateTime<Utc>>),
            o::cancel_requested.eq(false),
            o::driver.eq(None::<Uuid>),
        ))
        .execute(conn)
        .await?;
    get(conn, id).await
}

/// Runs an operation again as [`reopen`], for an operator; for a worker that was left one, this very one, while it is
/// open: its worker takes back no wish that it stop.
///
/// # Errors
/// 409 if the worker's has ended, or gave way to another.
pub async fn resume(conn: &mut MainConn, id: OperationId, left: Option<OperationId>) -> ApiResult<Operation> {
    let Some(left) = left else { return reopen(conn, id).await };
    let open = get(conn, left).await?;
    if left == id && !open.state.is_final() { Ok(open) } else { Err(has_ended()) }
}

/// What a worker is told whose operation is not to be driven any more.
#[must_use]
pub fn has_ended() -> ApiError {
    ApiError::new(Code::Conflict).detail("The job has ended.")
}

/// Leaves an operation that failed to a worker; its done steps stay done.
///
/// # Errors
/// If the control plane does not answer.
pub async fn requeue(conn: &mut MainConn, id: OperationId) -> ApiResult<Operation> {
    diesel::update(o::table.find(id))
        .set((
            o::state.eq(OperationState::Queued.as_str()),
            o::background.eq(true),
            o::error.eq(None::<String>),
            o::finished_at.eq(None::<DateTime<Utc>>),
            o::cancel_requested.eq(false),
            o::driver.eq(None::<Uuid>),
        ))
        .execute(conn)
        .await?;
    get(conn, id).await
}

pub(super) async fn find(conn: &mut MainConn, id: OperationId) -> ApiResult<Option<Operation>> {
    let row = o::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.map(TryInto::try_into).transpose()
}

/// An operation.
///
/// # Errors
/// 404 if there is none.
pub async fn get(conn: &mut MainConn, id: OperationId) -> ApiResult<Operation> {
    find(conn, id).await?.ok_or_else(|| ApiError::not_found("job"))
}

/// A tenant's latest operation, if it waits to be driven to its end: open, or failed or cancelled, and nothing else was
/// done to the tenant since.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_open(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Option<Operation>> {
    let latest = o::table
        .filter(o::tenant_id.eq(tenant))
        .order((o::started_at.desc(), o::id.desc()))
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?;
    let latest: Option<Operation> = latest.map(TryInto::try_into).transpose()?;
    Ok(latest.filter(|operation| !matches!(operation.state, OperationState::Done | OperationState::Undone)))
}

/// Whether anything came of an operation, or still may: not of one that was cancelled before its first step.
///
/// # Errors
/// If the control plane does not answer.
pub async fn has_begun(conn: &mut MainConn, operation: &Operation) -> ApiResult<bool> {
    Ok(operation.state != OperationState::Cancelled || !steps(conn, operation.id).await?.is_empty())
}

/// Ends an operation, whoever drives it: the caller holds the lock of what it works on.
///
/// # Errors
/// If the control plane does not answer.
pub async fn finish(conn: &mut MainConn, id: OperationId, state: OperationState, error: Option<&str>) -> ApiResult<()> {
    diesel::update(o::table.find(id))
        .set((
            o::state.eq(state.as_str()),
            o::error.eq(error),
            o::finished_at.eq(diesel::dsl::now),
            o::driver.eq(None::<Uuid>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends an operation as failed, unless it has ended: one whose end is just being committed is waited for.
///
/// # Errors
/// If the control plane does not answer.
pub async fn fail_open(conn: &mut MainConn, id: OperationId, error: &str) -> ApiResult<()> {
    diesel::update(o::table.find(id).filter(o::state.eq_any(OPEN)))
        .set((o::state.eq(OperationState::Failed.as_str()), o::error.eq(error), o::finished_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether an operation is done, once whoever is just ending it has done so.
///
/// # Errors
/// If the control plane does not answer, or not in time.
pub async fn is_done_after_all(conn: &mut MainConn, id: OperationId) -> ApiResult<bool> {
    let state = o::table.find(id).select(o::state).for_update().first::<String>(conn).await.optional()?;
    Ok(state.is_some_and(|state| state == OperationState::Done.as_str()))
}

/// Keeps what came of an operation.
///
/// # Errors
/// If the control plane does not answer.
pub async fn set_result(conn: &mut MainConn, id: OperationId, result: &serde_json::Value) -> ApiResult<()> {
    diesel::update(o::table.find(id)).set(o::result.eq(result)).execute(conn).await?;
    Ok(())
}
