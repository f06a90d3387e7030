//! Apps as administrators see them; registering one.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::rules::{self, OauthGrantType};
use super::store::{self, ClientRow, NewClient};
use crate::error::ApiResult;
use crate::kernel::opaque::TokenKind;
use crate::kernel::{OauthClientId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, Listed, NoQuery, Paging, Path, Query,
    ShownOnce, Tagged, Versioned,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::auth::session::expose_some;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::oauth::scopes;
use crate::tenant::permissions::{OauthRead, OauthWrite};
use crate::tenant::secrets::{Secret, note};
use crate::tenant::users::rules::{name_shape, not_blank};

/// An app, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthClient {
    /// Its `client_id`.
    pub id: OauthClientId,
    /// What people are shown.
    #[schema(example = "Time sheets")]
    pub name: String,
    /// Whose rights bound what it may do in its own name.
    pub owner_id: UserId,
    /// Whether it has a secret.
    pub confidential: bool,
    /// The end of the secret, to tell secrets apart by.
    #[schema(example = "…x7Qd")]
    pub hint: Option<String>,
    /// Until when the secret before the last rotation is good too.
    pub previous_expires_at: Option<DateTime<Utc>>,
    /// Where people may be sent back to.
    #[schema(example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Vec<String>,
    /// How it may come by tokens.
    pub grants: Vec<OauthGrantType>,
    /// What it may ask for: permissions, `openid`, `profile`, `email`.
    #[schema(example = json!(["openid", "contacts:read"]))]
    pub scopes: Vec<String>,
    /// Whether it may do anything at all.
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<ClientRow> for OauthClient {
    fn from(row: ClientRow) -> Self {
        Self {
            confidential: row.is_confidential(),
            id: row.id,
            name: row.name,
            owner_id: row.owner_id,
            hint: row.hint,
            previous_expires_at: row.previous_expires_at,
            redirect_uris: row.redirect_uris,
            grants: row.grants.iter().filter_map(|word| word.parse().ok()).collect(),
            scopes: row.scopes,
            enabled: row.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for OauthClient {
    fn version(&self) -> i64 {
        self.version
    }
}

/// An app as it was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewOauthClient {
    /// The app.
    #[serde(flatten)]
    pub client: OauthClient,
    /// Its `client_secret`. Shown here and never again.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tos_AZq…")]
    pub secret: Option<SecretString>,
}

impl ShownOnce for NewOauthClient {
    const SECRET: &'static str = "secret";
}

/// An app to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateOauthClient {
    /// What people are shown.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Time sheets")]
    pub name: String,
    /// Whether it can keep a secret: an app in a browser or on a phone cannot.
    #[garde(skip)]
    #[schema(example = true)]
    pub confidential: bool,
    /// Where people may be sent back to.
    #[serde(default)]
    #[garde(length(max = 20))]
    #[schema(example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Vec<String>,
    /// How it may come by tokens.
    #[garde(length(max = 3))]
    #[schema(example = json!(["authorization_code", "refresh_token"]))]
    pub grants: Vec<OauthGrantType>,
    /// What it may ask for: permissions, none that you do not have yourself; `openid`, `profile`, `email`.
    #[garde(length(max = 200))]
    #[schema(example = json!(["openid", "contacts:read"]))]
    pub scopes: Vec<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListOauthClients {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The apps, the latest first.
#[utoipa::path(
    tag = "oauth",
    params(ListOauthClients),
    responses((status = 200, description = "A page", body = ListEnvelope<OauthClient>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/oauth/clients")]
pub async fn list_oauth_clients(
    caller: Authorized<OauthRead>,
    query: Query<ListOauthClients>,
) -> ApiResult<Listed<OauthClient>> {
    let ListOauthClients { page_size, cursor, include_total } = query.0;
    let pages = Paging::new(None, page_size, cursor, include_total)?.of(&caller.db, "oauth-clients", "-createdAt", "");
    let seek = pages.seek::<(DateTime<Utc>, Uuid)>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = store::list(conn, seek, limit).await?;
            Ok((rows, if counted { Some(store::count(conn).await?) } else { None }))
        })
        .await?;
    Ok(pages.listed(rows, |row| (row.created_at, row.id.uuid()), total).map(OauthClient::from))
}

/// An app.
#[utoipa::path(
    tag = "oauth",
    params(("id" = OauthClientId, Path, description = "The app")),
    responses(
        (status = 200, description = "The app, with `ETag`", body = Envelope<OauthClient>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/oauth/clients/{id}")]
pub async fn get_oauth_client(
    _: NoQuery,
    caller: Authorized<OauthRead>,
    id: Path<OauthClientId>,
) -> ApiResult<Tagged<OauthClient>> {
    let row = caller.db.read(async |conn: &mut TenantConn| store::get(conn, id.0).await).await?;
    Ok(Tagged(row.into()))
}

/// Registers an app.
///
/// The answer holds its secret, if it keeps one, which is kept nowhere. In its own name it may do what the caller may do at
/// that moment, as far as its scopes go; in a person's name what that person may, as far as they agreed. Only a person
/// registers one. Sent again with the same `Idempotency-Key`, it answers the same without the secret: if the first answer
/// did not come, rotate it.
#[utoipa::path(
    tag = "oauth",
    request_body = CreateOauthClient,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made", body = Envelope<NewOauthClient>),
        (status = 422, description = "Some fields are not valid, or a scope is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/clients")]
pub async fn create_oauth_client(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<OauthWrite>,
    idempotency: Idempotency,
    body: Json<CreateOauthClient>,
) -> ApiResult<HttpResponse> {
    let owner = caller.in_person()?;
    let wanted = &body.0;
    let now = auth.clock.now();
    rules::check(wanted.confidential, &wanted.grants, &wanted.redirect_uris)?;
    scopes::check(&wanted.scopes, &caller.access.permissions)?;
    let grants = &words(&wanted.grants);
    let (db, actor) = (&caller.db, owner.to_string());
    idempotency
        .run_shown_once(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<NewOauthClient>> {
            let secret = wanted.confidential.then(|| Secret::new(db, TokenKind::OauthSecret));
            let new = NewClient {
                id: OauthClientId::generate(),
                name: wanted.name.trim(),
                owner_id: owner,
                secret_hash: secret.as_ref().map(|secret| secret.hash.as_slice()),
                hint: secret.as_ref().map(|secret| secret.hint.as_str()),
                redirect_uris: &wanted.redirect_uris,
                grants,
                scopes: &wanted.scopes,
                created_at: now,
                updated_at: now,
            };
            let row = store::insert(conn, &new).await?;
            note(conn, owner, &row, "oauth_client.created", now).await?;
            let notice = SecurityNotice::AppRegistered { name: row.name.clone() };
            mail::notify_security(conn, db, owner, notice, None).await?;
            let (location, version) = (format!("/api/v1/oauth/clients/{}", row.id), row.version);
            let made = NewOauthClient { client: row.into(), secret: secret.map(|secret| secret.text) };
            Ok(Answer::created(made).location(location).etag(version))
        })
        .await
}

/// The words of ways to tokens, as they are kept: each once.
pub(super) fn words(grants: &[OauthGrantType]) -> Vec<String> {
    let each = OauthGrantType::ALL.iter().filter(|grant| grants.contains(grant));
    each.map(|grant| grant.as_str().to_owned()).collect()
}
