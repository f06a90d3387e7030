//! Login, refresh and logout.

use actix_web::{post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::attempts::{self, Kind, Line, Outcome, Try, judge, locked};
use super::captcha;
use super::mfa::{self, LoggedIn};
use super::rules::{Rotation, login_rate, rotation, slowdown};
use super::session::{self, Identity, SignIn};
use super::settings::{Auth, delta};
use super::store::{self, Credentials};
use super::strangers::Stranger;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{
    Client, Envelope, ErrorEnvelope, Hints, InPerson, Json, NoBody, NoContent, NoQuery, RateNote, RefreshCookie, Reply,
    SignedIn, Visitor,
};
use crate::router::{self, Router, TenantConn, TenantDb, TenantTx};
use crate::tenant::docs::{Refusals, StrangerRefusals};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::security::session_rules;
use crate::tenant::teams;
use crate::tenant::users;
use crate::tenant::users::rules::email_key;

/// Who wants in.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginRequest {
    /// The tenant's slug, unless `X-Tenant-ID` or the host names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
    /// Address.
    #[garde(length(max = 320))]
    #[schema(example = "ada@acme.test")]
    pub email: String,
    /// Password.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub password: SecretString,
    /// Of a device that was trusted with the second factor: `deviceToken` of `/api/v1/auth/mfa`. Left out where it is in a
    /// cookie.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "tdv_AZq…")]
    pub device_token: Option<SecretString>,
    /// What the browser got for a solved CAPTCHA: after `captcha_required`.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "0.zrSnRHO7h0HwSjSCU8oyzbjEtD8p…")]
    pub captcha_token: Option<SecretString>,
}

/// Logs in.
///
/// An unknown tenant, a suspended one, an unknown address, a wrong password and a person who may not come in answer
/// alike. After five failures within 15 minutes the account is locked, whether it is anybody's or not, and answers 429
/// to the right password too; whoever fails over many accounts waits longer each time. Where many were tried, and the
/// organisation has a CAPTCHA, it asks for one. Each call opens a session of its own; `Idempotency-Key` has no effect here.
///
/// Who has a second factor gets `mfaRequired` and a token for `/api/v1/auth/mfa` instead.
#[utoipa::path(
    tag = "auth",
    request_body = LoginRequest,
    responses(
        (status = 200, description = "Signed in, or the second factor is asked for", body = Envelope<LoggedIn>),
        (status = 401, description = "`invalid_credentials`", body = ErrorEnvelope),
        (status = 403, description = "`captcha_required`", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/login")]
pub async fn login(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    visitor: Visitor,
    rate: RateNote,
    body: Json<LoginRequest>,
) -> ApiResult<Reply<LoggedIn>> {
    let limits = &auth.settings.limits;
    let stands = |failures| rate.note("login", login_rate(failures, limits));
    let LoginRequest { tenant, email, password, device_token, captcha_token } = body.0;
    let (email, device_token) = (email_key(&email), device_token.or(visitor.device));
    let client = visitor.client;
    match router.named(tenant.as_deref(), &hints).await {
        Ok(db) => {
            let line = Line::new(&auth, &db, &email, &client, Kind::Password).device(&db, device_token.as_ref());
            let tokens = (device_token, captcha_token);
            let done = login_to(&auth, &db, &line, password, &client, tokens, &stands).await?;
            stands(0);
            Ok(Reply(done))
        }
        Err(router::Error::TenantUnknown) => {
            let named = tenant.as_deref().or(hints.header.as_deref()).or(hints.host.as_deref()).unwrap_or_default();
            let (mac, named) = (&router.installation().mac, named.to_lowercase());
            let who = |what: &str| mac.digest("login-stranger", &[named.as_bytes(), what.as_bytes()]);
            let network = client.network().map(|network| who(&network));
            Err(login_nowhere(&auth, Stranger { account: who(&email), network }, password, &stands).await)
        }
        Err(error) => Err(error.into()),
    }
}

async fn login_to(
    auth: &Auth,
    db: &TenantDb,
    line: &Line<'_>,
    password: SecretString,
    client: &Client,
    (device, captcha): (Option<SecretString>, Option<SecretString>),
    stands: &impl Fn(usize),
) -> ApiResult<LoggedIn> {
    let hasher = auth.passwords.of(db.tenant().id);
    let arrived = hasher.admit().await?;
    // Perhaps some seconds later.
    let line = &line.again(auth);
    let (standing, found) = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            Ok((attempts::look(conn, line).await?, store::credentials(conn, line.email_key).await?))
        })
        .await?;
    if let Some(left) = standing.locked(line) {
        return Err(locked(left, &auth.settings.limits));
    }
    // Unless it is right.
    stands(standing.failures() + 1);
    let slowdown = standing.slowdown(line);
    // Who is held up for other reasons holds up nobody else.
    let arrived = Some(arrived).filter(|_| slowdown.is_zero() && !standing.is_suspicious());
    if standing.is_suspicious() {
        captcha::demand(auth, db, client, captcha).await?;
    }
    tokio::time::sleep(slowdown).await;
    let hash = found.as_ref().and_then(Credentials::usable_hash);
    let checked = hasher.check(password, hash).await?;
    drop(arrived);
    let known = found.as_ref().map(|c| c.user);
    let matched = found.filter(|_| checked.matches());
    let line = &line.again(auth);
    // A refusal is an outcome, not an error: what was counted has to stay.
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<ApiResult<LoggedIn>> {
        match judge(conn, &Try { line, known, matched: matched.as_ref() }).await? {
            Outcome::Passed(user) => {
                if let Some(renewed) = checked.renewed() {
                    store::renew_hash(conn, user, renewed).await?;
                }
                let person = users::store::get(conn, user).await?;
                let next = mfa::gate::enter(conn, auth, db, person, client, device.as_ref()).await?;
                if matches!(next, LoggedIn::In(_)) {
                    attempts::succeed(conn, line, user).await?;
                }
                Ok(Ok(next))
            }
            Outcome::Refused => Ok(Err(ApiError::new(Code::InvalidCredentials))),
            Outcome::Locked(left) => Ok(Err(locked(left, &auth.settings.limits))),
        }
    })
    .await?
}

