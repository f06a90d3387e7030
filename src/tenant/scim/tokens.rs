//! The tokens of directories: making, seeing and revoking them.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::{self, TokenRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::TokenKind;
use crate::kernel::{ScimTokenId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, ListFew, Listed, NoContent, NoQuery,
    Path, Permission as _, Query, ShownOnce, check_end,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::auth::session::expose_some;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::permissions::{ScimTokensRead, ScimTokensWrite, UsersWrite};
use crate::tenant::secrets::{self, Secret, note};
use crate::tenant::users::rules::{name_shape, not_blank};

/// Tokens of one tenant.
const MOST: usize = 20;

/// A directory's token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimToken {
    /// Identity.
    pub id: ScimTokenId,
    /// Name.
    #[schema(example = "Entra ID")]
    pub name: String,
    /// The person whose rights bound what it may do.
    pub owner_id: UserId,
    /// The end of the token, to tell tokens apart by.
    #[schema(example = "…x7Qd")]
    pub hint: String,
    /// When it ends; never, if null.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl From<TokenRow> for ScimToken {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, name, owner_id, hint, expires_at, last_used_at, created_at } = row;
        Self { id, name, owner_id, hint, expires_at, last_used_at, created_at }
    }
}

/// A directory's token as it was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewScimToken {
    /// The token.
    #[serde(flatten)]
    pub scim_token: ScimToken,
    /// For `Authorization: Bearer …`. Shown here and never again.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tsc_AZq…")]
    pub token: Option<SecretString>,
}

impl ShownOnce for NewScimToken {
    const SECRET: &'static str = "token";
}

/// A directory's token to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateScimToken {
    /// Whose it is.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Entra ID")]
    pub name: String,
    /// When it ends; never, if left out.
    #[garde(skip)]
    #[schema(example = "2030-01-01T00:00:00Z")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// The tokens of directories, the latest first: twenty at most.
#[utoipa::path(
    tag = "scim",
    params(ListFew),
    responses((status = 200, description = "The tokens", body = ListEnvelope<ScimToken>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/scim-tokens")]
pub async fn list_scim_tokens(
    caller: Authorized<ScimTokensRead>,
    query: Query<ListFew>,
) -> ApiResult<Listed<ScimToken>> {
    let rows = caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::tokens(conn).await?) }).await?;
    let tokens = rows.into_iter().map(ScimToken::from).collect();
    query.0.of(&caller.db, ("scim-tokens", ""), tokens, |token: &ScimToken| token.id.to_string())
}

/// Makes a token with which a directory manages people over SCIM (`/scim/v2`).
///
/// It works in the caller's name and may do what they may do at that moment: who may not change people makes none. Only a
/// person makes one, who has proved who they are within ten minutes (`step_up_required`). Sent again with the same
/// `Idempotency-Key`, it answers the same without the secret: if the first answer did not come, revoke it and make another.
#[utoipa::path(
    tag = "scim",
    request_body = CreateScimToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made, with its secret", body = Envelope<NewScimToken>),
        (status = 409, description = "There are twenty already", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/scim-tokens")]
pub async fn create_scim_token(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ScimTokensWrite>,
    idempotency: Idempotency,
    body: Json<CreateScimToken>,
) -> ApiResult<HttpResponse> {
    let owner = caller.recently()?;
    if !caller.access.allows(UsersWrite::NAME) {
        return Err(ApiError::permission_denied(UsersWrite::NAME));
    }
    let (wanted, now, db) = (&body.0, auth.clock.now(), &caller.db);
    check_end(wanted.expires_at, now)?;
    idempotency
        .run_shown_once(db, &owner.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<NewScimToken>> {
            if store::tokens(conn).await?.len() >= MOST {
                return Err(ApiError::new(Code::Conflict).detail("There are twenty already. Revoke one first."));
            }
            let secret = Secret::new(db, TokenKind::Scim);
            let row = TokenRow {
                id: ScimTokenId::generate(),
                name: wanted.name.trim().to_owned(),
                owner_id: owner,
                hint: secret.hint,
                expires_at: wanted.expires_at,
                last_used_at: None,
                created_at: now,
            };
            store::insert_token(conn, &row, &secret.hash).await?;
            let notice = SecurityNotice::ScimTokenMade { name: row.name.clone() };
            mail::notify_security(conn, db, owner, notice, None).await?;
            note(conn, owner, &row, "scim_token.created", now).await?;
            let made = NewScimToken { scim_token: row.into(), token: Some(secret.text) };
            Ok(Answer::created(made).location("/api/v1/scim-tokens"))
        })
        .await
}

/// Revokes a directory's token, everywhere at once.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`).
#[utoipa::path(
    tag = "scim",
    params(("id" = ScimTokenId, Path, description = "The token")),
    responses((status = 204, description = "Revoked"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/scim-tokens/{id}")]
pub async fn revoke_scim_token(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ScimTokensWrite>,
    id: Path<ScimTokenId>,
) -> ApiResult<NoContent> {
    let actor = caller.recently()?;
    let (id, now, caller) = (id.0, auth.clock.now(), &caller);
    caller
        .db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
            let row = store::hold_token(conn, id).await?.ok_or_else(|| ApiError::not_found("SCIM token"))?;
            secrets::check_power(conn, caller, &row).await?;
            note(conn, actor, &row, "scim_token.revoked", now).await?;
            Ok(store::remove_token(conn, id).await?)
        })
        .await?;
    Ok(NoContent)
}
