//! Token issuers as clients see them; registering one.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{self, MatchBy};
use super::store::{self, IssuerRow, NewIssuer};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{RoleId, TokenIssuerId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, ListFew, Listed, NoQuery, Path,
    Query, Tagged, Versioned,
};
use crate::router::{Access, TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{TokenIssuersRead, TokenIssuersWrite};
use crate::tenant::users::rules::{comparable, may_grant, name_shape, not_blank};
use crate::tenant::users::store as users;

/// Issuers of one tenant.
const MOST: i64 = 50;

/// A word of the issuer's that stands for a role.
#[derive(Debug, Clone, Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleWord {
    /// As it stands in the claim.
    #[garde(length(chars, max = 200), custom(name_shape), custom(not_blank))]
    #[schema(example = "staff")]
    pub word: String,
    /// The role's name.
    #[garde(length(chars, max = 64))]
    #[schema(example = "user")]
    pub role: String,
}

/// An issuer whose access tokens are taken, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenIssuer {
    /// Identity.
    pub id: TokenIssuerId,
    /// Name.
    #[schema(example = "Our old login")]
    pub name: String,
    /// The `iss` of its tokens.
    #[schema(example = "https://id.example.com")]
    pub issuer: String,
    /// The `aud` that its tokens have for us.
    #[schema(example = "tenantry")]
    pub audience: String,
    /// Where its public keys are; null where a secret is shared with it.
    pub jwks_url: Option<String>,
    /// By what its subjects are known here.
    pub match_by: MatchBy,
    /// The claim with the address, where they are known by that.
    #[schema(example = "email")]
    pub email_claim: String,
    /// The claim whose words stand for roles; null where bearers have their own.
    pub roles_claim: Option<String>,
    /// Its words.
    pub roles: Vec<RoleWord>,
    /// What no bearer goes beyond: the permissions of whoever last wrote this.
    #[schema(example = json!(["contacts:read"]))]
    pub ceiling: Vec<String>,
    /// Whether its tokens are taken.
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl TokenIssuer {
    fn new(row: IssuerRow, words: &[(TokenIssuerId, String, RoleId, String)]) -> Self {
        let own = words.iter().filter(|(issuer, ..)| *issuer == row.id);
        Self {
            id: row.id,
            name: row.name,
            issuer: row.issuer,
            audience: row.audience,
            jwks_url: row.jwks_url,
            match_by: row.match_by,
            email_claim: row.email_claim,
            roles_claim: row.roles_claim,
            roles: own.map(|(_, word, _, role)| RoleWord { word: word.clone(), role: role.clone() }).collect(),
            ceiling: row.ceiling,
            enabled: row.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for TokenIssuer {
    fn version(&self) -> i64 {
        self.version
    }
}

/// An issuer to be registered.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTokenIssuer {
    /// What it is.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Our old login")]
    pub name: String,
    /// The `iss` of its tokens, to the letter; no other has it.
    #[garde(length(max = 2048), custom(name_shape), custom(not_blank))]
    #[schema(example = "https://id.example.com")]
    pub issuer: String,
    /// The `aud` that its tokens have for us.
    #[garde(length(chars, max = 500), custom(name_shape), custom(not_blank))]
    #[schema(example = "tenantry")]
    pub audience: String,
    /// Where its public keys are (RFC 7517). This, or a secret.
    #[garde(inner(length(max = 2048)))]
    #[schema(example = "https://id.example.com/jwks.json")]
    pub jwks_url: Option<String>,
    /// A secret shared with it, of 32 to 1,024 bytes, for HS256: kept sealed and never shown. An operator of the installation
    /// alone registers one so; the organisation itself is refused (422 `operator_only`).
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub secret: Option<SecretString>,
    /// By what its subjects are known here.
    #[garde(skip)]
    #[schema(example = "email")]
    pub match_by: MatchBy,
    /// The claim with the address, `email` if left out; `email_verified` has to be true beside it.
    #[garde(inner(length(chars, min = 1, max = 100), custom(name_shape)))]
    pub email_claim: Option<String>,
    /// The claim whose words stand for roles; left out, bearers have their own.
    #[garde(inner(length(chars, min = 1, max = 100), custom(name_shape)))]
    pub roles_claim: Option<String>,
    /// Its words, for roles that may do no more than you.
    #[serde(default)]
    #[garde(dive, length(max = 100))]
    pub roles: Vec<RoleWord>,
    /// Whether its tokens are taken; yes, if left out.
    #[garde(skip)]
    pub enabled: Option<bool>,
}

/// The issuers whose access tokens are taken, by name: fifty at most.
#[utoipa::path(
    tag = "token-issuers",
    params(ListFew),
    responses((status = 200, description = "The issuers", body = ListEnvelope<TokenIssuer>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/token-issuers")]
pub async fn list_issuers(
    caller: Authorized<TokenIssuersRead>,
    query: Query<ListFew>,
) -> ApiResult<Listed<TokenIssuer>> {
    let issuers = caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { all(conn).await }).await?;
    query.0.of(&caller.db, ("token-issuers", ""), issuers, |issuer: &TokenIssuer| issuer.id.to_string())
}

pub(super) async fn all(conn: &mut TenantConn) -> ApiResult<Vec<TokenIssuer>> {
    let (rows, words) = (store::list(conn).await?, store::words(conn).await?);
    Ok(rows.into_iter().map(|row| TokenIssuer::new(row, &words)).collect())
}

/// An issuer whose access tokens are taken.
#[utoipa::path(
    tag = "token-issuers",
    params(("id" = TokenIssuerId, Path, description = "The issuer")),
    responses(
        (status = 200, description = "The issuer, with `ETag`", body = Envelope<TokenIssuer>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/token-issuers/{id}")]
pub async fn get_issuer(
    _: NoQuery,
    caller: Authorized<TokenIssuersRead>,
    id: Path<TokenIssuerId>,
) -> ApiResult<Tagged<TokenIssuer>> {
    Ok(Tagged(caller.db.read(async |conn: &mut TenantConn| shown(conn, id.0).await).await?))
}

pub(super) async fn shown(conn: &mut TenantConn, id: TokenIssuerId) -> ApiResult<TokenIssuer> {
    Ok(TokenIssuer::new(store::get(conn, id).await?, &store::words(conn).await?))
}

/// Registers an issuer: its access tokens are taken from here on, of this organisation's requests alone.
///
/// Whoever sends one names the tenant with `X-Tenant-ID` or the subdomain. No bearer may do more than you may do now. Only a
/// person registers one, who has proved who they are within ten minutes (`step_up_required`). One with a shared secret is
/// registered by an operator alone.
#[utoipa::path(
    tag = "token-issuers",
    request_body = CreateTokenIssuer,
    params(("Idempotency-Key" = Option<String>, Header, description = "Registers one, however often it is sent")),
    responses(
        (status = 201, description = "Registered", body = Envelope<TokenIssuer>),
        (status = 409, description = "`already_exists`: `issuer`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a role is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/token-issuers")]
pub async fn create_issuer(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TokenIssuersWrite>,
    idempotency: Idempotency,
    body: Json<CreateTokenIssuer>,
) -> ApiResult<HttpResponse> {
    let actor = caller.recently()?;
    let (auth, wanted, access) = (&**auth, &body.0, &*caller.access);
    let db = &caller.db;
    if wanted.secret.is_some() {
        return Err(rules::operators_alone());
    }
    check(auth, db, wanted)?;
    let by = By::from(actor);
    let answer = idempotency
        .run(db, &actor.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<TokenIssuer>> {
            let new = (TokenIssuerId::generate(), wanted);
            let made = register(conn, (auth, db), (&by, access), new).await?;
            let (location, version) = (format!("/api/v1/token-issuers/{}", made.id), made.version);
            Ok(Answer::created(made).location(location).etag(version))
        })
        .await?;
    auth.admission.forget_issuers(db.tenant().id).await;
    Ok(answer)
}

/// What is wrong with an issuer that can be said without the database.
pub(super) fn check(auth: &Auth, db: &TenantDb, wanted: &CreateTokenIssuer) -> ApiResult<()> {
    rules::check_issuer(&wanted.issuer, &db.router().config().public_url)?;
    match (&wanted.jwks_url, &wanted.secret) {
        (Some(address), None) => rules::check_address(address, auth.admission.foreign().outbound()),
        (None, Some(secret)) => rules::check_secret(secret),
        _ => {
            let said = "Name the address of its keys, or a secret that is shared with it: one of them.";
            Err(ApiError::invalid_field("jwksUrl", "required", said))
        }
    }
}

/// Registers an issuer that was [`check`]ed, whose bearers may do no more than whoever registers it.
pub(super) async fn register(
    conn: &mut TenantConn,
    (auth, db): (&Auth, &TenantDb),
    (by, access): (&By, &Access),
    (id, wanted): (TokenIssuerId, &CreateTokenIssuer),
) -> ApiResult<TokenIssuer> {
    let now = auth.clock.now();
    let sealed = wanted.secret.as_ref().map(|secret| store::seal(db, id, secret));
    let ceiling: Vec<String> = access.permissions.iter().cloned().collect();
    if store::hold_count(conn).await? >= MOST {
        return Err(ApiError::new(Code::Conflict).detail("There are fifty already. Remove one first."));
    }
    let new = NewIssuer {
        id,
        name: wanted.name.trim(),
        issuer: &wanted.issuer,
        audience: &wanted.audience,
        jwks_url: wanted.jwks_url.as_deref(),
        secret_sealed: sealed.as_deref(),
        match_by: wanted.match_by.as_str(),
        email_claim: wanted.email_claim.as_deref().unwrap_or("email"),
        roles_claim: wanted.roles_claim.as_deref(),
        ceiling: &ceiling,
        enabled: wanted.enabled.unwrap_or(true),
        created_at: now,
        updated_at: now,
    };
    store::insert(conn, &new).await?;
    let words = grantable(conn, access, &wanted.roles).await?;
    store::set_words(conn, id, &words).await?;
    let made = shown(conn, id).await?;
    note(conn, by, (id, &made.issuer), "token_issuer.created", now).await?;
    Ok(made)
}

/// The roles behind words, all of which the caller may give.
pub(super) async fn grantable(
    conn: &mut TenantConn,
    access: &Access,
    words: &[RoleWord],
) -> ApiResult<Vec<(String, RoleId)>> {
    let names: Vec<String> = words.iter().map(|one| one.role.clone()).collect();
    let found = users::role_ids(conn, &names).await?;
    let ids: Vec<RoleId> = found.iter().map(|(id, _)| *id).collect();
    may_grant("roles", &access.permissions, &users::permissions_of_roles(conn, &ids).await?)?;
    let role = |(at, one): (usize, &RoleWord)| match found.iter().find(|(_, name)| *name == one.role) {
        Some((id, _)) => Ok((comparable(&one.word), *id)),
        None => Err(ApiError::invalid_field(format!("roles[{at}].role"), "unknown_role", "There is no such role.")),
    };
    words.iter().enumerate().map(role).collect()
}

/// Who does something with an issuer.
#[derive(Debug, Clone)]
pub(super) enum By {
    /// A person of the organisation.
    Person(UserId),
    /// Somebody who runs the installation: `operator:id`.
    Operator(String),
}

impl From<UserId> for By {
    fn from(user: UserId) -> Self {
        Self::Person(user)
    }
}

/// Writes a line of the audit about an issuer.
pub(super) async fn note(
    conn: &mut TenantConn,
    by: &By,
    (id, issuer): (TokenIssuerId, &str),
    action: &'static str,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let what = format!("{issuer} ({id})");
    match by {
        By::Person(user) => {
            let actor = format!("user:{user}");
            let entry = Entry { actor: &actor, action, user: *user, session: None, reason: Some(&what) };
            Ok(audit::note::<TenantConn>(conn, &entry, now).await?)
        }
        By::Operator(actor) => Ok(audit::note_tenant::<TenantConn>(conn, actor, action, &what, now).await?),
    }
}
