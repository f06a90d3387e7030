//! What a person is asked, and their answer: for the organisation's own page.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::back::Back;
use super::demands::Proof;
use super::store::{self, RequestRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{OauthClientId, OauthGrantId};
use crate::rest::{
    Answer, Client, Envelope, ErrorEnvelope, Idempotency, InPerson, NoBody, NoQuery, OptionalJson, Path, Reply,
    SignedIn,
};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::auth::session::expose;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::oauth::clients::rules::{OauthGrantType, is_registered};
use crate::tenant::oauth::clients::store::{self as clients, ClientRow};
use crate::tenant::oauth::refusal::Refusal;
use crate::tenant::oauth::token::store::{self as grants, CodeRow, GrantRow};
use crate::tenant::oauth::{consents, ready};

/// How long an app may take to exchange a code.
const CODE_LIFE: TimeDelta = TimeDelta::seconds(60);

/// An app, as people see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskingApp {
    /// Its `client_id`.
    pub id: OauthClientId,
    /// What it is called.
    #[schema(example = "Time sheets")]
    pub name: String,
}

/// What an app asks for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthRequest {
    /// Which app.
    pub client: AskingApp,
    /// For what.
    #[schema(example = json!(["openid", "contacts:read"]))]
    pub scopes: Vec<String>,
    /// Where it would be told.
    #[schema(example = "https://app.example.com/callback")]
    pub redirect_uri: String,
    /// Whether you agreed to all of it before: the page need not ask again. Never, where the app wants you to be asked.
    pub consented: bool,
    /// How the app wants you to be asked: `login`, `consent`, `select_account`.
    #[schema(example = json!(["login"]))]
    pub prompt: Vec<String>,
    /// Seconds that may have passed since you proved who you are.
    #[schema(example = 3600)]
    pub max_age: Option<i32>,
    /// Whether it is too long ago: before you agree, `POST /api/v1/auth/step-up`, or sign in anew.
    pub step_up_required: bool,
    /// Until when it can be answered.
    pub expires_at: DateTime<Utc>,
}

/// How far one agrees.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptOauthRequest {
    /// Some of what was asked for; all of it, if left out.
    #[garde(inner(length(max = 200)))]
    #[schema(example = json!(["openid"]))]
    pub scopes: Option<Vec<String>>,
}

/// Where the browser goes now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// The app's address, with the answer.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "https://app.example.com/callback?code=toc_AZq…&state=af0ifjsldkj&iss=…")]
    pub redirect_to: SecretString,
}

/// The word of a request of this tenant's.
fn word(text: &str, db: &TenantDb) -> ApiResult<OpaqueToken> {
    let read = OpaqueToken::parse(&db.router().installation().mac, TokenKind::OauthRequest, &SecretString::from(text));
    read.filter(|token| token.tenant() == db.tenant().id).ok_or_else(missing)
}

fn missing() -> ApiError {
    ApiError::not_found("request of an app")
}

