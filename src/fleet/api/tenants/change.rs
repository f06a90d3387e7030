//! What an operator does to a tenant that is there.

use actix_web::{HttpResponse, delete, patch, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::OperatedTenant;
use crate::control::operators::{Operator, Tend};
use crate::control::tenants::TenantChanges;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::api::{ChangeRefusals, Refusals, tenant_of};
use crate::fleet::{DeleteTenant, Fleet, Silent};
use crate::kernel::request;
use crate::rest::{
    Answer, Envelope, Idempotency, IfMatch, MergePatch, NoBody, NoContent, NoQuery, Patch, Path, Query, Tagged,
};
use crate::router::{Registration, Router, TenantStatus};

/// What to change.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantPatch {
    /// Display name; cannot be null.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schema(value_type = Option<String>)]
    pub name: Patch<String>,
    /// Who may register; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<Registration>)]
    pub registration: Patch<Registration>,
    /// Ceiling of its connections; null for the router's default.
    #[serde(default)]
    #[garde(inner(range(min = 1)))]
    #[schema(value_type = Option<i32>)]
    pub max_connections: Patch<i32>,
    /// Its share where connections are scarce, against other tenants' of the cluster; cannot be null.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 100)))]
    #[schema(value_type = Option<i32>)]
    pub weight: Patch<i32>,
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Drop the database now instead of after the grace period.
    #[serde(default)]
    pub now: bool,
    /// Also drop what is in a dedicated database; needs `now`.
    #[serde(default)]
    pub drop_dedicated_data: bool,
}

/// Changes a tenant.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminChangeTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    request_body(
        content = TenantPatch,
        content_type = "application/merge-patch+json",
        example = json!({"name": "Acme GmbH", "registration": "invite"})
    ),
    responses(
        (status = 200, description = "As it is now", body = Envelope<OperatedTenant>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[patch("/api/v1/admin/tenants/{id}")]
pub async fn change_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    if_match: IfMatch,
    body: MergePatch<TenantPatch>,
) -> ApiResult<Tagged<OperatedTenant>> {
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    let TenantPatch { name, registration, max_connections, weight } = body.0;
    let changes = TenantChanges {
        name: name.needed("name")?,
        registration: registration.needed("registration")?,
        max_connections: max_connections.into_change(),
        weight: weight.needed("weight")?,
    };
    let tenant = fleet.set(tenant.id, if_match.expected(tenant.version)?, changes).await?;
    Ok(Tagged(OperatedTenant::new(tenant, &router)))
}

/// Archives a tenant, to be dropped after the grace period; with `now`, drops it at once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminDeleteTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        DeleteQuery,
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses((status = 204, description = "Archived, or gone"), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/tenants/{id}")]
pub async fn delete_tenant(
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    if_match: IfMatch,
    query: Query<DeleteQuery>,
) -> ApiResult<NoContent> {
    let DeleteQuery { now, drop_dedicated_data } = query.0;
    if drop_dedicated_data && !now {
        return Err(ApiError::new(Code::InvalidQuery).detail("'dropDedicatedData' needs 'now'."));
    }
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    if tenant.status == TenantStatus::Archived && !now {
        return Err(ApiError::not_found("tenant"));
    }
    let expected_version = if_match.expected(tenant.version)?;
    let fleet = fleet.into_inner();
    let how = DeleteTenant { now, drop_dedicated_data, expected_version };
    let deleting = request::carried(async move { fleet.delete(tenant.id, how, &Silent).await });
    actix_web::rt::spawn(deleting).await.map_err(ApiError::internal)??;
    Ok(NoContent)
}

/// Refuses the tenant's users, on every node within two seconds.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminSuspendTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "Suspended", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/suspend")]
pub async fn suspend_tenant(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(Answer::tagged(OperatedTenant::new(fleet.suspend(tenant.id).await?, &router)))
    };
    fleet.once(who, idempotency, effect).await
}

/// Serves a suspended tenant again.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminResumeTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "Active", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/resume")]
pub async fn resume_tenant(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(Answer::tagged(OperatedTenant::new(fleet.resume(tenant.id).await?, &router)))
    };
    fleet.once(who, idempotency, effect).await
}
