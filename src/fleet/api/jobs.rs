//! Longer work, as operators follow it: how far it has come, what came of it, and how to stop it.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operations::{self, Operation, OperationFilter, OperationKind, OperationState, Step};
use crate::control::operators::{Operator, Reach, Tend};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::{Fleet, StepTime};
use crate::kernel::crypto::{hex, sha256};
use crate::kernel::{OperationId, Slug, TenantId};
use crate::rest::{
    Answer, Envelope, Idempotency, ListEnvelope, Listed, NoBody, NoQuery, Paging, Path, Query, Tagged, Versioned,
};
use crate::router::{MainConn, Router};

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Identity.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is in its life.
    pub state: OperationState,
    /// How far the work has come, in per cent.
    pub progress: i64,
    /// What it works on; null for a cluster or the fleet.
    pub tenant: Option<JobTenant>,
    /// What came of it, once its state is `done`; before, what it works towards where that is known. Of a `verify` in a list
    /// it says `passed` alone: its report is as long as the fleet.
    #[schema(value_type = Option<Object>)]
    pub result: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
    /// The request that began it, as in its `x-request-id`; null for what was begun on the command line or by a worker.
    #[schema(example = "01980000-0000-7000-8000-000000000000")]
    pub request_id: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The tenant of a job. It may be gone by now.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobTenant {
    /// Identity.
    pub id: TenantId,
    /// Public name, as it was.
    pub slug: Slug,
}

/// A job, and the steps that are done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDetail {
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
    /// The step under way, if one is.
    pub step: Option<String>,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
}

impl From<Operation> for JobView {
    fn from(operation: Operation) -> Self {
        let progress = match (operation.state, operation.progress) {
            (OperationState::Done, _) => 100,
            (_, Some((done, total))) => done * 100 / total.max(1),
            (_, None) => 0,
        };
        Self {
            id: operation.id,
            kind: operation.kind,
            state: operation.state,
            progress,
            tenant: operation.tenant.map(|(id, slug)| JobTenant { id, slug }),
            result: operation.result,
            error: operation.error,
            cancel_requested: operation.cancel_requested,
            request_id: operation.request_id,
            created_at: operation.started_at,
            finished_at: operation.finished_at,
        }
    }
}

impl JobDetail {
    fn new(operation: Operation, steps: Vec<Step>) -> Self {
        let open = !operation.state.is_final();
        let step = steps.iter().find(|step| open && !step.is_done()).map(|step| step.name.clone());
        let done = steps.into_iter().filter(Step::is_done);
        let steps = done.map(|step| StepTime { ms: step.ms.unwrap_or_default(), name: step.name }).collect();
        Self { job: operation.into(), step, steps }
    }
}

impl Versioned for JobDetail {
    /// A job's row has none: nobody changes it under a version.
    fn version(&self) -> i64 {
        0
    }

    /// All that is told of it.
    fn beside(&self) -> String {
        hex(&sha256(format!("{self:?}").as_bytes())[..8])
    }
}

/// 202 with the job, and where to follow it.
#[must_use]
pub fn accepted(operation: Operation) -> Answer<JobView> {
    let location = format!("/api/v1/admin/jobs/{}", operation.id);
    Answer::accepted(JobView::from(operation)).location(location)
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListJobs {
    /// Only of this kind.
    pub kind: Option<OperationKind>,
    /// Only in this state.
    pub state: Option<OperationState>,
    /// Only of this tenant, by id or slug. (`tenant` would confirm whose token it is.)
    pub tenant_id: Option<String>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// Jobs, the latest first.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListJobs",
    params(ListJobs),
    responses((status = 200, description = "A page", body = ListEnvelope<JobView>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/jobs")]
pub async fn list_jobs(
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    query: Query<ListJobs>,
) -> ApiResult<Listed<JobView>> {
    let ListJobs { kind, state, tenant_id, page_size, cursor, include_total } = query.0;
    let tenant = match tenant_id {
        Some(name) => Some(tenant_of(&operator, &fleet, &name).await?.id),
        None => None,
    };
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let only = operator.reach().only();
    let filter = format!("{kind:?} {state:?} {tenant:?} {only:?}");
    let pages = paging.bound((None, &router.installation().mac), "admin/jobs", "-createdAt", filter);
    let (after, before) = pages.between::<OperationId>()?;
    let filter = OperationFilter {
        kind,
        state,
        tenant,
        only,
        limit: Some(pages.limit()),
        after,
        before,
        ..OperationFilter::default()
    };
    let counted = pages.include_total();
    let listed = async move |conn: &mut MainConn| -> ApiResult<(Vec<Operation>, Option<i64>)> {
        let rows = operations::list(conn, &filter).await?;
        Ok((rows, if counted { Some(operations::count(conn, &filter).await?) } else { None }))
    };
    let (rows, total) = fleet.control.db.read(listed).await?;
    Ok(pages.listed(rows, |operation| operation.id, total).map(in_brief))
}

/// A job as one of many.
fn in_brief(mut operation: Operation) -> JobView {
    if operation.kind == OperationKind::Verify {
        operation.result = operation.result.map(|result| serde_json::json!({"passed": result["passed"]}));
    }
    operation.into()
}

/// A job, within what the operator knows of.
async fn job_of(operator: &Operator<Tend>, fleet: &Fleet, id: OperationId) -> ApiResult<Operation> {
    let db = &fleet.control.db;
    let operation = db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await?;
    let known = match (&operation.tenant, operator.reach()) {
        (_, Reach::All) => true,
        (Some((tenant, _)), reach) => reach.has(*tenant),
        (None, Reach::Only(_)) => false,
    };
    if known { Ok(operation) } else { Err(ApiError::not_found("job")) }
}

/// A job: how far it has come, and what came of it.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetJob",
    params(("id" = OperationId, Path, description = "The job")),
    responses(
        (status = 200, description = "The job, with `ETag`", body = Envelope<JobDetail>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/jobs/{id}")]
pub async fn get_job(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    id: Path<OperationId>,
) -> ApiResult<Tagged<JobDetail>> {
    let operation = job_of(&operator, &fleet, id.0).await?;
    let id = operation.id;
    let db = &fleet.control.db;
    let steps = db.read(async move |conn: &mut MainConn| operations::steps(conn, id).await).await?;
    Ok(Tagged(JobDetail::new(operation, steps)))
}

/// Asks a job to stop. One that waits is cancelled at once, and so is one whose command was interrupted; one under way at
/// its next safe point. What it cannot leave half done, it finishes.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminCancelJob",
    params(
        ("id" = OperationId, Path, description = "The job"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "As it is now", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/jobs/{id}/cancel")]
pub async fn cancel_job(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    id: Path<OperationId>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let job = job_of(&operator, &fleet, id.0).await?;
        if job.is_sign_up() {
            let said = "A sign-up is refused, not cancelled: see `/api/v1/admin/sign-ups`.";
            return Err(ApiError::new(Code::Conflict).detail(said));
        }
        Ok(Answer::ok(JobView::from(fleet.cancel(job.id).await?)))
    };
    fleet.once(who, idempotency, effect).await
}
