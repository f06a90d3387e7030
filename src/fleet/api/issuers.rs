//! A tenant's token issuers, for operators: by the tenant's own rules.

use actix_web::{HttpResponse, delete, get, post, web};
use uuid::Uuid;

use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operators::{Operator, Power, Tend};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::Fleet;
use crate::kernel::TokenIssuerId;
use crate::rest::{
    Answer, Envelope, Idempotency, IfMatch, Json, ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query,
};
use crate::router::{Error, Router, TenantDb};
use crate::tenant::auth::Auth;
use crate::tenant::token_issuers::{CreateTokenIssuer, TokenIssuer, by_operator};

/// The database of a tenant that serves.
async fn serving<P: Power>(operator: &Operator<P>, fleet: &Fleet, router: &Router, name: &str) -> ApiResult<TenantDb> {
    let tenant = tenant_of(operator, fleet, name).await?;
    router.of_tenant(tenant.id).await.map_err(|error| match error {
        Error::TenantUnknown | Error::TenantSuspended | Error::TenantUnavailable { .. } => {
            ApiError::new(Code::Conflict).detail(format!("The tenant is {}; it must be active.", tenant.status))
        }
        other => other.into(),
    })
}

/// The issuers whose access tokens a tenant takes, by name.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListTokenIssuers",
    params(("id" = String, Path, description = "Id or slug"), ListFew),
    responses((status = 200, description = "The issuers", body = ListEnvelope<TokenIssuer>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}/token-issuers")]
pub async fn list_issuers(
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    query: Query<ListFew>,
) -> ApiResult<Listed<TokenIssuer>> {
    let db = serving(&operator, &fleet, &router, &id.0).await?;
    let issuers = by_operator::list(&db).await?;
    query.0.of(&db, ("admin/token-issuers", ""), issuers, |issuer: &TokenIssuer| issuer.id.to_string())
}

/// Registers an issuer whose access tokens a tenant takes, and no other tenant. It stands in the tenant's own audit.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRegisterTokenIssuer",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body = CreateTokenIssuer,
    responses((status = 201, description = "Registered", body = Envelope<TokenIssuer>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/token-issuers")]
pub async fn register_issuer(
    _: NoQuery,
    operator: Operator,
    (fleet, router): (web::Data<Fleet>, web::Data<Router>),
    auth: web::Data<Auth>,
    id: Path<String>,
    idempotency: Idempotency,
    body: Json<CreateTokenIssuer>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet, request: Uuid| -> ApiResult<_> {
        let db = serving(&operator, &fleet, &router, &id.0).await?;
        let new = (request.into(), &body.0);
        Ok(Answer::created(by_operator::register(&db, &auth, format!("operator:{who}"), new).await?))
    };
    fleet.once_known(who, idempotency, effect).await
}

/// Removes an issuer: its tokens are taken no more.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRemoveTokenIssuer",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("issuerId" = TokenIssuerId, Path, description = "The issuer"),
        ("If-Match" = Option<String>, Header, description = "The `version` that was read, as an `ETag`"),
    ),
    responses((status = 204, description = "Removed"), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/tenants/{id}/token-issuers/{issuerId}")]
pub async fn remove_issuer(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    auth: web::Data<Auth>,
    path: Path<(String, TokenIssuerId)>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let (id, issuer) = path.0;
    let db = serving(&operator, &fleet, &router, &id).await?;
    by_operator::remove(&db, &auth, format!("operator:{}", operator.id), (issuer, if_match)).await?;
    Ok(NoContent)
}