/// A login at a tenant that is none, or suspended: the same work, the same answers.
async fn login_nowhere(auth: &Auth, who: Stranger, password: SecretString, stands: &impl Fn(usize)) -> ApiError {
    let failures = match auth.strangers.look(&who, auth.clock.now()).await {
        Ok(failures) => failures,
        Err(left) => return locked(left, &auth.settings.limits),
    };
    stands(failures + 1);
    tokio::time::sleep(slowdown(failures)).await;
    if let Err(overloaded) = auth.passwords.of_nobody().verify(password, None).await {
        return overloaded;
    }
    match auth.strangers.fail(who, auth.clock.now()).await {
        Some(left) => locked(left, &auth.settings.limits),
        None => ApiError::new(Code::InvalidCredentials),
    }
}

/// A refresh token.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefreshRequest {
    /// As the last login or refresh gave it. Left out where it is in a cookie.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "trf_AZq…")]
    pub refresh_token: Option<SecretString>,
}

/// Exchanges a refresh token for the next pair.
///
/// A token is exchanged once. Presented again within the grace (30 s by default) it gives the same successor, for a
/// client whose answer was lost. Presented later it has been stolen by somebody, and the whole session ends.
#[utoipa::path(
    tag = "auth",
    request_body = RefreshRequest,
    responses(
        (status = 200, description = "The next pair", body = Envelope<SignIn>),
        (status = 401, description = "`token_invalid`, `token_expired`, or `token_revoked`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/refresh")]
