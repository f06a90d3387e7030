//! Decisions about people that need no database.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;

use crate::error::{ApiError, ApiResult, Code};
use crate::router::tenant::words;

words! {
    /// Whether a person may come in.
    UserStatus {
        /// May log in.
        Active = "active",
        /// Has yet to accept an invitation.
        Invited = "invited",
        /// May not.
        Deactivated = "deactivated",
    }
}

impl TryFrom<String> for UserStatus {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What makes two e-mail addresses the same: trimmed, in lower case.
#[must_use]
pub fn email_key(email: &str) -> String {
    comparable(email.trim()).to_lowercase()
}

/// A text that PostgreSQL can compare with what it keeps: it knows no NUL.
#[must_use]
pub fn comparable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// An address as others may read it: its first letter and its domain.
#[must_use]
pub fn shortened(email: &str) -> String {
    let email = email.trim();
    match (email.chars().next(), email.rsplit_once('@')) {
        (Some(first), Some((_, domain))) => format!("{first}***@{domain}"),
        _ => "***".to_owned(),
    }
}

/// The longest e-mail address that a letter can be sent to, in bytes (RFC 5321, section 4.5.3.1.3, less the brackets).
pub const EMAIL_BYTES: usize = 254;

/// Whether letters to a person who had an address go elsewhere. The same key may be another mailbox: what is before the `@` is
/// for its server to read.
#[must_use]
pub fn is_other_address(before: &str, after: &str) -> bool {
    before.trim() != after.trim()
}

/// Whether a text has the shape of an e-mail address: one that can be written to, without anything that cannot be seen,
/// which makes two addresses look like one. Whether it is somebody's, only a message to it can tell.
///
/// # Errors
/// A sentence about what is wrong, for garde.
pub fn email_shape<C>(email: &str, _: &C) -> garde::Result {
    let email = email.trim();
    let good = email.len() <= EMAIL_BYTES
        && email.nfc().all(|c| c.is_ascii_graphic() || c.is_alphanumeric())
        && email.parse::<lettre::Address>().is_ok()
        && email.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !local.contains('@')
                && !domain.is_empty()
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if good { Ok(()) } else { Err(garde::Error::new("is not an e-mail address")) }
}

/// Whether a text can be shown as a name: no control characters.
///
/// # Errors
/// A sentence about what is wrong, for garde.
pub fn name_shape<C>(name: &str, _: &C) -> garde::Result {
    if name.chars().any(char::is_control) { Err(garde::Error::new("has control characters")) } else { Ok(()) }
}

/// Whether a text says anything.
///
/// # Errors
/// A sentence about what is wrong, for garde.
pub fn not_blank<C>(name: &str, _: &C) -> garde::Result {
    if name.trim().is_empty() { Err(garde::Error::new("is blank")) } else { Ok(()) }
}

/// Nobody gives a role that can do more than they themselves.
///
/// # Errors
/// 422 on `field` with the first permission that the caller lacks.
pub fn may_grant(field: &'static str, own: &BTreeSet<String>, granted: &[String]) -> ApiResult<()> {
    match granted.iter().find(|permission| !own.contains(*permission)) {
        Some(beyond) => Err(ApiError::invalid_field(
            field,
            "beyond_own_permissions",
            format!("It carries '{beyond}', which you do not have yourself."),
        )),
        None => Ok(()),
    }
}

/// Nobody changes how a person comes in, or whether, who can do more than they themselves: with a new password they
/// would have that person's rights.
///
/// # Errors
/// 403 `permission_denied`.
pub fn may_control(own: &BTreeSet<String>, theirs: &[String]) -> ApiResult<()> {
    if theirs.iter().all(|permission| own.contains(permission)) {
        return Ok(());
    }
    Err(ApiError::new(Code::PermissionDenied).detail("This person may do more than you."))
}

/// The status a person has after an administrator's change.
///
/// # Errors
/// 422 if nobody can be made so: back to invited, or past an invitation that they have not accepted, be it by way of
/// deactivated.
pub fn next_status(current: UserStatus, asked: Option<UserStatus>, has_password: bool) -> ApiResult<UserStatus> {
    let fault = |message| Err(ApiError::invalid_field("status", "not_possible", message));
    match asked {
        Some(UserStatus::Invited) if current != UserStatus::Invited => fault("Nobody becomes invited again."),
        Some(UserStatus::Active) if current == UserStatus::Invited && !has_password => {
            fault("They become active by accepting their invitation; or give them a password.")
        }
        Some(UserStatus::Deactivated) if current == UserStatus::Invited && !has_password => {
            fault("They have not come in yet. Take the invitation back with DELETE /api/v1/invitations/{id}.")
        }
        Some(status) => Ok(status),
        // A password from an administrator takes the place of the invitation.
        None if current == UserStatus::Invited && has_password => Ok(UserStatus::Active),
        None => Ok(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses() {
        for good in ["a@b", "ada.lovelace@acme.test", " Ada@Acme.TEST ", "o'neil+x@a-b.co", "ü@é.fr"] {
            assert!(email_shape(good, &()).is_ok(), "{good}");
        }
        let long = format!("{}@acme.test", "a".repeat(65));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            "a@b..c",
            "a@-b",
            "a@b\n.c",
            "a\u{0}@b",
            "<a@b>",
            ".a@b",
            "a\u{200b}@b",
            &long,
        ] {
            assert!(email_shape(bad, &()).is_err(), "{bad:?}");
        }
        assert_eq!(email_key(" Ada@Acme.TEST "), "ada@acme.test");
        assert!(!email_key("a\0@b").contains('\0'));
        // A Kelvin sign is a `k` in lower case: one key, and another mailbox.
        assert_eq!(email_key("\u{212a}ate@acme.test"), email_key("kate@acme.test"));
        assert!(is_other_address("kate@acme.test", "\u{212a}ate@acme.test"));
        assert!(!is_other_address("kate@acme.test", " kate@acme.test "));
    }

    #[test]
    fn rights_do_not_grow() {
        let own = BTreeSet::from(["users:write".to_owned(), "users:read".to_owned()]);
        assert!(may_grant("roles", &own, &["users:read".to_owned()]).is_ok());
        assert!(may_grant("roles", &own, &[]).is_ok());
        let refused = may_grant("roles", &own, &["contacts:read".to_owned()]).unwrap_err();
        assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (Code::ValidationFailed, "roles"));
        assert!(may_control(&own, &["users:write".to_owned()]).is_ok());
        assert_eq!(may_control(&own, &["contacts:read".to_owned()]).unwrap_err().code(), Code::PermissionDenied);
    }

    #[test]
    fn status_follows_the_password() {
        use UserStatus::{Active, Deactivated, Invited};
        assert_eq!(next_status(Invited, None, true).unwrap(), Active);
        assert_eq!(next_status(Invited, None, false).unwrap(), Invited);
        assert_eq!(next_status(Active, Some(Deactivated), true).unwrap(), Deactivated);
        assert_eq!(next_status(Deactivated, None, true).unwrap(), Deactivated);
        assert!(next_status(Invited, Some(Active), false).is_err());
        assert!(next_status(Invited, Some(Deactivated), false).is_err());
        assert_eq!(next_status(Invited, Some(Deactivated), true).unwrap(), Deactivated);
        // Whoever comes in by another way than a password comes back by it.
        assert_eq!(next_status(Deactivated, Some(Active), false).unwrap(), Active);
        assert!(next_status(Active, Some(Invited), true).is_err());
    }
}