/// What an app asks you for.
#[utoipa::path(
    tag = "oauth",
    params(("id" = String, Path, description = "`request`, as the browser brought it")),
    responses((status = 200, description = "What it asks", body = Envelope<OauthRequest>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/oauth/requests/{id}")]
pub async fn get_oauth_request(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    id: Path<String>,
) -> ApiResult<Reply<OauthRequest>> {
    let db = ready(&caller.db).await?;
    let (hash, me, now) = (word(&id.0, &db)?.hash(), caller.user(), auth.clock.now());
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        let row = store::find(conn, &hash, now).await?.ok_or_else(missing)?;
        let demands = store::demands(conn, &hash).await?;
        let client = asking(conn, &row).await?;
        let known = consents::store::find(conn, me, row.client_id).await?;
        Ok((row, demands, client, known))
    };
    let (row, demands, client, known) = db.read(read).await?;
    let consented = known.is_some_and(|known| row.scopes.iter().all(|scope| known.contains(scope)));
    Ok(Reply(OauthRequest {
        client: AskingApp { id: client.id, name: client.name },
        consented: consented && !demands.asks_again(),
        prompt: demands.prompts().map(str::to_owned).collect(),
        max_age: demands.max_age,
        step_up_required: demands.is_stale(Proof::of(&caller.claims), row.created_at, now),
        scopes: row.scopes,
        redirect_uri: row.redirect_uri,
        expires_at: row.expires_at,
    }))
}

/// The app that asks, if it still may, and still has the address that it would be told at.
async fn asking(conn: &mut TenantConn, row: &RequestRow) -> ApiResult<ClientRow> {
    let found = clients::find(conn, row.client_id).await?.map(|(client, _)| client);
    let may = |client: &ClientRow| {
        client.enabled
            && client.may(OauthGrantType::AuthorizationCode)
            && is_registered(&client.redirect_uris, &row.redirect_uri)
    };
    found.filter(may).ok_or_else(missing)
}

/// Lets an app have what it asks for, or some of it. Each request is answered once.
///
/// The answer is where the browser goes: to the app, with a code that it exchanges within a minute. What you agreed to is
/// remembered (`/api/v1/oauth/consents`), and you are told by mail of what is new. What the app gets ends with all of your
/// sessions (a new password, signing out everywhere), not with this one alone. An app may want a fresh proof of who you are
/// (`max_age`, `prompt=login`): 403 `step_up_required` until you have stepped up or signed in anew, and the request waits.
#[utoipa::path(
    tag = "oauth",
    request_body = AcceptOauthRequest,
    params(("id" = String, Path, description = "`request`, as the browser brought it")),
    responses(
        (status = 200, description = "Where the browser goes", body = Envelope<Redirect>),
        (status = 422, description = "A scope was not asked for", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/requests/{id}/accept")]
pub async fn accept_oauth_request(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    from: Client,
    id: Path<String>,
    body: OptionalJson<AcceptOauthRequest>,
) -> ApiResult<Reply<Redirect>> {
    let db = &ready(&caller.db).await?;
    let (hash, now) = (word(&id.0, db)?.hash(), auth.clock.now());
    let scopes = &body.0.and_then(|body| body.scopes);
    let (caller, from) = (&caller, &from);
    let redirect_to = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<String> {
            let asked = store::find(conn, &hash, now).await?.ok_or_else(missing)?;
            let demands = store::demands(conn, &hash).await?;
            if !store::hold(conn, (caller.user(), caller.claims.sid), &asked, now).await? {
                return Err(ApiError::new(Code::TokenRevoked));
            }
            if demands.is_stale(Proof::of(&caller.claims), asked.created_at, now) {
                let said =
                    "The app wants you to prove anew who you are. Step up or sign in, and repeat with that token.";
                return Err(ApiError::new(Code::StepUpRequired).detail(said));
            }
            let row = store::take(conn, &hash, now).await?.ok_or_else(missing)?;
            let client = asking(conn, &row).await?;
            let granted = match scopes {
                None => row.scopes.clone(),
                Some(some) => {
                    if let Some(at) = some.iter().position(|scope| !row.scopes.contains(scope)) {
                        let said = "It was not asked for.";
                        return Err(ApiError::invalid_field(format!("scopes[{at}]"), "not_asked", said));
                    }
                    row.scopes.iter().filter(|scope| some.contains(scope)).cloned().collect()
                }
            };
            agree(conn, db, caller, &client, &granted, from, now).await?;
            note(conn, caller, "oauth.granted", (&client, granted.as_slice()), now).await?;
            let code = give(conn, db, caller, &row, granted, now).await?;
            let issuer = db.router().issuer(&db.tenant().slug);
            let back = Back { redirect_uri: &row.redirect_uri, state: row.state.as_deref(), issuer: &issuer };
            Ok(back.granted(code.text().expose_secret()))
        })
        .await?;
    Ok(Reply(Redirect { redirect_to: redirect_to.into() }))
}

/// Remembers what a person agreed to, and tells them of what is new.
async fn agree(
    conn: &mut TenantConn,
    db: &TenantDb,
    caller: &SignedIn,
    client: &ClientRow,
    granted: &[String],
    from: &Client,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let me = caller.user();
    let known = consents::store::hold(conn, me, client.id).await?;
    if known.as_ref().is_some_and(|known| granted.iter().all(|scope| known.contains(scope))) {
        return Ok(());
    }
    let mut all = known.unwrap_or_default();
    all.extend(granted.iter().filter(|scope| !all.contains(scope)).cloned().collect::<Vec<_>>());
    consents::store::set(conn, (me, client.id), &all, now).await?;
    note(conn, caller, "oauth.consented", (client, granted), now).await?;
    let notice = SecurityNotice::AppAllowed { name: client.name.clone() };
    mail::notify_security(conn, db, me, notice, Some(from)).await
}

/// A line in the audit: what an app may have.
async fn note(
    conn: &mut TenantConn,
    caller: &SignedIn,
    action: &'static str,
    (client, granted): (&ClientRow, &[String]),
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let (user, session) = (caller.user(), Some(caller.claims.sid));
    let (actor, what) = (format!("user:{user}"), format!("{} ({}): {}", client.name, client.id, granted.join(" ")));
    audit::note(conn, &Entry { actor: &actor, action, user, session, reason: Some(&what) }, now).await
}

/// Makes a code. What it is exchanged for lives no longer than it, until it is.
async fn give(
    conn: &mut TenantConn,
    db: &TenantDb,
    caller: &SignedIn,
    row: &RequestRow,
    scopes: Vec<String>,
    now: DateTime<Utc>,
) -> ApiResult<OpaqueToken> {
    let grant = GrantRow {
        id: OauthGrantId::generate(),
        client_id: row.client_id,
        user_id: Some(caller.user()),
        scopes,
        amr: caller.claims.amr.clone(),
        auth_time: DateTime::from_timestamp(caller.claims.auth_time, 0).unwrap_or(now),
        nonce: row.nonce.clone(),
        created_at: now,
        expires_at: now + CODE_LIFE,
        revoked_at: None,
    };
    grants::insert_grant(conn, &grant).await?;
    let code = OpaqueToken::generate(&db.router().installation().mac, TokenKind::OauthCode, db.tenant().id);
    let held = CodeRow {
        redirect_uri: row.redirect_uri.clone(),
        code_challenge: row.code_challenge.clone(),
        expires_at: grant.expires_at,
        used_at: None,
    };
    grants::insert_code(conn, &code.hash(), grant.id, &held).await?;
    Ok(code)
}

/// Lets an app have nothing of what it asks for. Each request is answered once.
#[utoipa::path(
    tag = "oauth",
    params(
        ("id" = String, Path, description = "`request`, as the browser brought it"),
        ("Idempotency-Key" = Option<String>, Header, description = "Answers the same, however often it is sent"),
    ),
    responses((status = 200, description = "Where the browser goes", body = Envelope<Redirect>), Refusals),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/requests/{id}/deny")]
pub async fn deny_oauth_request(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let db = &ready(&caller.db).await?;
    let (hash, now) = (word(&id.0, db)?.hash(), auth.clock.now());
    idempotency
        .run(db, &caller.user().to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<Redirect>> {
            let row = store::take(conn, &hash, now).await?.ok_or_else(missing)?;
            let issuer = db.router().issuer(&db.tenant().slug);
            let back = Back { redirect_uri: &row.redirect_uri, state: row.state.as_deref(), issuer: &issuer };
            let refusal = Refusal::new("access_denied", "The person did not agree.");
            Ok(Answer::ok(Redirect { redirect_to: back.refused(&refusal).into() }))
        })
        .await
}
