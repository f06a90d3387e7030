//! Sign-ups that wait, for operators.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::tenants::OperatedTenant;
use super::{ChangeRefusals, JobView, Refusals};
use crate::control::operators::Operator;
use crate::control::signups::SignUpFilter;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::signup::Waiting;
use crate::kernel::{OperationId, Slug};
use crate::rest::{Answer, Envelope, Idempotency, ListEnvelope, ListFew, Listed, NoBody, NoQuery, Paging, Path, Query};
use crate::router::Router;

/// A sign-up that waits for an operator.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingView {
    /// The job.
    pub id: OperationId,
    /// Public name of the tenant to be.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Address of its first administrator.
    pub admin_email: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

impl From<Waiting> for WaitingView {
    fn from(waiting: Waiting) -> Self {
        let Waiting { id, slug, name, admin_email, created_at } = waiting;
        Self { id, slug, name, admin_email, created_at }
    }
}

/// Sign-ups that wait, the longest waiting first.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListSignUps",
    params(ListFew),
    responses((status = 200, description = "Those that wait", body = ListEnvelope<WaitingView>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/sign-ups")]
pub async fn list_sign_ups(
    _: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    query: Query<ListFew>,
) -> ApiResult<Listed<WaitingView>> {
    let ListFew { page_size, cursor, include_total } = query.0;
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let pages = paging.bound((None, &router.installation().mac), "admin/sign-ups", "createdAt", "");
    let (after, before) = pages.between::<OperationId>()?;
    let waiting = fleet.sign_ups(SignUpFilter { limit: Some(pages.limit()), after, before }).await?;
    let total = if pages.include_total() { Some(fleet.count_waiting().await?) } else { None };
    Ok(pages.listed(waiting, |one| one.id, total).map(Into::into))
}

/// Makes the tenant that somebody waits for.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminApproveSignUp",
    params(
        ("id" = OperationId, Path, description = "The job"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "Made", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/sign-ups/{id}/approve")]
pub async fn approve_sign_up(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<OperationId>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        Ok(Answer::tagged(OperatedTenant::new(fleet.approve_sign_up(id.0).await?, &router)))
    };
    fleet.once(operator.id, idempotency, effect).await
}

/// Sends somebody away who waits.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRefuseSignUp",
    params(
        ("id" = OperationId, Path, description = "The job"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "Cancelled", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/sign-ups/{id}/refuse")]
pub async fn refuse_sign_up(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<OperationId>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let effect =
        async move |fleet: Fleet| -> ApiResult<_> { Ok(Answer::ok(JobView::from(fleet.refuse_sign_up(id.0).await?))) };
    fleet.once(operator.id, idempotency, effect).await
}
