//! How people come to an account of their own and back to it, by links in mails: sign-up with a verified address, a new
//! password, another address.
//!
//! What a stranger asks for with an address costs and answers the same whether anybody has the address: a mail is queued
//! either way, and only whoever sends it looks for the person.

mod email;
mod forgot;
mod planted;
mod policy;
pub(super) mod store;
pub(super) mod verify;

pub(in crate::tenant) use policy::may_invite;
pub(super) use policy::policy_of;
pub use policy::{SignUpMode, SignUpPolicy};

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::mfa;
use crate::error::{ApiError, ApiResult, Code, Limit};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Hints;
use crate::router::{Error, Router, TenantConn, TenantDb};
use crate::tenant::mail::{self, Mail, Recipient};
use crate::tenant::users::rules::UserStatus;

/// The built-in schema that has all of it (`V8__accounts.sql`).
pub const SINCE: i32 = 8;
/// How long a link to a new password is good.
const RESET: TimeDelta = TimeDelta::hours(1);
/// How long the other links are.
const LINK: TimeDelta = TimeDelta::days(1);
/// Mails of a kind that one person is sent within an hour at most, and the shortest pause between two.
const MOST_AN_HOUR: i64 = 5;
const PAUSE: TimeDelta = TimeDelta::minutes(1);

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(forgot::forgot_password)
        .service(forgot::reset_password)
        .service(verify::resend)
        .service(verify::verify_email)
        .service(email::change_email)
        .service(email::confirm_email)
        .service(policy::get_policy)
        .service(policy::patch_policy);
}

/// A mail is on its way, if there is somebody to send it to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByMail {
    /// What happens next.
    #[schema(example = "If there is somebody with this address, a mail is on its way.")]
    pub message: &'static str,
}

/// The kind of the tokens of links to a new password.
const RESET_PASSWORD: &str = "reset_password";

const IF_ANYBODY: ByMail = ByMail { message: "If there is somebody with this address, a mail is on its way." };

/// The tenant that a stranger names, with what is needed here; none if there is no such tenant, which strangers are not
/// told.
async fn named(router: &Router, name: Option<&str>, hints: &Hints) -> ApiResult<Option<TenantDb>> {
    match router.named(name, hints).await {
        Ok(db) => Ok(Some(router.at_schema(db, SINCE).await?)),
        Err(Error::TenantUnknown) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The tenant of a token in a link, and the token.
async fn linked(
    router: &Router,
    hints: &Hints,
    kind: TokenKind,
    text: &SecretString,
) -> ApiResult<(TenantDb, OpaqueToken)> {
    let token = OpaqueToken::parse(&router.installation().mac, kind, text).ok_or_else(void)?;
    let db = router.routed(&token, hints).await.map_err(|error| match error {
        Error::TokenInvalid(_) => void(),
        other => other.into(),
    })?;
    Ok((router.at_schema(db, SINCE).await?, token))
}

fn void() -> ApiError {
    ApiError::invalid_field("token", "invalid", "The link is not valid, or not any more.")
}

/// Whom a mail with a link goes to, and the token of the link.
#[derive(Debug)]
pub(in crate::tenant) struct Due {
    pub to: Recipient,
    pub token: SecretString,
}

/// Whoever asks is no way to write to others as often as one likes: as many links as of any other kind. Not as slowly: what is
/// asked for was perhaps mistyped. To be called with the person held, and told what the limit is called.
///
/// # Errors
/// 429 `rate_limited`, or what the database answers.
pub(in crate::tenant) async fn check_pace(
    conn: &mut TenantConn,
    user: UserId,
    (mail, name): (&Mail, &'static str),
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let sent = mail::sent_since(conn, user, mail, now - TimeDelta::hours(1), MOST_AN_HOUR).await?;
    let full = i64::try_from(sent.len()).is_ok_and(|sent| sent >= MOST_AN_HOUR);
    let earliest = sent.last().filter(|_| full);
    let wait = earliest.and_then(|earliest| (*earliest + TimeDelta::hours(1) - now).to_std().ok());
    let quota = u32::try_from(MOST_AN_HOUR).unwrap_or(u32::MAX);
    let limit = Limit { name, quota, window: Duration::from_hours(1) };
    wait.map_or(Ok(()), |wait| Err(ApiError::new(Code::RateLimited).retry_after(wait).limited(limit)))
}

/// The link to a new password, of whoever has an address and may come in; nobody's otherwise, or if they got too many.
pub(in crate::tenant) async fn reset_link(
    conn: &mut TenantConn,
    db: &TenantDb,
    (mail, address): (Uuid, &str),
    now: DateTime<Utc>,
) -> ApiResult<Option<Due>> {
    let Some(found) = store::find(conn, address).await? else { return Ok(None) };
    if found.status != UserStatus::Active.as_str() {
        return Ok(None);
    }
    let token = OpaqueToken::of(&db.router().installation().mac, TokenKind::PasswordReset, db.tenant().id, mail);
    let wanted = store::NewToken { hash: token.hash(), kind: RESET_PASSWORD, now, expires_at: now + RESET };
    if !store::insert_token(conn, &found, &wanted).await? {
        return Ok(None);
    }
    Ok(Some(Due { to: found.recipient(), token: token.text().clone() }))
}

/// A person gets a new password: what would lead around it is good no more. That is the links to another one, for whoever
/// reads an old mail, the links to another address, for whoever asked for it with the former password, and the devices that
/// are asked for no second factor. To be called with the person held, as everybody does.
///
/// # Errors
/// If the database does not answer.
pub(in crate::tenant) async fn drop_trust(conn: &mut TenantConn, db: &TenantDb, user: UserId) -> ApiResult<()> {
    if db.tenant().schema_version >= SINCE {
        store::void_tokens(conn, user, RESET_PASSWORD).await?;
        store::forget_email(conn, user).await?;
    }
    mfa::gate::forget_devices(conn, db, user).await
}

/// The link that verifies an address, of whoever waits for it.
pub(in crate::tenant) async fn verification_link(
    conn: &mut TenantConn,
    db: &TenantDb,
    (mail, address): (Uuid, &str),
    now: DateTime<Utc>,
) -> ApiResult<Option<Due>> {
    let (mac, tenant) = (&db.router().installation().mac, db.tenant().id);
    if let Some(waiting) = store::waiting_registration(conn, address, now).await? {
        if !store::count_mail(conn, waiting.id, mail, now).await? {
            return Ok(None);
        }
        let token = OpaqueToken::of(mac, TokenKind::EmailVerification, tenant, waiting.id);
        let to = Recipient { user: None, address: waiting.email, name: waiting.first_name };
        return Ok(Some(Due { to, token: token.text().clone() }));
    }
    let Some(found) = store::find(conn, address).await? else { return Ok(None) };
    if found.status != UserStatus::Active.as_str() || found.verified {
        return Ok(None);
    }
    let token = OpaqueToken::of(mac, TokenKind::EmailVerification, tenant, mail);
    let wanted = store::NewToken { hash: token.hash(), kind: "verify_email", now, expires_at: now + LINK };
    if !store::insert_token(conn, &found, &wanted).await? {
        return Ok(None);
    }
    Ok(Some(Due { to: found.recipient(), token: token.text().clone() }))
}

impl store::Found {
    fn recipient(&self) -> Recipient {
        Recipient { user: Some(UserId::from(self.id)), address: self.email.clone(), name: self.first_name.clone() }
    }
}
