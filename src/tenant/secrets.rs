//! The secrets of programs: of API keys, of apps, of directories. Each belongs to a person, is shown once, and may be taken
//! the place of by another, with the former one good for a while.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use super::audit::{self, Entry};
use super::users::check_control;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{Authorized, Permission};
use crate::router::{TenantConn, TenantDb};

/// A new secret.
pub(super) struct Secret {
    /// To be shown, and kept nowhere.
    pub text: SecretString,
    /// By which it is recognised.
    pub hash: [u8; 32],
    /// Its end, to tell secrets apart by.
    pub hint: String,
}

impl Secret {
    pub(super) fn new(db: &TenantDb, kind: TokenKind) -> Self {
        let token = OpaqueToken::generate(&db.router().installation().mac, kind, db.tenant().id);
        let text = token.text().expose_secret();
        let hint = format!("…{}", &text[text.len() - 4..]);
        Self { text: token.text().clone(), hash: token.hash(), hint }
    }
}

/// Until when the secret of now stays good beside a new one: for a day, if it is not said for how many seconds. `previous` is
/// the end of the one before it.
///
/// # Errors
/// 409 if that one is still good: there is room for one former secret, and it would be forgotten.
pub(super) fn overlap(
    seconds: Option<i64>,
    previous: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> ApiResult<DateTime<Utc>> {
    let overlap = seconds.map_or(TimeDelta::days(1), TimeDelta::seconds);
    if overlap > TimeDelta::zero() && previous.is_some_and(|until| until > now) {
        let said = "The secret before the last rotation is still good, and would be forgotten: wait until \
                    `previousExpiresAt`, or give `overlapSeconds: 0`.";
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    Ok(now + overlap)
}

/// What has a secret.
pub(super) trait Program {
    /// Whose it is, and in whose name it works.
    fn owner(&self) -> UserId;
    /// Its name and its id, for the audit.
    fn label(&self) -> String;
}

/// Nobody gets at the rights of somebody who may do more.
pub(super) async fn check_power<P: Permission>(
    conn: &mut TenantConn,
    caller: &Authorized<P>,
    over: &impl Program,
) -> ApiResult<()> {
    let owner = over.owner();
    if owner == caller.user() { Ok(()) } else { check_control(conn, &caller.access.permissions, owner).await }
}

/// Writes a line of the audit, about the owner.
pub(super) async fn note(
    conn: &mut TenantConn,
    actor: UserId,
    program: &impl Program,
    action: &'static str,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let (actor, what) = (format!("user:{actor}"), program.label());
    let entry = Entry { actor: &actor, action, user: program.owner(), session: None, reason: Some(&what) };
    Ok(audit::note(conn, &entry, now).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_former_secret_is_forgotten_while_it_is_good() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (past, later) = (now - TimeDelta::seconds(1), now + TimeDelta::seconds(1));
        assert_eq!(overlap(None, Some(past), now).unwrap(), now + TimeDelta::days(1));
        assert_eq!(overlap(Some(60), None, now).unwrap(), now + TimeDelta::seconds(60));
        assert_eq!(overlap(Some(60), Some(later), now).unwrap_err().code(), Code::Conflict);
        assert_eq!(overlap(Some(0), Some(later), now).unwrap(), now);
    }
}
