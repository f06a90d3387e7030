//! The lockout: an address slows, then locks, alike for right and wrong passwords and for addresses nobody has.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::rules::lockout;
use super::store::{self, Credentials, NewAttempt};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb};

/// What an address is counted by: keyed, so that the history of strangers' guesses tells no addresses.
pub(super) fn email_hash(db: &TenantDb, email_key: &str) -> [u8; 32] {
    let tenant = db.tenant().id.uuid();
    db.router().installation().mac.digest("login-email", &[tenant.as_bytes(), email_key.as_bytes()])
}

/// 429 until the address is free again.
pub(super) fn locked(left: Duration) -> ApiError {
    ApiError::new(Code::TooManyAttempts).retry_after(left)
}

/// One try of a password, after the hashing and before anything comes of it.
#[derive(Debug)]
pub(super) struct Try<'a> {
    pub email_hash: &'a [u8; 32],
    pub client: &'a Client,
    /// Whose address it is.
    pub known: Option<UserId>,
    /// The credentials that the password matched.
    pub matched: Option<&'a Credentials>,
}

/// What comes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It may go on.
    Passed(UserId),
    /// Wrong; counted.
    Refused,
    /// Too many were wrong, meanwhile perhaps; not counted.
    Locked(Duration),
}

/// Judges tries on one address one after the other, so that a hundred at once get no more guesses than one by one. The
/// credentials have to be what they were when the password was compared: it may have been changed meanwhile.
pub(super) async fn judge(conn: &mut TenantConn, attempt: &Try<'_>, now: DateTime<Utc>) -> ApiResult<Outcome> {
    store::hold_attempts(conn, attempt.email_hash).await?;
    if let Some(left) = lockout(&store::failures(conn, attempt.email_hash, now).await?, now) {
        return Ok(Outcome::Locked(left));
    }
    let mut passed = None;
    if let Some(matched) = attempt.matched {
        let current = store::hold_credentials(conn, matched.user).await?;
        passed = current.filter(|c| c.usable_hash() == matched.password_hash).map(|c| c.user);
    }
    let line = NewAttempt {
        email_hash: attempt.email_hash,
        user: attempt.known,
        succeeded: passed.is_some(),
        client: attempt.client,
        at: now,
    };
    store::insert_attempt(conn, &line).await?;
    Ok(passed.map_or(Outcome::Refused, Outcome::Passed))
}
