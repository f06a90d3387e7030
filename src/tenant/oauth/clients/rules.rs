//! Decisions about apps that need no database.

use subtle::ConstantTimeEq as _;

use crate::error::{ApiError, ApiResult};
use crate::router::tenant::words;
use crate::tenant::identity_providers::rules::{check_redirects, check_redirects_of_native_app};

words! {
    /// How an app may come by tokens.
    OauthGrantType {
        /// After a person agreed.
        AuthorizationCode = "authorization_code",
        /// With what it was given before.
        RefreshToken = "refresh_token",
        /// In its own name, which is its owner's.
        ClientCredentials = "client_credentials",
    }
}

/// Where it runs over plain HTTP on the person's own machine, the port is whatever was free (RFC 8252, section 7.3).
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// Refuses ways to tokens that do not go together, and addresses that nobody should be sent back to.
///
/// # Errors
/// 422 on the field.
pub(super) fn check(confidential: bool, grants: &[OauthGrantType], redirects: &[String]) -> ApiResult<()> {
    let has = |grant| grants.contains(&grant);
    let refused = |field: &'static str, said: &'static str| Err(ApiError::invalid_field(field, "invalid", said));
    let code = has(OauthGrantType::AuthorizationCode);
    if grants.is_empty() {
        return Err(ApiError::invalid_field("grants", "required", "Name at least one."));
    }
    if has(OauthGrantType::ClientCredentials) && !confidential {
        return refused("grants", "An app that keeps no secret cannot come in its own name.");
    }
    if has(OauthGrantType::RefreshToken) && !code {
        return refused("grants", "Refresh tokens come with 'authorization_code' alone.");
    }
    if code {
        return if confidential { check_redirects(redirects) } else { check_redirects_of_native_app(redirects) };
    }
    if redirects.is_empty() { Ok(()) } else { refused("redirectUris", "Nobody is sent back without a code.") }
}

/// Whether somebody may be sent back there: to the letter, but for the port on their own machine.
pub(in crate::tenant::oauth) fn is_registered(registered: &[String], asked: &str) -> bool {
    let own_machine = without_port(asked);
    registered.iter().any(|known| known == asked || (own_machine.is_some() && without_port(known) == own_machine))
}

/// An address of the person's own machine: its host, and what comes after the port.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let host = LOOPBACK.into_iter().find(|host| uri.starts_with(host))?;
    let mut rest = &uri[host.len()..];
    if let Some(after) = rest.strip_prefix(':') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        after[..digits].parse::<u16>().ok()?;
        rest = &after[digits..];
    }
    let ends = rest.is_empty() || rest.starts_with(['/', '?']);
    (ends && !rest.contains('#')).then_some((host, rest))
}

/// Whether a hash is this one, in time that does not tell how much of it is.
pub(in crate::tenant::oauth) fn is_same(known: &[u8], presented: &[u8; 32]) -> bool {
    known.ct_eq(presented).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_to_the_letter_but_for_the_port_on_ones_own_machine() {
        let registered =
            ["https://app.example/cb", "http://127.0.0.1/cb", "http://[::1]:7000/cb?x=1"].map(str::to_owned);
        for good in [
            "https://app.example/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:51004/cb",
            "http://[::1]/cb?x=1",
            "http://[::1]:1/cb?x=1",
        ] {
            assert!(is_registered(&registered, good), "{good}");
        }
        for bad in [
            "https://app.example/cb/",
            "https://app.example/cb?",
            "https://app.example/cb?a=b",
            "https://app.example/cb#f",
            "https://app.example/CB",
            "https://APP.example/cb",
            "https://app.example:443/cb",
            "https://app.example/cb/../cb",
            "https://app.example.evil/cb",
            "https://app.example@evil/cb",
            "http://app.example/cb",
            "http://127.0.0.1:70000/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:80@evil/cb",
            "http://127.0.0.1.evil/cb",
            "http://127.0.0.12/cb",
            "http://127.0.0.1:5/cb#f",
            "http://127.0.0.1:5/cbx",
            "https://127.0.0.1:5/cb",
            "http://localhost:5/cb",
            "",
        ] {
            assert!(!is_registered(&registered, bad), "{bad}");
        }
    }

    #[test]
    fn ways_to_tokens_go_together() {
        use OauthGrantType::{AuthorizationCode as Code, ClientCredentials as Own, RefreshToken as Refresh};
        let back = ["https://app.example/cb".to_owned()];
        assert!(check(true, &[Code, Refresh, Own], &back).is_ok() && check(false, &[Code], &back).is_ok());
        assert!(check(true, &[Own], &[]).is_ok());
        for (confidential, grants, redirects) in [
            (false, &[Own][..], &[][..]),
            (true, &[Refresh][..], &[][..]),
            (true, &[Own][..], &back[..]),
            (true, &[Code][..], &[][..]),
            (true, &[][..], &[][..]),
        ] {
            assert!(check(confidential, grants, redirects).is_err(), "{grants:?}");
        }
        assert!(is_same(&[7; 32], &[7; 32]) && !is_same(&[7; 32], &[8; 32]) && !is_same(&[], &[7; 32]));
    }
}
