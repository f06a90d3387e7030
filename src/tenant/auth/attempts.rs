//! The lockout: an address slows, then locks, alike for right and wrong passwords and for addresses nobody has.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::rules::lockout;
use super::store::{self, Credentials, NewAttempt};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::mail;

/// What an address is counted by: keyed, so that the history of strangers' guesses tells no addresses.
pub(super) fn email_hash(db: &TenantDb, email_key: &str) -> [u8; 32] {
    let tenant = db.tenant().id.uuid();
    db.router().installation().mac.digest("login-email", &[tenant.as_bytes(), email_key.as_bytes()])
}

/// 429 until the address is free again.
pub(super) fn locked(left: Duration) -> ApiError {
    ApiError::new(Code::TooManyAttempts).retry_after(left)
}

/// Where and when a try is noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub db: &'a TenantDb,
    pub email_hash: &'a [u8; 32],
    pub client: &'a Client,
    pub now: DateTime<Utc>,
}

/// Judges tries on one address one after the other, so that a hundred at once get no more guesses than one by one: held
/// until the transaction ends. Gives how long the address is locked.
pub(super) async fn hold(conn: &mut TenantConn, line: &Line<'_>) -> ApiResult<Option<Duration>> {
    store::hold_attempts(conn, line.email_hash).await?;
    Ok(lockout(&store::failures(conn, line.email_hash, line.now).await?, line.now))
}

/// One try of a password, after the hashing and before anything comes of it.
#[derive(Debug)]
pub(super) struct Try<'a> {
    pub line: Line<'a>,
    /// Whose address it is.
    pub known: Option<UserId>,
    /// The credentials that the password matched.
    pub matched: Option<&'a Credentials>,
}

/// What comes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It may go on. Nothing is counted yet: there may be a second factor to come.
    Passed(UserId),
    /// Wrong; counted.
    Refused,
    /// Too many were wrong, meanwhile perhaps; not counted.
    Locked(Duration),
}

/// Judges a try of a password. The credentials have to be what they were when it was compared: it may have been changed
/// meanwhile.
pub(super) async fn judge(conn: &mut TenantConn, attempt: &Try<'_>) -> ApiResult<Outcome> {
    if let Some(left) = hold(conn, &attempt.line).await? {
        return Ok(Outcome::Locked(left));
    }
    if let Some(matched) = attempt.matched {
        let current = store::hold_credentials(conn, matched.user).await?;
        if let Some(current) = current.filter(|c| c.usable_hash() == matched.password_hash) {
            return Ok(Outcome::Passed(current.user));
        }
    }
    fail(conn, &attempt.line, attempt.known).await?;
    Ok(Outcome::Refused)
}

/// Counts a failure.
pub(super) async fn fail(conn: &mut TenantConn, line: &Line<'_>, user: Option<UserId>) -> ApiResult<()> {
    note(conn, line, user, false).await?;
    if lockout(&store::failures(conn, line.email_hash, line.now).await?, line.now).is_some() {
        mail::notify_locked(conn, line.db, user, line.client).await?;
    }
    Ok(())
}

/// Notes that somebody came in, which forgives the failures before it.
pub(super) async fn succeed(conn: &mut TenantConn, line: &Line<'_>, user: UserId) -> ApiResult<()> {
    note(conn, line, Some(user), true).await
}

async fn note(conn: &mut TenantConn, line: &Line<'_>, user: Option<UserId>, succeeded: bool) -> ApiResult<()> {
    let Line { email_hash, client, now: at, .. } = *line;
    Ok(store::insert_attempt(conn, &NewAttempt { email_hash, user, succeeded, client, at }).await?)
}
