//! Changing, rotating and revoking API keys.

use actix_web::{HttpResponse, delete, patch, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{ApiKey, NewApiKey};
use super::rules;
use super::store::{self, KeyChange, KeyRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::ApiKeyId;
use crate::kernel::opaque::TokenKind;
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, MergePatch, NoContent, NoQuery, Patch,
    Path, Tagged, check_end,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::permissions::ApiKeysWrite;
use crate::tenant::secrets::{self, Secret, note};
use crate::tenant::users::rules::{name_shape, not_blank};

/// A change of an API key.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchApiKey {
    /// What it is for.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "Nightly import")]
    pub name: Patch<String>,
    /// Permissions, none that you do not have yourself; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 200)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["contacts:read"]))]
    pub scopes: Patch<Vec<String>>,
    /// Networks that it may come from; null for everywhere.
    #[serde(default)]
    #[garde(inner(length(max = 50)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["203.0.113.0/24"]))]
    pub allowed_addresses: Patch<Vec<String>>,
    /// How often it may come within a minute, at each node; null for as often as it likes.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[schema(value_type = Option<i32>, example = 600)]
    pub requests_per_minute: Patch<i32>,
    /// When it ends; null for never.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<DateTime<Utc>>, example = "2030-01-01T00:00:00Z")]
    pub expires_at: Patch<DateTime<Utc>>,
}

/// Holds a key that the caller may have power over.
async fn hold(conn: &mut TenantConn, caller: &Authorized<ApiKeysWrite>, id: ApiKeyId) -> ApiResult<KeyRow> {
    let row = store::hold(conn, id).await?;
    secrets::check_power(conn, caller, &row).await?;
    Ok(row)
}

/// Changes an API key, at once on this node and within two seconds everywhere.
#[utoipa::path(
    tag = "api-keys",
    request_body(content = PatchApiKey, content_type = "application/merge-patch+json"),
    params(
        ("id" = ApiKeyId, Path, description = "The key"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<ApiKey>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a scope is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/api-keys/{id}")]
pub async fn patch_key(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ApiKeysWrite>,
    id: Path<ApiKeyId>,
    if_match: IfMatch,
    body: MergePatch<PatchApiKey>,
) -> ApiResult<Tagged<ApiKey>> {
    let actor = caller.in_person()?;
    let (id, now) = (id.0, auth.clock.now());
    let PatchApiKey { name, scopes, allowed_addresses, requests_per_minute, expires_at } = body.0;
    if name == Patch::Null {
        return Err(ApiError::invalid_field("name", "required", "A key has a name."));
    }
    let change = KeyChange {
        name: name.value().map(|name| name.trim().to_owned()),
        scopes: scopes.or_empty(),
        allowed_addresses: allowed_addresses.or_empty(),
        requests_per_minute: requests_per_minute.into_change(),
        expires_at: expires_at.into_change(),
    };
    rules::check_scopes(change.scopes.as_deref().unwrap_or_default(), &caller.access.permissions)?;
    rules::check_addresses(change.allowed_addresses.as_deref().unwrap_or_default())?;
    check_end(change.expires_at.flatten(), now)?;
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<KeyRow> {
            if_match.check(hold(conn, &caller, id).await?.version)?;
            let row = store::update(conn, id, &change, now).await?;
            note(conn, actor, &row, "api_key.changed", now).await?;
            Ok(row)
        })
        .await?;
    auth.admission.forget_key(caller.db.tenant().id, id).await;
    Ok(Tagged(row.into()))
}

/// For how long the old secret stays good.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateApiKey {
    /// Seconds, at most 30 days; a day if left out, none with 0.
    #[garde(inner(range(min = 0, max = 2_592_000)))]
    #[schema(example = 3600)]
    pub overlap_seconds: Option<i64>,
}

/// Gives an API key another secret. The old one stays good for a while, so that programs can be changed one by one.
#[utoipa::path(
    tag = "api-keys",
    request_body = RotateApiKey,
    params(
        ("id" = ApiKeyId, Path, description = "The key"),
        ("Idempotency-Key" = Option<String>, Header, description = "Rotates once, however often it is sent"),
    ),
    responses(
        (status = 200, description = "With its new secret", body = Envelope<NewApiKey>),
        (status = 409, description = "The secret before the last rotation is still good", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/api-keys/{id}/rotate")]
pub async fn rotate_key(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ApiKeysWrite>,
    id: Path<ApiKeyId>,
    idempotency: Idempotency,
    body: Json<RotateApiKey>,
) -> ApiResult<HttpResponse> {
    let actor = caller.in_person()?;
    let (id, now) = (id.0, auth.clock.now());
    let secret = &Secret::new(&caller.db, TokenKind::ApiKey);
    let caller_ref = &caller;
    let answer = idempotency
        .run_shown_once(&caller.db, &actor.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<NewApiKey>> {
            let caller = caller_ref;
            let before = hold(conn, caller, id).await?;
            let until = secrets::overlap(body.0.overlap_seconds, before.previous_expires_at, now)?;
            // A new secret in the hands of whoever asks is as good as a new key.
            rules::check_scopes(&before.scopes, &caller.access.permissions)?;
            let row = store::rotate(conn, id, secret, until, now).await?;
            note(conn, actor, &row, "api_key.rotated", now).await?;
            let notice = SecurityNotice::ApiKeyRotated { name: row.name.clone() };
            mail::notify_security(conn, &caller.db, row.owner_id, notice, None).await?;
            Ok(Answer::ok(NewApiKey { api_key: row.into(), key: Some(secret.text.clone()) }))
        })
        .await?;
    auth.admission.forget_key(caller.db.tenant().id, id).await;
    Ok(answer)
}

/// Revokes an API key for good, at once on this node and within two seconds everywhere.
#[utoipa::path(
    tag = "api-keys",
    params(
        ("id" = ApiKeyId, Path, description = "The key"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Revoked"),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/api-keys/{id}")]
pub async fn revoke_key(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ApiKeysWrite>,
    id: Path<ApiKeyId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let actor = caller.in_person()?;
    let (id, now) = (id.0, auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            let row = hold(conn, &caller, id).await?;
            if_match.check(row.version)?;
            note(conn, actor, &row, "api_key.revoked", now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    auth.admission.forget_key(caller.db.tenant().id, id).await;
    Ok(NoContent)
}
