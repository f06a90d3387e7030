//! What verifiers of a tenant's tokens need: its issuer and its public keys. Bare documents, as their standards have it.

use std::collections::BTreeSet;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::{ApiError, ApiResult};
use crate::kernel::Slug;
use crate::rest::{ErrorEnvelope, Path};
use crate::router::{KeyId, Router, Tenant, TenantStatus, VerificationKey};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(openid_configuration).service(jwks);
}

/// An issuer's description (OpenID Connect Discovery 1.0), as far as it concerns who verifies tokens.
#[derive(Debug, Serialize, ToSchema)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    response_types_supported: Vec<&'static str>,
    subject_types_supported: Vec<&'static str>,
    id_token_signing_alg_values_supported: Vec<&'static str>,
    claims_supported: Vec<&'static str>,
}

/// Public keys (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
struct Jwks {
    #[schema(value_type = Vec<Object>)]
    keys: Vec<serde_json::Value>,
}

/// The issuer of a tenant's tokens.
#[utoipa::path(
    tag = "well-known",
    params(("slug" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The issuer and where its keys are", body = Discovery), (status = 404, description = "No such tenant", body = ErrorEnvelope))
)]
#[get("/t/{slug}/.well-known/openid-configuration")]
async fn openid_configuration(slug: Path<String>, router: web::Data<Router>) -> ApiResult<HttpResponse> {
    let tenant = active(&router, &slug.0).await?;
    let issuer = router.issuer(&tenant.slug);
    let algorithms: BTreeSet<_> = counting(&router, &tenant).map(|key| key.algorithm.as_str()).collect();
    bare(&Discovery {
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        issuer,
        response_types_supported: Vec::new(),
        subject_types_supported: vec!["public"],
        id_token_signing_alg_values_supported: algorithms.into_iter().collect(),
        claims_supported: vec![
            "iss",
            "aud",
            "sub",
            "tid",
            "sid",
            "jti",
            "iat",
            "exp",
            "roles",
            "amr",
            "auth_time",
            "ver",
        ],
    })
}

/// The public keys of a tenant's tokens.
#[utoipa::path(
    tag = "well-known",
    params(("slug" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The keys whose signatures count", body = Jwks), (status = 404, description = "No such tenant", body = ErrorEnvelope))
)]
#[get("/t/{slug}/.well-known/jwks.json")]
async fn jwks(slug: Path<String>, router: web::Data<Router>) -> ApiResult<HttpResponse> {
    let tenant = active(&router, &slug.0).await?;
    let mac = &router.installation().mac;
    let jwk = |key: &VerificationKey| key.to_jwk(&KeyId { tenant: tenant.id, key: key.id }.encode(mac));
    bare(&Jwks { keys: counting(&router, &tenant).map(jwk).collect() })
}

/// The keys whose signatures count: the next one, the one that signs, and former ones until their tokens have ended.
fn counting<'a>(router: &Router, tenant: &'a Tenant) -> impl Iterator<Item = &'a VerificationKey> {
    let now = router.config().clock.now();
    tenant.verification_keys.iter().filter(move |key| key.counts(now))
}

async fn active(router: &Router, slug: &str) -> ApiResult<std::sync::Arc<Tenant>> {
    let slug: Slug = slug.parse().map_err(|_| ApiError::not_found("tenant"))?;
    let tenant = router.tenant_by_slug(&slug).await?;
    if tenant.status == TenantStatus::Active { Ok(tenant) } else { Err(ApiError::not_found("tenant")) }
}

fn bare(document: &impl Serialize) -> ApiResult<HttpResponse> {
    let body = serde_json::to_vec(document).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "public, max-age=60"))
        .body(body))
}
