//! Identity providers as clients see them; making one.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{self, ProviderKind, client_secret_shape, slug_shape};
use super::store::{self, NewProvider, ProviderRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{IdentityProviderId, RoleId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, ListFew, Listed, NoQuery, Path,
    Query, Tagged, Versioned,
};
use crate::router::{Access, TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{IdentityProvidersRead, IdentityProvidersWrite};
use crate::tenant::users::rules::{may_grant, name_shape, not_blank};
use crate::tenant::users::store as users;

/// Providers of one tenant.
const MOST: i64 = 50;

/// An identity provider, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// Identity.
    pub id: IdentityProviderId,
    /// Its name in addresses: `/api/v1/auth/federation/{provider}/start`.
    #[schema(example = "okta")]
    pub slug: String,
    /// Its name for people.
    #[schema(example = "Okta")]
    pub name: String,
    /// What kind of provider it is.
    pub kind: ProviderKind,
    /// Whose word counts.
    #[schema(example = "https://acme.okta.example")]
    pub issuer: String,
    /// What this organisation is called there.
    #[schema(example = "0oa1b2c3")]
    pub client_id: String,
    /// Whether it has a client's secret.
    pub has_client_secret: bool,
    /// What it is asked for.
    #[schema(example = json!(["openid", "email", "profile"]))]
    pub scopes: Vec<String>,
    /// Where it may send people back to.
    #[schema(example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Vec<String>,
    /// People with a verified address of these domains get an account when they first come.
    #[schema(example = json!(["acme.test"]))]
    pub allowed_domains: Vec<String>,
    /// The name of the role that they get; none, if null.
    #[schema(example = "user")]
    pub default_role: Option<String>,
    /// Whether people may sign in through it.
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<ProviderRow> for IdentityProvider {
    fn from(row: ProviderRow) -> Self {
        Self {
            id: row.id,
            slug: row.slug,
            name: row.name,
            kind: row.kind,
            issuer: row.issuer,
            client_id: row.client_id,
            has_client_secret: row.client_secret_sealed.is_some(),
            scopes: row.scopes,
            redirect_uris: row.redirect_uris,
            allowed_domains: row.allowed_domains,
            default_role: row.default_role,
            enabled: row.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for IdentityProvider {
    fn version(&self) -> i64 {
        self.version
    }
}

/// An identity provider to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateIdentityProvider {
    /// Its name in addresses; no other has it.
    #[garde(custom(slug_shape))]
    #[schema(example = "google")]
    pub slug: String,
    /// Its name for people.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Google")]
    pub name: String,
    /// What kind of provider it is.
    #[garde(skip)]
    #[schema(example = "google")]
    pub kind: ProviderKind,
    /// Whose word counts: of an OpenID provider its issuer, of a GitHub Enterprise Server its address. Left out for Google
    /// and for GitHub itself.
    #[garde(skip)]
    pub issuer: Option<String>,
    /// What this organisation is called there.
    #[garde(length(chars, max = 500), custom(name_shape), custom(not_blank))]
    #[schema(example = "1234.apps.googleusercontent.com")]
    pub client_id: String,
    /// The client's secret, kept sealed and never shown. GitHub's needs one.
    #[garde(inner(custom(client_secret_shape)))]
    #[schema(value_type = Option<String>, format = Password)]
    pub client_secret: Option<SecretString>,
    /// What it is asked for; who somebody is, if left out.
    #[garde(inner(length(max = 20)))]
    pub scopes: Option<Vec<String>>,
    /// Where it may send people back to, to the letter.
    #[garde(length(max = 20))]
    #[schema(example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Vec<String>,
    /// People with a verified address of these domains get an account when they first come; nobody, if left out.
    #[serde(default)]
    #[garde(length(max = 50))]
    #[schema(example = json!(["acme.test"]))]
    pub allowed_domains: Vec<String>,
    /// The name of the role that they get, which may do no more than you; none, if left out.
    #[garde(skip)]
    #[schema(example = "user")]
    pub default_role: Option<String>,
    /// Whether people may sign in through it; yes, if left out.
    #[garde(skip)]
    pub enabled: Option<bool>,
}

/// The identity providers, by name: fifty at most.
#[utoipa::path(
    tag = "identity-providers",
    params(ListFew),
    responses((status = 200, description = "The providers", body = ListEnvelope<IdentityProvider>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/identity-providers")]
pub async fn list_providers(
    caller: Authorized<IdentityProvidersRead>,
    query: Query<ListFew>,
) -> ApiResult<Listed<IdentityProvider>> {
    let rows = caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::list(conn).await?) }).await?;
    let providers = rows.into_iter().map(IdentityProvider::from).collect();
    query.0.of(&caller.db, ("identity-providers", ""), providers, |provider: &IdentityProvider| provider.id.to_string())
}

/// An identity provider.
#[utoipa::path(
    tag = "identity-providers",
    params(("id" = IdentityProviderId, Path, description = "The provider")),
    responses(
        (status = 200, description = "The provider, with `ETag`", body = Envelope<IdentityProvider>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/identity-providers/{id}")]
pub async fn get_provider(
    _: NoQuery,
    caller: Authorized<IdentityProvidersRead>,
    id: Path<IdentityProviderId>,
) -> ApiResult<Tagged<IdentityProvider>> {
    let row = caller.db.read(async |conn: &mut TenantConn| store::get(conn, id.0).await).await?;
    Ok(Tagged(row.into()))
}

/// Makes an identity provider, through which people can sign in at once.
///
/// Only a person makes one, who has proved who they are within ten minutes (`step_up_required`). The role of newcomers may
/// do no more than whoever names it.
#[utoipa::path(
    tag = "identity-providers",
    request_body = CreateIdentityProvider,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made", body = Envelope<IdentityProvider>),
        (status = 409, description = "`already_exists`: `slug`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or the role is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/identity-providers")]
pub async fn create_provider(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<IdentityProvidersWrite>,
    idempotency: Idempotency,
    body: Json<CreateIdentityProvider>,
) -> ApiResult<HttpResponse> {
    let actor = caller.recently()?;
    let wanted = &body.0;
    let (id, now, db, access) = (IdentityProviderId::generate(), auth.clock.now(), &caller.db, &*caller.access);
    let issuer = rules::issuer(wanted.kind, wanted.issuer.as_deref(), auth.admission.foreign().outbound())?;
    let scopes = wanted.scopes.clone().unwrap_or_else(|| rules::default_scopes(wanted.kind));
    rules::check_scopes(wanted.kind, &scopes)?;
    rules::check_redirects(&wanted.redirect_uris)?;
    let domains = rules::domains(&wanted.allowed_domains)?;
    let secret = wanted.client_secret.as_ref().filter(|secret| !secret.expose_secret().is_empty());
    if wanted.kind == ProviderKind::Github && secret.is_none() {
        return Err(ApiError::invalid_field("clientSecret", "required", "GitHub asks for it."));
    }
    let sealed = secret.map(|secret| store::seal(db, id, secret));
    let ceiling: Vec<String> = access.permissions.iter().cloned().collect();
    idempotency
        .run(db, &actor.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<IdentityProvider>> {
            if store::hold_count(conn).await? >= MOST {
                return Err(ApiError::new(Code::Conflict).detail("There are fifty already. Remove one first."));
            }
            let new = NewProvider {
                id,
                slug: &wanted.slug,
                name: wanted.name.trim(),
                kind: wanted.kind.as_str(),
                issuer: &issuer,
                client_id: wanted.client_id.trim(),
                client_secret_sealed: sealed.as_deref(),
                scopes: &scopes,
                redirect_uris: &wanted.redirect_uris,
                allowed_domains: &domains,
                default_role_id: grantable(conn, access, wanted.default_role.as_deref()).await?,
                ceiling: &ceiling,
                enabled: wanted.enabled.unwrap_or(true),
                created_at: now,
                updated_at: now,
            };
            let row = store::insert(conn, &new).await?;
            note(conn, actor, &row, "identity_provider.created", now).await?;
            let (location, version) = (format!("/api/v1/identity-providers/{id}"), row.version);
            Ok(Answer::created(row.into()).location(location).etag(version))
        })
        .await
}

/// The role with a name, which the caller may give.
pub(super) async fn grantable(conn: &mut TenantConn, access: &Access, name: Option<&str>) -> ApiResult<Option<RoleId>> {
    let Some(name) = name else { return Ok(None) };
    let found = users::role_ids(conn, &[name.to_owned()]).await?.first().map(|(id, _)| *id);
    let Some(id) = found else {
        return Err(ApiError::invalid_field("defaultRole", "unknown_role", "There is no such role."));
    };
    may_grant("defaultRole", &access.permissions, &users::permissions_of_roles(conn, &[id]).await?)?;
    Ok(Some(id))
}

/// Writes a line of the audit about a provider.
pub(super) async fn note(
    conn: &mut TenantConn,
    actor: UserId,
    row: &ProviderRow,
    action: &'static str,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let (by, what) = (format!("user:{actor}"), format!("{} ({}, {})", row.name, row.id, row.issuer));
    let entry = Entry { actor: &by, action, user: actor, session: None, reason: Some(&what) };
    Ok(audit::note(conn, &entry, now).await?)
}
