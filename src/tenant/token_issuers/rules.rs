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

/// The longest secret, in bytes.
const MAX_SECRET_BYTES: usize = 1_024;

/// Refuses an issuer that is one of ours: the public URL, or what stands below it.
///
/// # Errors
/// 422 on `issuer`.
pub(super) fn check_issuer(issuer: &str, public_url: &str) -> ApiResult<()> {
    let ours = issuer.strip_prefix(public_url.trim_end_matches('/'));
    if ours.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
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

/// Refuses a secret that could be guessed, or that is endless.
///
/// # Errors
/// 422 on `secret`.
pub(super) fn check_secret(secret: &SecretString) -> ApiResult<()> {
    let (code, said) = match secret.expose_secret().len() {
        0..SECRET_BYTES => ("too_short", format!("It has at least {SECRET_BYTES} bytes.")),
        SECRET_BYTES..=MAX_SECRET_BYTES => return Ok(()),
        _ => ("too_long", format!("It has {MAX_SECRET_BYTES} bytes at most.")),
    };
    Err(ApiError::invalid_field("secret", code, said))
}

/// The refusal of a secret that an organisation would share by itself: who believes one is for an operator to say.
pub(super) fn operators_alone() -> ApiError {
    let said = "An issuer with a shared secret is registered by an operator of the installation. Name the address of its keys.";
    ApiError::invalid_field("secret", "operator_only", said)
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
    fn our_own_issuers_are_refused_and_no_others() {
        for public_url in ["https://api.example.com", "https://api.example.com/"] {
            for ours in ["", "/", "/t/globex"] {
                assert!(check_issuer(&format!("https://api.example.com{ours}"), public_url).is_err(), "{ours}");
            }
            for other in
                ["https://api.example.com.au", "https://api.example.com:8443/t/x", "https://id.example.com", "x"]
            {
                assert!(check_issuer(other, public_url).is_ok(), "{other}");
            }
        }
    }

    #[test]
    fn what_cannot_be_an_issuer_s_is_refused() {
        let code = |length: usize| check_secret(&"x".repeat(length).into()).map_err(|e| e.fields()[0].code.clone());
        assert_eq!((code(31), code(32)), (Err("too_short".into()), Ok(())));
        assert_eq!((code(1_024), code(1_025)), (Ok(()), Err("too_long".into())));
        let outbound = Outbound::new(Vec::new());
        assert!(check_address("https://id.example.com/jwks", &outbound).is_ok());
        assert!(check_address("https://10.0.0.1/jwks", &outbound).is_err());
    }
}
