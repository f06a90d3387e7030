//! API keys as clients see them; making one.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::rules;
use super::store::{self, KeyRow, NewKey};
use crate::error::ApiResult;
use crate::kernel::opaque::TokenKind;
use crate::kernel::{ApiKeyId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, Listed, NoQuery, Paging, Path, Query,
    ShownOnce, Tagged, Versioned, check_end,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::auth::session::expose_some;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::permissions::{ApiKeysRead, ApiKeysWrite};
use crate::tenant::secrets::{Secret, note};
use crate::tenant::users::rules::{name_shape, not_blank};

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Identity.
    pub id: ApiKeyId,
    /// Name.
    #[schema(example = "Nightly import")]
    pub name: String,
    /// The person in whose name it works, and whose rights bound what it may do.
    pub owner_id: UserId,
    /// The end of the key, to tell keys apart by.
    #[schema(example = "…x7Qd")]
    pub hint: String,
    /// Permissions that it was given.
    #[schema(example = json!(["contacts:read"]))]
    pub scopes: Vec<String>,
    /// Networks that it may come from; from everywhere, if there are none.
    #[schema(example = json!(["203.0.113.0/24"]))]
    pub allowed_addresses: Vec<String>,
    /// How often it may come within a minute, at each node; as often as it likes, if null.
    pub requests_per_minute: Option<i32>,
    /// When it ends; never, if null.
    pub expires_at: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation is good too.
    pub previous_expires_at: Option<DateTime<Utc>>,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where.
    pub last_used_ip: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            owner_id: row.owner_id,
            hint: row.hint,
            scopes: row.scopes,
            allowed_addresses: row.allowed_addresses,
            requests_per_minute: row.requests_per_minute,
            expires_at: row.expires_at,
            previous_expires_at: row.previous_expires_at,
            last_used_at: row.last_used_at,
            last_used_ip: row.last_used_ip,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for ApiKey {
    fn version(&self) -> i64 {
        self.version
    }

    /// That it is used is no change of it. From where is noted with when.
    fn beside(&self) -> String {
        self.last_used_at.map(|at| at.timestamp_micros().to_string()).unwrap_or_default()
    }
}

/// An API key as it was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewApiKey {
    /// The key.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// For `X-API-Key`. Shown here and never again.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tak_AZq…")]
    pub key: Option<SecretString>,
}

impl ShownOnce for NewApiKey {
    const SECRET: &'static str = "key";
}

/// An API key to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateApiKey {
    /// What it is for.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Nightly import")]
    pub name: String,
    /// Permissions, none that you do not have yourself.
    #[garde(length(max = 200))]
    #[schema(example = json!(["contacts:read"]))]
    pub scopes: Vec<String>,
    /// Networks that it may come from; from everywhere, if left out.
    #[serde(default)]
    #[garde(length(max = 50))]
    #[schema(example = json!(["203.0.113.0/24"]))]
    pub allowed_addresses: Vec<String>,
    /// How often it may come within a minute, at each node.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[schema(example = 600)]
    pub requests_per_minute: Option<i32>,
    /// When it ends; never, if left out.
    #[garde(skip)]
    #[schema(example = "2030-01-01T00:00:00Z")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListApiKeys {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The API keys, the latest first.
#[utoipa::path(
    tag = "api-keys",
    params(ListApiKeys),
    responses((status = 200, description = "A page", body = ListEnvelope<ApiKey>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/api-keys")]
pub async fn list_keys(caller: Authorized<ApiKeysRead>, query: Query<ListApiKeys>) -> ApiResult<Listed<ApiKey>> {
    let ListApiKeys { page_size, cursor, include_total } = query.0;
    let pages = Paging::new(None, page_size, cursor, include_total)?.of(&caller.db, "api-keys", "-createdAt", "");
    let seek = pages.seek::<(DateTime<Utc>, Uuid)>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = store::list(conn, seek, limit).await?;
            Ok((rows, if counted { Some(store::count(conn).await?) } else { None }))
        })
        .await?;
    Ok(pages.listed(rows, |row| (row.created_at, row.id.uuid()), total).map(ApiKey::from))
}

/// An API key.
#[utoipa::path(
    tag = "api-keys",
    params(("id" = ApiKeyId, Path, description = "The key")),
    responses(
        (status = 200, description = "The key, with `ETag`", body = Envelope<ApiKey>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/api-keys/{id}")]
pub async fn get_key(_: NoQuery, caller: Authorized<ApiKeysRead>, id: Path<ApiKeyId>) -> ApiResult<Tagged<ApiKey>> {
    let row = caller.db.read(async |conn: &mut TenantConn| store::get(conn, id.0).await).await?;
    Ok(Tagged(row.into()))
}

/// Makes an API key, which works in the caller's name.
///
/// The answer holds the key, which is kept nowhere. It may do what its scopes say, and never more than the caller may do
/// at that moment; it ends with the caller. Only a person makes one, not another key. Sent again with the same
/// `Idempotency-Key`, it answers the same without the secret: if the first answer did not come, rotate it.
#[utoipa::path(
    tag = "api-keys",
    request_body = CreateApiKey,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made", body = Envelope<NewApiKey>),
        (status = 422, description = "Some fields are not valid, or a scope is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/api-keys")]
pub async fn create_key(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ApiKeysWrite>,
    idempotency: Idempotency,
    body: Json<CreateApiKey>,
) -> ApiResult<HttpResponse> {
    let owner = caller.in_person()?;
    let wanted = &body.0;
    let now = auth.clock.now();
    rules::check_scopes(&wanted.scopes, &caller.access.permissions)?;
    rules::check_addresses(&wanted.allowed_addresses)?;
    check_end(wanted.expires_at, now)?;
    let (db, actor) = (&caller.db, owner.to_string());
    idempotency
        .run_shown_once(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<NewApiKey>> {
            let secret = Secret::new(db, TokenKind::ApiKey);
            let new = NewKey {
                id: ApiKeyId::generate(),
                name: wanted.name.trim(),
                owner_id: owner,
                key_hash: &secret.hash,
                hint: &secret.hint,
                scopes: &wanted.scopes,
                allowed_addresses: &wanted.allowed_addresses,
                requests_per_minute: wanted.requests_per_minute,
                expires_at: wanted.expires_at,
                created_at: now,
                updated_at: now,
            };
            let row = store::insert(conn, &new).await?;
            note(conn, owner, &row, "api_key.created", now).await?;
            let notice = SecurityNotice::ApiKeyMade { name: row.name.clone() };
            mail::notify_security(conn, db, owner, notice, None).await?;
            let (location, version) = (format!("/api/v1/api-keys/{}", row.id), row.version);
            let made = NewApiKey { api_key: row.into(), key: Some(secret.text) };
            Ok(Answer::created(made).location(location).etag(version))
        })
        .await
}
