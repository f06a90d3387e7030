//! Changing, rotating and removing apps.

use actix_web::{HttpResponse, delete, patch, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{NewOauthClient, OauthClient, words};
use super::rules::{self, OauthGrantType};
use super::store::{self, ClientChange, ClientRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::OauthClientId;
use crate::kernel::opaque::TokenKind;
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, MergePatch, NoContent, NoQuery, Patch,
    Path, Tagged,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::oauth::scopes;
use crate::tenant::permissions::OauthWrite;
use crate::tenant::secrets::{self, Secret, note};
use crate::tenant::users::rules::{name_shape, not_blank};

/// A change of an app. Whether it keeps a secret stays as it is.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOauthClient {
    /// What people are shown.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "Time sheets")]
    pub name: Patch<String>,
    /// Where people may be sent back to; null for nowhere.
    #[serde(default)]
    #[garde(inner(length(max = 20)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Patch<Vec<String>>,
    /// How it may come by tokens.
    #[serde(default)]
    #[garde(inner(length(max = 3)))]
    #[schema(value_type = Option<Vec<OauthGrantType>>, example = json!(["authorization_code", "refresh_token"]))]
    pub grants: Patch<Vec<OauthGrantType>>,
    /// What it may ask for; null for nothing. What is taken away is lost to tokens that are out, too.
    #[serde(default)]
    #[garde(inner(length(max = 200)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["openid", "contacts:read"]))]
    pub scopes: Patch<Vec<String>>,
    /// Whether it may do anything at all.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>, example = true)]
    pub enabled: Patch<bool>,
}

/// Holds an app that the caller may have power over.
async fn hold(conn: &mut TenantConn, caller: &Authorized<OauthWrite>, id: OauthClientId) -> ApiResult<ClientRow> {
    let row = store::hold(conn, id).await?;
    secrets::check_power(conn, caller, &row).await?;
    Ok(row)
}

/// Changes an app, at once on this node and within two seconds everywhere. One that is closed has its tokens refused for
/// as long.
#[utoipa::path(
    tag = "oauth",
    request_body(content = PatchOauthClient, content_type = "application/merge-patch+json"),
    params(
        ("id" = OauthClientId, Path, description = "The app"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<OauthClient>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a scope is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/oauth/clients/{id}")]
pub async fn patch_oauth_client(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<OauthWrite>,
    id: Path<OauthClientId>,
    if_match: IfMatch,
    body: MergePatch<PatchOauthClient>,
) -> ApiResult<Tagged<OauthClient>> {
    let actor = caller.in_person()?;
    let (id, now) = (id.0, auth.clock.now());
    let PatchOauthClient { name, redirect_uris, grants, scopes, enabled } = body.0;
    if name == Patch::Null {
        return Err(ApiError::invalid_field("name", "required", "An app has a name."));
    }
    if enabled == Patch::Null {
        return Err(ApiError::invalid_field("enabled", "required", "It is open or closed."));
    }
    let change = ClientChange {
        name: name.value().map(|name| name.trim().to_owned()),
        redirect_uris: redirect_uris.or_empty(),
        grants: grants.or_empty().map(|grants| words(&grants)),
        scopes: scopes.or_empty(),
        enabled: enabled.value().copied(),
    };
    scopes::check(change.scopes.as_deref().unwrap_or_default(), &caller.access.permissions)?;
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<ClientRow> {
            let before = hold(conn, &caller, id).await?;
            if_match.check(before.version)?;
            let grants = change.grants.as_deref().unwrap_or(&before.grants).iter().filter_map(|word| word.parse().ok());
            let redirects = change.redirect_uris.as_deref().unwrap_or(&before.redirect_uris);
            rules::check(before.is_confidential(), &grants.collect::<Vec<_>>(), redirects)?;
            if change.redirect_uris.is_some() || change.grants.is_some() || change.enabled == Some(true) {
                // Whoever says where its codes go has what it may ask for.
                let scopes = change.scopes.as_deref().unwrap_or(&before.scopes);
                scopes::check(scopes, &caller.access.permissions)?;
            }
            let row = store::update(conn, id, &change, now).await?;
            note(conn, actor, &row, "oauth_client.changed", now).await?;
            Ok(row)
        })
        .await?;
    auth.admission.forget_app(caller.db.tenant().id, id).await;
    Ok(Tagged(row.into()))
}

/// For how long the old secret stays good.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateOauthClient {
    /// Seconds, at most 30 days; a day if left out, none with 0.
    #[garde(inner(range(min = 0, max = 2_592_000)))]
    #[schema(example = 3600)]
    pub overlap_seconds: Option<i64>,
}

/// Gives an app another secret. The old one stays good for a while; tokens that are out stay good.
#[utoipa::path(
    tag = "oauth",
    request_body = RotateOauthClient,
    params(
        ("id" = OauthClientId, Path, description = "The app"),
        ("Idempotency-Key" = Option<String>, Header, description = "Rotates once, however often it is sent"),
    ),
    responses(
        (status = 200, description = "With its new secret", body = Envelope<NewOauthClient>),
        (status = 409, description = "It keeps no secret, or the one before the last rotation is still good", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/clients/{id}/rotate")]
pub async fn rotate_oauth_client(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<OauthWrite>,
    id: Path<OauthClientId>,
    idempotency: Idempotency,
    body: Json<RotateOauthClient>,
) -> ApiResult<HttpResponse> {
    let actor = caller.in_person()?;
    let (id, now, db) = (id.0, auth.clock.now(), &caller.db);
    let secret = &Secret::new(db, TokenKind::OauthSecret);
    idempotency
        .run_shown_once(db, &actor.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<NewOauthClient>> {
            let before = hold(conn, &caller, id).await?;
            if !before.is_confidential() {
                return Err(ApiError::new(Code::Conflict).detail("This app keeps no secret."));
            }
            let until = secrets::overlap(body.0.overlap_seconds, before.previous_expires_at, now)?;
            // A new secret in the hands of whoever asks is as good as a new app.
            scopes::check(&before.scopes, &caller.access.permissions)?;
            let row = store::rotate(conn, id, secret, until, now).await?;
            note(conn, actor, &row, "oauth_client.rotated", now).await?;
            let notice = SecurityNotice::AppSecretRotated { name: row.name.clone() };
            mail::notify_security(conn, db, row.owner_id, notice, None).await?;
            Ok(Answer::ok(NewOauthClient { client: row.into(), secret: Some(secret.text.clone()) }))
        })
        .await
}

/// Removes an app for good with all that it was given, at once on this node and within two seconds everywhere.
#[utoipa::path(
    tag = "oauth",
    params(
        ("id" = OauthClientId, Path, description = "The app"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/oauth/clients/{id}")]
pub async fn delete_oauth_client(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<OauthWrite>,
    id: Path<OauthClientId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let actor = caller.in_person()?;
    let (id, now) = (id.0, auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            let row = hold(conn, &caller, id).await?;
            if_match.check(row.version)?;
            note(conn, actor, &row, "oauth_client.removed", now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    auth.admission.forget_app(caller.db.tenant().id, id).await;
    Ok(NoContent)
}
