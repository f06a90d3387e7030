//! Sign-up with an address that is shown to be one's own.

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;
use uuid::Uuid;

use super::forgot::ForgotPassword;
use super::{ByMail, IF_ANYBODY, LINK, planted, policy, store, void};
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{Answer, Envelope, ErrorEnvelope, Hints, Idempotency, InPerson, Json, NoQuery};
use crate::router::{Router, TenantConn, TenantDb, TenantTx};
use crate::tenant::auth::mfa::gate;
use crate::tenant::auth::register::RegisterRequest;
use crate::tenant::auth::{Auth, end_sessions};
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::mail::{self, Mail, Recipient};
use crate::tenant::passwords;
use crate::tenant::users::rules::UserStatus;
use crate::tenant::users::store::{self as users, NewUser, UserChange};

const CONFIRM: ByMail = ByMail { message: "A mail is on its way to this address. Follow its link to confirm it." };

/// How often somebody is told at most that they have an account.
const AGAIN: TimeDelta = TimeDelta::hours(1);

/// Keeps a sign-up until its address is verified. Whoever has the address already is told so, by mail alone.
pub(in crate::tenant::auth) async fn keep(
    conn: &mut TenantTx,
    auth: &Auth,
    db: &TenantDb,
    request: &RegisterRequest,
    hash: &str,
) -> ApiResult<Answer<ByMail>> {
    let (id, now) = (Uuid::now_v7(), auth.clock.now());
    let token = OpaqueToken::of(&db.router().installation().mac, TokenKind::EmailVerification, db.tenant().id, id);
    let new = store::Registration {
        id,
        email: request.email.clone(),
        first_name: request.first_name.clone(),
        last_name: request.last_name.clone(),
        password_hash: hash.to_owned(),
    };
    let found = users::find_by_email(conn, &request.email).await?;
    // The same is done either way: a sign-up with an address that somebody has is of no use to anybody.
    let whose = found.as_ref().map_or(UserId::from(Uuid::nil()), |user| user.id);
    let told = mail::was_sent(conn, whose, &Mail::AlreadyRegistered, now - AGAIN).await?;
    let expires_at = if found.is_some() { now } else { now + LINK };
    store::insert_registration(conn, &new, &token.hash(), now, expires_at).await?;
    let (to, mail) = match found {
        Some(user) => {
            let to = Recipient { user: Some(user.id), address: user.email, name: user.first_name };
            (to, if told { Mail::Nothing } else { Mail::AlreadyRegistered })
        }
        None => (Recipient { user: None, address: new.email, name: new.first_name }, Mail::VerifyEmail),
    };
    mail::queue(conn, db, &to, mail).await?;
    Ok(Answer::accepted(CONFIRM))
}

/// Sends the link that verifies an address once more, if anybody waits for it.
///
/// The answer is always the same. It also verifies the address of an account that has not been verified yet.
#[utoipa::path(
    tag = "auth",
    request_body = ForgotPassword,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sends once, however often it is sent")),
    responses(
        (status = 202, description = "A mail is on its way, if anybody waits for it", body = Envelope<ByMail>),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/verify-email/resend")]
pub async fn resend(
    _: NoQuery,
    router: web::Data<Router>,
    hints: Hints,
    idempotency: Idempotency,
    body: Json<ForgotPassword>,
) -> ApiResult<HttpResponse> {
    let ForgotPassword { tenant, email } = body.0;
    let Some(db) = super::named(&router, tenant.as_deref(), &hints).await? else {
        return idempotency.respond(Answer::accepted(IF_ANYBODY), false);
    };
    let db = &db;
    let to = &Recipient { user: None, address: email, name: String::new() };
    idempotency
        .run(db, "verify-email", async |conn: &mut TenantTx| -> ApiResult<Answer<ByMail>> {
            mail::queue(conn, db, to, Mail::VerifyEmail).await?;
            Ok(Answer::accepted(IF_ANYBODY))
        })
        .await
}

/// The token of a link.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkToken {
    /// Of the link.
    #[garde(skip)]
    #[schema(value_type = String, example = "tev_AZq…")]
    pub token: SecretString,
}