pub async fn refresh(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    cookie: RefreshCookie,
    body: Json<RefreshRequest>,
) -> ApiResult<Reply<SignIn>> {
    let missing = || ApiError::invalid_field("refreshToken", "required", "It is missing.");
    let presented = body.0.refresh_token.or(cookie.0).ok_or_else(missing)?;
    let invalid = || ApiError::new(Code::TokenInvalid);
    let mac = &router.installation().mac;
    let token = OpaqueToken::parse(mac, TokenKind::Refresh, &presented).ok_or_else(invalid)?;
    let db = router.routed(&token, &hints).await?;
    let tenant = db.tenant().id;
    let auth = &**auth;
    let db_ref = &db;
    let (answer, reused) = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            let Some(family) = store::hold_family(conn, &token.hash()).await? else {
                return Ok((Err(invalid()), None));
            };
            let now = auth.clock.now();
            let rules = session_rules(conn, db_ref, auth.settings.session_lifetimes()).await?;
            // The operator may have shortened lives since.
            let presented = rules.lifetimes.clip(family.token, family.opened_at, family.given_at);
            let verdict = rotation(&presented, delta(auth.settings.refresh_grace), now);
            let refused = |code| Ok((Err(ApiError::new(code)), None));
            match verdict {
                Rotation::Expired => return refused(Code::TokenExpired),
                Rotation::Ended => return refused(Code::TokenRevoked),
                Rotation::Reuse => {
                    // Ending the session has to stay, so this is no error of the transaction.
                    store::end_session(conn, family.session, "refresh_token_reused", now).await?;
                    mail::notify_security(conn, db_ref, family.user, SecurityNotice::SessionStolen, None).await?;
                    return Ok((Err(ApiError::new(Code::TokenRevoked)), Some((family.session, family.user))));
                }
                Rotation::Rotate | Rotation::Repeat => {}
            }
            let successor = token.successor(mac, TokenKind::Refresh);
            let user = users::store::get(conn, family.user).await?;
            let roles = teams::all_roles(conn, db_ref, &user).await?;
            let identity = Identity {
                session: family.session,
                extra: rules.claims.of(conn, db_ref, (&user, &roles)).await?,
                roles,
                expires_at: rules.lifetimes.end(family.opened_at, now),
                amr: family.amr,
                auth_time: family.auth_time,
            };
            if !mfa::gate::is_satisfied(&identity.amr) && mfa::gate::is_demanded(conn, db_ref, &identity.roles).await? {
                store::end_session(conn, family.session, "second_factor_demanded", now).await?;
                return refused(Code::TokenRevoked);
            }
            if verdict == Rotation::Rotate {
                store::rotate(conn, identity.session, (&token.hash(), &successor.hash()), now, identity.expires_at)
                    .await?;
                session::know_rights(conn, db_ref, identity.session).await?;
            }
            Ok((session::answer(auth, db_ref, user, &identity, &successor, now), None))
        })
        .await?;
    if let Some((session, user)) = reused {
        auth.admission.forget(tenant, session).await;
        tracing::warn!(
            target: "tenantry::security",
            event = "session.stolen",
            %tenant,
            %user,
            %session,
            "a refresh token was used twice; the session has ended"
        );
    }
    answer.map(Reply)
}

/// Ends this session.
#[utoipa::path(
    tag = "auth",
    responses((status = 204, description = "Signed out"), Refusals),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/logout")]
pub async fn logout(_: NoQuery, auth: web::Data<Auth>, caller: SignedIn, _: NoBody) -> ApiResult<NoContent> {
    let (session, now) = (caller.claims.sid, auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            Ok(store::end_session(conn, session, "logout", now).await?)
        })
        .await?;
    auth.admission.forget(caller.db.tenant().id, session).await;
    Ok(NoContent)
}

/// Ends all sessions of the caller, this one included.
#[utoipa::path(
    tag = "auth",
    responses((status = 204, description = "Signed out everywhere"), Refusals),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/logout-all")]
pub async fn logout_all(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    _: NoBody,
) -> ApiResult<NoContent> {
    let (db, user, now) = (&caller.db, caller.user(), auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            mfa::gate::forget_challenges(conn, db, user).await?;
            Ok(store::end_sessions(conn, user, None, "logout_all", now).await?)
        })
        .await?;
    auth.admission.forget_user(caller.db.tenant().id, user).await;
    Ok(NoContent)
}
