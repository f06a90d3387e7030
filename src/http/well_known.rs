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
use crate::tenant::oauth::OPENID;
use crate::tenant::permissions::catalog::PERMISSIONS;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(openid_configuration).service(oauth_authorization_server).service(jwks);
}

/// An issuer's description (OpenID Connect Discovery 1.0, RFC 8414), for who verifies tokens and for apps.
#[derive(Debug, Serialize, ToSchema)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: String,
    token_endpoint: String,
    revocation_endpoint: String,
    introspection_endpoint: String,
    userinfo_endpoint: String,
    scopes_supported: Vec<&'static str>,
    response_types_supported: Vec<&'static str>,
    response_modes_supported: Vec<&'static str>,
    grant_types_supported: Vec<&'static str>,
    code_challenge_methods_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    authorization_response_iss_parameter_supported: bool,
    request_parameter_supported: bool,
    request_uri_parameter_supported: bool,
    prompt_values_supported: Vec<&'static str>,
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
    bare(&description(&router, &slug.0).await?)
}

/// The same for apps that know OAuth alone (RFC 8414).
#[utoipa::path(
    tag = "well-known",
    params(("slug" = String, Path, description = "The tenant.")),
    responses((status = 200, description = "The issuer and its endpoints", body = Discovery), (status = 404, description = "No such tenant", body = ErrorEnvelope))
)]
#[get("/.well-known/oauth-authorization-server/t/{slug}")]
async fn oauth_authorization_server(slug: Path<String>, router: web::Data<Router>) -> ApiResult<HttpResponse> {
    bare(&description(&router, &slug.0).await?)
}

async fn description(router: &Router, slug: &str) -> ApiResult<Discovery> {
    const PROOFS: [&str; 2] = ["client_secret_basic", "client_secret_post"];
    let tenant = active(router, slug).await?;
    let issuer = router.issuer(&tenant.slug);
    let algorithms: BTreeSet<_> = counting(router, &tenant).map(|key| key.algorithm.as_str()).collect();
    let at = |name: &str| format!("{issuer}/oauth/{name}");
    let with_none = || PROOFS.into_iter().chain(["none"]).collect();
    Ok(Discovery {
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        authorization_endpoint: at("authorize"),
        token_endpoint: at("token"),
        revocation_endpoint: at("revoke"),
        introspection_endpoint: at("introspect"),
        userinfo_endpoint: at("userinfo"),
        issuer,
        scopes_supported: OPENID.into_iter().chain(PERMISSIONS.iter().map(|right| right.name)).collect(),
        response_types_supported: vec!["code"],
        response_modes_supported: vec!["query"],
        grant_types_supported: vec!["authorization_code", "refresh_token", "client_credentials"],
        code_challenge_methods_supported: vec!["S256"],
        token_endpoint_auth_methods_supported: with_none(),
        revocation_endpoint_auth_methods_supported: with_none(),
        introspection_endpoint_auth_methods_supported: PROOFS.to_vec(),
        authorization_response_iss_parameter_supported: true,
        request_parameter_supported: false,
        request_uri_parameter_supported: false,
        prompt_values_supported: vec!["none", "login", "consent", "select_account"],
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
            "nonce",
            "client_id",
            "scope",
            "name",
            "given_name",
            "family_name",
            "email",
            "email_verified",
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
