//! Decisions about foreign tokens that need no database.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use crate::error::{ApiError, ApiResult};
use crate::outbound::Outbound;
use crate::router::tenant::words;
use crate::tenant::jose::SECRET_BYTES;

words! {
    /// By what the subjects of an issuer are known here.
    MatchBy {
        /// By their subject, as at the identity provider with the same issuer.
        Subject = "subject",
        /// By an address that the issuer has verified.
        Email = "email",
        /// Their subject is the id of a person here.
        UserId = "user_id",
    }
}

impl TryFrom<String> for MatchBy {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Refuses an issuer that is one of ours.
///
/// # Errors
/// 422 on `issuer`.
pub(super) fn check_issuer(issuer: &str, public_url: &str) -> ApiResult<()> {
    if issuer.starts_with(public_url) {
        return Err(ApiError::invalid_field("issuer", "invalid", "Tokens of this installation are taken anyhow."));
    }
    Ok(())
}

/// Refuses an address of keys that may not be reached.
///
/// # Errors
/// 422 on `jwksUrl`.
pub(super) fn check_address(address: &str, outbound: &Outbound) -> ApiResult<()> {
    match outbound.read(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(ApiError::invalid_field("jwksUrl", "invalid", error.to_string())),
    }
}

/// Refuses a secret that could be guessed.
///
/// # Errors
/// 422 on `secret`.
pub(super) fn check_secret(secret: &SecretString) -> ApiResult<()> {
    if secret.expose_secret().len() < SECRET_BYTES {
        return Err(ApiError::invalid_field("secret", "too_short", format!("It has at least {SECRET_BYTES} bytes.")));
    }
    Ok(())
}

/// What a bearer may do: what they are given, as far as whoever registered the issuer could do it.
pub(super) fn effective(given: Vec<String>, ceiling: &[String]) -> BTreeSet<String> {
    given.into_iter().filter(|permission| ceiling.contains(permission)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_lends_more_than_they_have() {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let may = effective(words(&["a:read", "b:read"]), &words(&["b:read", "c:read"]));
        assert_eq!(may.into_iter().collect::<Vec<_>>(), ["b:read"]);
    }

    #[test]
    fn what_cannot_be_an_issuer_s_is_refused() {
        assert!(check_issuer("https://id.example.com", "https://api.example.com").is_ok());
        assert!(check_issuer("https://api.example.com/t/globex", "https://api.example.com").is_err());
        assert!(check_secret(&"x".repeat(31).into()).is_err() && check_secret(&"x".repeat(32).into()).is_ok());
        let outbound = Outbound::new(Vec::new());
        assert!(check_address("https://id.example.com/jwks", &outbound).is_ok());
        assert!(check_address("https://10.0.0.1/jwks", &outbound).is_err());
    }
}
