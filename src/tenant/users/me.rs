//! One's own profile.

use actix_web::{get, patch, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::User;
use super::rules::name_shape;
use super::store::{self, UserChange};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Envelope, ErrorEnvelope, IfMatch, MergePatch, NoQuery, Patch, SignedIn, Tagged};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;

/// The caller.
#[utoipa::path(
    tag = "users",
    responses(
        (status = 200, description = "The caller, with `ETag`", body = Envelope<User>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[get("/api/v1/users/me")]
pub async fn get_me(_: NoQuery, caller: SignedIn) -> ApiResult<Tagged<User>> {
    let me = caller.user();
    let row =
        caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::find(conn, me).await?) }).await?;
    // Removed between the admission and here: the session went too.
    let row = row.ok_or_else(|| ApiError::new(Code::TokenRevoked))?;
    Ok(Tagged(User::new(row, caller.db.tenant().id)))
}

/// What people may change of themselves.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchMe {
    /// First name; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Ada")]
    pub first_name: Patch<String>,
    /// Last name; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Lovelace")]
    pub last_name: Patch<String>,
}

/// Changes one's own names.
#[utoipa::path(
    tag = "users",
    request_body(content = PatchMe, content_type = "application/merge-patch+json"),
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    responses(
        (status = 200, description = "As changed", body = Envelope<User>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/users/me")]
pub async fn patch_me(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: SignedIn,
    if_match: IfMatch,
    body: MergePatch<PatchMe>,
) -> ApiResult<Tagged<User>> {
    let change = UserChange {
        first_name: body.0.first_name.trimmed(),
        last_name: body.0.last_name.trimmed(),
        ..UserChange::default()
    };
    let (me, now) = (caller.user(), auth.clock.now());
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            if_match.check(store::hold(conn, me).await?.version)?;
            store::update(conn, me, &change, false, now).await?;
            store::get(conn, me).await
        })
        .await?;
    Ok(Tagged(User::new(row, caller.db.tenant().id)))
}
