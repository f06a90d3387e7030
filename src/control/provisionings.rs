//! The journal of making, adopting and deleting tenants: what makes each of them resumable.

use std::fmt;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::schema::{provisioning_steps as s, provisionings as p};
use super::word;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{ProvisioningId, Slug, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

words! {
    /// What a provisioning does.
    ProvisioningKind {
        /// A new database on a cluster.
        Create = "create",
        /// A customer's own database.
        Attach = "attach",
        /// Away with it.
        Delete = "delete",
    }
}

words! {
    /// How far a provisioning has come.
    ProvisioningState {
        /// Somebody drives it, or was interrupted while driving it.
        Running = "running",
        /// All its steps are done.
        Done = "done",
        /// A step could not be done; the same command resumes it.
        Failed = "failed",
        /// Its steps were taken back, or another provisioning took its place.
        Undone = "undone",
    }
}

/// A run of the journal.
#[derive(Debug, Clone)]
pub struct Provisioning {
    /// Identity.
    pub id: ProvisioningId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The tenant's slug.
    pub slug: Slug,
    /// What it does.
    pub kind: ProvisioningKind,
    /// How far it has come.
    pub state: ProvisioningState,
    /// What it was asked for; neither secrets nor anything personal.
    pub input: serde_json::Value,
    /// Why it failed, for the operator.
    pub error: Option<String>,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = p)]
struct Row {
    id: ProvisioningId,
    tenant_id: TenantId,
    slug: String,
    kind: String,
    state: String,
    input: serde_json::Value,
    error: Option<String>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Provisioning {
    type Error = ApiError;

    fn try_from(row: Row) -> ApiResult<Self> {
        Ok(Self {
            id: row.id,
            tenant_id: row.tenant_id,
            slug: row.slug.parse().map_err(|e: crate::kernel::slug::SlugError| ApiError::internal(e))?,
            kind: word(&row.kind)?,
            state: word(&row.state)?,
            input: row.input,
            error: row.error,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

/// A step of a run.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = s)]
pub struct Step {
    /// Its place in the list.
    pub position: i32,
    /// Its name.
    pub name: String,
    /// `running` or `done`.
    pub state: String,
    /// When it was (last) begun.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds.
    pub ms: Option<i64>,
}

impl Step {
    /// Whether it need not be done again.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == "done"
    }
}

/// Begins a run. There is at most one open run of a tenant: a running one is given back whatever its kind (look at
/// it), a failed one of the same kind is reopened, and a failed one of another kind gives way.
///
/// # Errors
/// If the control plane does not answer.
pub async fn begin(
    conn: &mut MainConn,
    tenant_id: TenantId,
    slug: &Slug,
    kind: ProvisioningKind,
    input: serde_json::Value,
) -> ApiResult<Provisioning> {
    if let Some(open) = find_open(conn, tenant_id).await? {
        if open.state == ProvisioningState::Running {
            return Ok(open);
        }
        if open.kind == kind {
            diesel::update(p::table.find(open.id))
                .set((
                    p::state.eq(ProvisioningState::Running.as_str()),
                    p::error.eq(None::<String>),
                    p::finished_at.eq(None::<DateTime<Utc>>),
                    p::input.eq(input),
                ))
                .execute(conn)
                .await?;
            return get(conn, open.id).await;
        }
        finish(conn, open.id, ProvisioningState::Undone, open.error.as_deref()).await?;
    }
    diesel::insert_into(p::table)
        .values((
            p::id.eq(ProvisioningId::generate()),
            p::tenant_id.eq(tenant_id),
            p::slug.eq(slug.to_string()),
            p::kind.eq(kind.as_str()),
            p::input.eq(input),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    find_open(conn, tenant_id).await?.ok_or_else(|| ApiError::internal("the run just begun is gone"))
}

/// A run.
///
/// # Errors
/// 404 if there is none.
pub async fn get(conn: &mut MainConn, id: ProvisioningId) -> ApiResult<Provisioning> {
    let row = p::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("provisioning"))?.try_into()
}

/// A tenant's run that waits to be driven to its end: running, or failed and not given up.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_open(conn: &mut MainConn, tenant_id: TenantId) -> ApiResult<Option<Provisioning>> {
    let row = p::table
        .filter(p::tenant_id.eq(tenant_id))
        .filter(p::state.eq_any([ProvisioningState::Running.as_str(), ProvisioningState::Failed.as_str()]))
        .order((p::state.desc(), p::started_at.desc()))
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

/// Notes that a step begins (again).
///
/// # Errors
/// If the control plane does not answer.
pub async fn step_started(conn: &mut MainConn, id: ProvisioningId, position: i32, name: &str) -> ApiResult<()> {
    diesel::insert_into(s::table)
        .values((s::provisioning_id.eq(id), s::position.eq(position), s::name.eq(name), s::state.eq("running")))
        .on_conflict((s::provisioning_id, s::position))
        .do_update()
        .set((s::name.eq(name), s::state.eq("running"), s::started_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that a step is done, and how long it took in milliseconds.
///
/// # Errors
/// If the control plane does not answer.
pub async fn step_done(conn: &mut MainConn, id: ProvisioningId, position: i32, name: &str, ms: i64) -> ApiResult<()> {
    diesel::insert_into(s::table)
        .values((
            s::provisioning_id.eq(id),
            s::position.eq(position),
            s::name.eq(name),
            s::state.eq("done"),
            s::finished_at.eq(diesel::dsl::now),
            s::ms.eq(ms),
        ))
        .on_conflict((s::provisioning_id, s::position))
        .do_update()
        .set((s::name.eq(name), s::state.eq("done"), s::finished_at.eq(diesel::dsl::now), s::ms.eq(ms)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The steps of a run, in their order.
///
/// # Errors
/// If the control plane does not answer.
pub async fn steps(conn: &mut MainConn, id: ProvisioningId) -> ApiResult<Vec<Step>> {
    Ok(s::table.filter(s::provisioning_id.eq(id)).order(s::position).select(Step::as_select()).load(conn).await?)
}

/// Ends a run and gives up its lease.
///
/// # Errors
/// If the control plane does not answer.
pub async fn finish(
    conn: &mut MainConn,
    id: ProvisioningId,
    state: ProvisioningState,
    error: Option<&str>,
) -> ApiResult<()> {
    diesel::update(p::table.find(id))
        .set((p::state.eq(state.as_str()), p::error.eq(error), p::finished_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The tenants whose making was asked for and left to a worker, the longest waiting first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn deferred(conn: &mut MainConn, limit: i64) -> ApiResult<Vec<Slug>> {
    let slugs = p::table
        .filter(p::state.eq(ProvisioningState::Running.as_str()))
        .filter(p::input.contains(serde_json::json!({"deferred": true})))
        .order(p::started_at)
        .limit(limit)
        .select(p::slug)
        .load::<String>(conn)
        .await?;
    Ok(slugs.into_iter().filter_map(|slug| slug.parse().ok()).collect())
}
