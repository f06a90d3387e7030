//! Which operations there are.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Timestamptz};
use diesel_async::RunQueryDsl;

use super::store::{OPEN, Row, has_begun};
use super::{Operation, OperationKind, OperationState};
use crate::control::schema::operations as o;
use crate::error::ApiResult;
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// Those that this program knows: a newer one's are left to it.
fn known_kinds() -> Vec<&'static str> {
    OperationKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

const LAST: &str = "NOT EXISTS (SELECT FROM operations later \
    WHERE (later.started_at, later.id) > (operations.started_at, operations.id) \
    AND (later.tenant_id = operations.tenant_id OR later.tenant_id IS NULL AND operations.tenant_id IS NULL \
        AND later.kind = operations.kind \
        AND later.input ->> 'cluster' IS NOT DISTINCT FROM operations.input ->> 'cluster'))";

const DECIDED: &str = "NOT (tenant_id IS NULL AND state = 'queued' AND input ? 'approval')";

/// A tenant that was left between two passwords, or between two clusters, is worse off than who waits for a job; and
/// nobody waits for a backup that he has not asked for.
const URGENCY: &str = "CASE WHEN state = 'running' AND kind IN ('rotate_credentials', 'move') THEN 0 \
    WHEN kind = 'backup' AND input ->> 'scheduled' = 'true' THEN 2 ELSE 1 END";

/// As [`Operation::is_scheduled_backup`].
const SCHEDULED: &str = "(kind = 'backup' AND input ->> 'scheduled' = 'true')";

/// An export in the storage that is whole, and whose time is not over at the moment that follows.
const FETCHABLE: &str = "(kind = 'export' AND state = 'done' AND (result ->> 'expiresAt')::timestamptz > ";

/// Which operations to list, the latest first.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// Of this kind only.
    pub kind: Option<OperationKind>,
    /// In this state only.
    pub state: Option<OperationState>,
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of these tenants only.
    pub only: Option<Vec<TenantId>>,
    /// At most so many; all if absent.
    pub limit: Option<i64>,
    /// Those begun before this one.
    pub after: Option<OperationId>,
    /// Those begun after this one, the nearest first.
    pub before: Option<OperationId>,
    /// Only the last of each tenant; of what is on none, the last of its kind and cluster.
    pub last: bool,
    /// Without sign-ups that wait for an operator's word.
    pub decided: bool,
    /// Only exports in the storage that can be fetched at this moment.
    pub fetchable: Option<DateTime<Utc>>,
}

/// A boxed query for columns of those operations only that a filter lets through, on whatever page they are.
macro_rules! narrowed {
    ($columns:expr, $filter:expr) => {{
        let filter = $filter;
        let mut query = o::table.filter(o::kind.eq_any(known_kinds())).select($columns).into_boxed();
        for only in [filter.last.then_some(LAST), filter.decided.then_some(DECIDED)].into_iter().flatten() {
            query = query.filter(diesel::dsl::sql::<diesel::sql_types::Bool>(only));
        }
        if let Some(now) = filter.fetchable {
            query = query.filter(diesel::dsl::sql::<Bool>(FETCHABLE).bind::<Timestamptz, _>(now).sql(")"));
        }
        if let Some(kind) = filter.kind {
            query = query.filter(o::kind.eq(kind.as_str()));
        }
        if let Some(state) = filter.state {
            query = query.filter(o::state.eq(state.as_str()));
        }
        if let Some(tenant) = filter.tenant {
            query = query.filter(o::tenant_id.eq(tenant));
        }
        if let Some(only) = &filter.only {
            query = query.filter(o::tenant_id.eq_any(only));
        }
        query
    }};
}

/// Operations, the latest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn, filter: &OperationFilter) -> ApiResult<Vec<Operation>> {
    let mut query = narrowed!(Row::as_select(), filter);
    query = match filter.before {
        Some(before) => query.filter(o::id.gt(before)).order(o::id.asc()),
        None => query.order(o::id.desc()),
    };
    if let Some(after) = filter.after {
        query = query.filter(o::id.lt(after));
    }
    if let Some(limit) = filter.limit {
        query = query.limit(limit);
    }
    query.load(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// What was begun with a tenant and has neither come to its end nor been taken back, the latest first: whatever else was
/// done to the tenant since.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unended(conn: &mut MainConn, tenant: TenantId, kind: OperationKind) -> ApiResult<Vec<Operation>> {
    let filter = OperationFilter { kind: Some(kind), tenant: Some(tenant), ..OperationFilter::default() };
    let mut unended = Vec::new();
    for one in list(conn, &filter).await? {
        if !matches!(one.state, OperationState::Done | OperationState::Undone) && has_begun(conn, &one).await? {
            unended.push(one);
        }
    }
    Ok(unended)
}

/// How many operations a filter lets through, on whatever page they are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn, filter: &OperationFilter) -> ApiResult<i64> {
    Ok(narrowed!(diesel::dsl::count_star(), filter).get_result(conn).await?)
}

/// What waits for a worker, the most urgent first, and of the alike the longest waiting: queued, or interrupted (whoever
/// holds its lock drives it). At most `limit`, after the first `passed`.
///
/// # Errors
/// If the control plane does not answer.
pub async fn waiting(conn: &mut MainConn, limit: i64, passed: i64) -> ApiResult<Vec<Operation>> {
    let rows = o::table
        .filter(o::background)
        .filter(o::kind.eq_any(known_kinds()))
        .filter(o::state.eq_any(OPEN))
        .order(diesel::dsl::sql::<diesel::sql_types::Integer>(URGENCY))
        .then_order_by(o::started_at)
        .then_order_by(o::id)
        .limit(limit)
        .offset(passed)
        .select(Row::as_select())
        .load(conn)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// How many backups that nobody asked for wait for a worker, or are made.
///
/// # Errors
/// If the control plane does not answer.
pub async fn scheduled_backups(conn: &mut MainConn) -> ApiResult<i64> {
    let scheduled = o::table
        .filter(o::background)
        .filter(o::state.eq_any(OPEN))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(SCHEDULED))
        .count();
    Ok(scheduled.get_result(conn).await?)
}