/// Verifies an address by the token of a link, once. Of a sign-up that waited for it, the account is made: log in then. Its link
/// is void where the organisation's policy lets nobody with the address sign up by then.
///
/// If several sign-ups waited for the address, none of their passwords is taken: the account has none, and a mail with a link
/// to choose one is sent to the address at once, as by `forgot-password`. The other links are void.
///
/// Of an account that somebody signed up, passkeys, second factor, accounts at identity providers, API keys and apps are taken
/// away where it has any, and the password and all sessions with them: an impostor may have left them. Its person chooses a
/// password by the mail that is sent then. Whoever sends this signed in as that person by a password (`bearer`) keeps all of it.
#[utoipa::path(
    tag = "auth",
    request_body = LinkToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Verifies once, however often it is sent")),
    responses(
        (status = 204, description = "Verified"),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "`already_exists`: somebody else has the address by now", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/verify-email")]
pub async fn verify_email(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    caller: Option<InPerson>,
    idempotency: Idempotency,
    body: Json<LinkToken>,
) -> ApiResult<HttpResponse> {
    let (db, token) = super::linked(&router, &hints, TokenKind::EmailVerification, &body.0.token).await?;
    let db = &router.at_schema(db, passwords::SINCE).await?;
    let (auth, hash, tenant) = (&**auth, token.hash(), db.tenant().id);
    // Whoever signed up and reads the mail is no impostor. A session that a passkey or a provider opened says less: it may
    // be one that was planted.
    let newcomer = caller
        .map(|InPerson(caller)| caller)
        .filter(|caller| caller.db.tenant().id == tenant && gate::is_by_password(&caller.claims.amr))
        .map(|caller| caller.user());
    let (left, taken) = oneshot::channel();
    let done = idempotency
        .run(db, "verify-email", async move |conn: &mut TenantTx| -> ApiResult<Answer<()>> {
            let now = auth.clock.now();
            if let Some(taken) = store::take_registration(conn, &hash, now).await? {
                // The organisation may have decided otherwise while it waited. It waits on then: the sign-up is not taken.
                if !policy::read(conn, db).await?.lets_in(&taken.registration.email) {
                    return Err(void());
                }
                make(conn, db, &taken, now).await?;
                return Ok(Answer::no_content());
            }
            let user = store::take_token(conn, &hash, "verify_email", now).await?.ok_or_else(void)?;
            let away = if newcomer == Some(user) { None } else { clear(conn, db, user, now).await? };
            store::verified_by(conn, db, user, away.as_ref().map(|away| &*away.said), now).await?;
            // Nobody waits for it where this is a replay.
            let _ = left.send(away);
            Ok(Answer::no_content())
        })
        .await?;
    if let Ok(Some(away)) = taken.await {
        auth.admission.forget_tenant(tenant).await;
        away.forget(auth, tenant).await;
    }
    Ok(done)
}

/// Leaves nothing to an impostor who has signed up with somebody's address, and has its owner follow a link. None where there
/// is nothing but the password: that of a newcomer, who keeps it.
async fn clear(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    now: DateTime<Utc>,
) -> ApiResult<Option<planted::Taken>> {
    let Some(away) = planted::take_away(conn, user).await?.filter(|away| away.any) else { return Ok(None) };
    planted::forget_consents(conn, user).await?;
    super::drop_trust(conn, db, user).await?;
    let person = users::hold(conn, user).await?;
    users::update(conn, user, &UserChange::default(), true, now).await?;
    store::forget_password(conn, user).await?;
    gate::forget_challenges(conn, db, user).await?;
    end_sessions(conn, user, None, "address_verified", now).await?;
    let to = Recipient { user: None, address: person.email, name: String::new() };
    mail::queue(conn, db, &to, Mail::PasswordReset).await?;
    Ok(Some(away))
}

/// Makes the account of a sign-up. Where there were several with its address, nobody can say whose password is that of whoever
/// reads its mail: they choose one by another mail.
async fn make(conn: &mut TenantConn, db: &TenantDb, taken: &store::Taken, now: DateTime<Utc>) -> ApiResult<()> {
    let waiting = &taken.registration;
    let user = NewUser {
        id: UserId::generate(),
        email: &waiting.email,
        first_name: &waiting.first_name,
        last_name: &waiting.last_name,
        status: UserStatus::Active,
        password_hash: (!taken.contested).then_some(&*waiting.password_hash),
    };
    if users::find_by_email(conn, &waiting.email).await?.is_some() {
        return Err(ApiError::already_exists("email", "Somebody with this address has an account by now."));
    }
    users::insert(conn, &user, now).await?;
    let roles = users::newcomer_roles(conn).await?;
    users::set_roles(conn, user.id, &roles).await?;
    store::verified(conn, db, user.id, now).await?;
    if taken.contested {
        let to = Recipient { user: None, address: waiting.email.clone(), name: String::new() };
        mail::queue(conn, db, &to, Mail::PasswordReset).await?;
    }
    Ok(())
}
