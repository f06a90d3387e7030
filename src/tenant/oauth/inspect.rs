//! Revocation (RFC 7009) and introspection (RFC 7662): of an app's own tokens, and nobody else's.

use std::sync::Arc;

use actix_web::{HttpResponse, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::clients::store::ClientRow;
use super::endpoint::Asked;
use super::refusal::{OauthRefusals, Outcome, bare};
use super::scopes;
use super::token::{active, store as grants};
use crate::error::ApiResult;
use crate::kernel::opaque::TokenKind;
use crate::kernel::{OauthClientId, OauthGrantId};
use crate::router::{self, AccessClaims, TenantConn, TenantHints, TenantTx};
use crate::tenant::security::session_rules;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(oauth_revoke).service(oauth_introspect);
}

/// A token to end or to look at. The client proves itself as at the token endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it says in OpenAPI what is read from the form")]
pub struct OauthTokenHint {
    /// Access or refresh token.
    #[schema(example = "tof_AZq…")]
    pub token: String,
    /// Which of both. It is seen without.
    #[schema(example = "refresh_token")]
    pub token_type_hint: Option<String>,
    /// Of the app.
    #[schema(example = "01980000-0000-7000-8000-000000000000")]
    pub client_id: Option<String>,
    /// Of an app that keeps one.
    #[schema(format = Password, example = "tos_AZq…")]
    pub client_secret: Option<String>,
}

/// What there is to say of a token.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct OauthIntrospection {
    /// Whether it is good, and this client's. If not, nothing else is said.
    pub active: bool,
    /// What was granted, and the app may still ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "contacts:read")]
    pub scope: Option<String>,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<OauthClientId>,
    /// `Bearer` of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bearer")]
    pub token_type: Option<&'static str>,
    /// When it ends, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// When it was made, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// The person; of an app in its own name, the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// For whom it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// Ends a token, and with it all that came of the same consent: at once on this node and within two seconds everywhere.
///
/// The answer is the same for a token that there is not, or that is another client's.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    request_body(content = OauthTokenHint, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "It is good no more, if it was this client's"), OauthRefusals),
)]
#[post("/t/{slug}/oauth/revoke")]
pub async fn oauth_revoke(asked: Asked) -> Outcome<HttpResponse> {
    let client = asked.client().await?;
    asked.form.need("token")?;
    let grant = match access(&asked, &client).await? {
        Some(claims) => Some(OauthGrantId::from(claims.sid.uuid())),
        None => refresh(&asked, &client).await?.map(|found| found.grant.id),
    };
    if let Some(grant) = grant {
        let now = asked.auth.clock.now();
        let end = async move |conn: &mut TenantTx| -> ApiResult<()> {
            Ok(grants::end(conn, grant, "oauth.revoked", now).await?)
        };
        asked.db.transaction(end).await?;
        asked.auth.admission.forget_app(asked.db.tenant().id, client.id).await;
    }
    Ok(bare(&serde_json::json!({})))
}

/// Says whether a token is good and what it is for: to the client that it was given to, which keeps a secret.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    request_body(content = OauthTokenHint, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "What there is to say", body = OauthIntrospection), OauthRefusals),
)]
#[post("/t/{slug}/oauth/introspect")]
pub async fn oauth_introspect(asked: Asked) -> Outcome<HttpResponse> {
    let client = asked.confidential().await?;
    asked.form.need("token")?;
    if let Some(claims) = access(&asked, &client).await? {
        return Ok(bare(&OauthIntrospection {
            active: true,
            scope: claims.scope.as_deref().map(|said| client.left_of(&scopes::read(said)).join(" ")),
            client_id: claims.client_id,
            token_type: Some("Bearer"),
            exp: Some(claims.exp),
            iat: Some(claims.iat),
            sub: Some(claims.sub.to_string()),
            aud: Some(claims.aud.clone()),
            iss: Some(claims.iss.clone()),
            jti: Some(claims.jti.to_string()),
        }));
    }
    let now = asked.auth.clock.now();
    let current = refresh(&asked, &client).await?.filter(|Found { grant, token, stands }| {
        let alive = *stands && grant.revoked_at.is_none() && now < grant.expires_at;
        alive && token.rotated_at.is_none() && now < token.expires_at
    });
    Ok(bare(&match current {
        None => OauthIntrospection::default(),
        Some(Found { grant, token, .. }) => OauthIntrospection {
            active: true,
            scope: Some(client.left_of(&grant.scopes).join(" ")),
            client_id: Some(grant.client_id),
            exp: Some(token.expires_at.timestamp()),
            iat: Some(token.created_at.timestamp()),
            sub: grant.user_id.map(|user| user.to_string()),
            iss: Some(asked.db.router().issuer(&asked.db.tenant().slug)),
            ..OauthIntrospection::default()
        },
    }))
}

/// What an access token says that was given to this client here, and is good.
async fn access(asked: &Asked, client: &ClientRow) -> Outcome<Option<Arc<AccessClaims>>> {
    let Some(text) = asked.form.get("token") else { return Ok(None) };
    // Another tenant's is refused before that one's database is asked.
    let hints = TenantHints { header: Some(asked.db.tenant().slug.to_string()), ..TenantHints::default() };
    match asked.db.router().authenticate(text, &hints).await {
        Ok(who) => Ok(who.app.is_some_and(|app| app.client == client.id).then_some(who.claims)),
        Err(
            router::Error::TokenInvalid(_)
            | router::Error::TokenExpired
            | router::Error::TokenRevoked
            | router::Error::TenantMismatch
            | router::Error::TenantSuspended,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

struct Found {
    grant: grants::GrantRow,
    token: grants::RefreshRow,
    /// Whether the person whose grant it is may do anything.
    stands: bool,
}

/// A refresh token that was given to this client here, good or not.
async fn refresh(asked: &Asked, client: &ClientRow) -> Outcome<Option<Found>> {
    let Some(token) = asked.form.token("token", TokenKind::OauthRefresh, &asked.db) else { return Ok(None) };
    let hash = token.hash();
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        let Some((mut grant, mut token)) = grants::find_refresh(conn, &hash).await? else { return Ok(None) };
        let rules = session_rules(conn, &asked.db, asked.auth.settings.session_lifetimes()).await?;
        let presented = rules.lifetimes.clip(grant.of(&token), grant.created_at, token.created_at);
        (grant.expires_at, token.expires_at) = (presented.session_expires_at, presented.expires_at);
        let stands = match grant.user_id {
            Some(user) => active(conn, user).await?.is_some(),
            None => true,
        };
        Ok(Some(Found { grant, token, stands }))
    };
    let found = asked.db.read(read).await?;
    Ok(found.filter(|found| found.grant.client_id == client.id))
}
