//! Decisions about identity providers that need no database.

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use crate::error::{ApiError, ApiResult};
use crate::outbound::Outbound;
use crate::router::tenant::words;

words! {
    /// What kind of provider it is.
    ProviderKind {
        /// Any OpenID provider, by its issuer.
        Oidc = "oidc",
        /// Google.
        Google = "google",
        /// GitHub, or a GitHub Enterprise Server by its address.
        Github = "github",
    }
}

impl TryFrom<String> for ProviderKind {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

const GOOGLE: &str = "https://accounts.google.com";
pub(in crate::tenant) const GITHUB: &str = "https://github.com";

/// The issuer of a provider: as given, or that of its kind.
///
/// # Errors
/// 422 if it is missing, or none that could be asked.
pub(super) fn issuer(kind: ProviderKind, given: Option<&str>, outbound: &Outbound) -> ApiResult<String> {
    let fault = |code: &'static str, said: String| Err(ApiError::invalid_field("issuer", code, said));
    let text = match (kind, given) {
        (ProviderKind::Oidc, None) => return fault("required", "An OpenID provider is known by its issuer.".into()),
        (ProviderKind::Google, None | Some(GOOGLE)) => return Ok(GOOGLE.to_owned()),
        (ProviderKind::Google, Some(_)) => return fault("invalid", format!("Google's is {GOOGLE}; leave it out.")),
        (ProviderKind::Github, None) => return Ok(GITHUB.to_owned()),
        (ProviderKind::Oidc | ProviderKind::Github, Some(text)) => text,
    };
    match outbound.read(text) {
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            fault("invalid", "It has neither query nor fragment.".into())
        }
        Ok(_) => Ok(text.to_owned()),
        Err(error) => fault("invalid", error.to_string()),
    }
}

/// The longest secret of a client, in characters: some are signed tokens.
const MAX_SECRET_CHARS: usize = 4_000;

/// Whether a secret is one that a provider would give a client.
///
/// # Errors
/// A sentence about what is wrong, for garde.
pub(super) fn client_secret_shape<C>(secret: &SecretString, _: &C) -> garde::Result {
    match secret.expose_secret().chars().count() {
        0..=MAX_SECRET_CHARS => Ok(()),
        // The words of garde's own rule, by which the field's code is told.
        _ => Err(garde::Error::new(format!("length is greater than {MAX_SECRET_CHARS}"))),
    }
}

/// The scopes that are asked for where nothing else is said.
pub(super) fn default_scopes(kind: ProviderKind) -> Vec<String> {
    let scopes: &[&str] = match kind {
        ProviderKind::Oidc | ProviderKind::Google => &["openid", "email", "profile"],
        ProviderKind::Github => &["read:user", "user:email"],
    };
    scopes.iter().map(|&scope| scope.to_owned()).collect()
}

/// Refuses scopes that are none (RFC 6749, section 3.3), and an OpenID provider without `openid`.
///
/// # Errors
/// 422 on the first of them.
pub(super) fn check_scopes(kind: ProviderKind, scopes: &[String]) -> ApiResult<()> {
    let is_scope = |scope: &String| {
        (1..=100).contains(&scope.len()) && scope.bytes().all(|b| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~'))
    };
    if let Some(at) = scopes.iter().position(|scope| !is_scope(scope)) {
        return Err(ApiError::invalid_field(format!("scopes[{at}]"), "invalid", "It is no scope."));
    }
    if kind != ProviderKind::Github && !scopes.iter().any(|scope| scope == "openid") {
        return Err(ApiError::invalid_field("scopes", "invalid", "An OpenID provider is asked for 'openid'."));
    }
    Ok(())
}

/// Refuses addresses that nobody should be sent back to: only `https://`, or `http://` on the person's own machine.
///
/// # Errors
/// 422 on the first of them.
pub(in crate::tenant) fn check_redirects(uris: &[String]) -> ApiResult<()> {
    check_addresses(uris, |_| false)
}

/// As [`check_redirects`], for a program on somebody's device: it may be sent to by a scheme of its own, which is a domain
/// of its makers in reverse, as `com.example.app:/callback` (RFC 8252, section 7.1). One without a dot is anybody's.
///
/// # Errors
/// 422 on the first of them.
pub(in crate::tenant) fn check_redirects_of_native_app(uris: &[String]) -> ApiResult<()> {
    check_addresses(uris, |url| url.scheme().split('.').filter(|label| !label.is_empty()).count() > 1)
}

fn check_addresses(uris: &[String], is_own_scheme: impl Fn(&Url) -> bool) -> ApiResult<()> {
    let is_good = |uri: &String| {
        let Ok(url) = Url::parse(uri) else { return false };
        let own_machine = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let web = url.scheme() == "https" || (url.scheme() == "http" && own_machine);
        let scheme = (web && url.has_host()) || is_own_scheme(&url);
        scheme && uri.len() <= 2048 && url.fragment().is_none() && url.username().is_empty()
    };
    match uris.iter().position(|uri| !is_good(uri)) {
        None if uris.is_empty() => Err(ApiError::invalid_field("redirectUris", "required", "Name at least one.")),
        None => Ok(()),
        Some(at) => {
            let said = "Write it as https://app.example.com/callback, without a fragment.";
            Err(ApiError::invalid_field(format!("redirectUris[{at}]"), "invalid", said))
        }
    }
}

/// The domains in the form that addresses are compared in.
///
/// # Errors
/// 422 on the first that is none.
pub(super) fn domains(given: &[String]) -> ApiResult<Vec<String>> {
    let domain = |(at, text): (usize, &String)| {
        let text = text.trim().trim_start_matches('@').to_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        if text.len() <= 253 && text.contains('.') && text.split('.').all(label) {
            Ok(text)
        } else {
            Err(ApiError::invalid_field(format!("allowedDomains[{at}]"), "invalid", "Write it as example.com."))
        }
    };
    given.iter().enumerate().map(domain).collect()
}

/// Whether an address, in the form that addresses are compared in, is of one of these domains.
pub(in crate::tenant) fn is_of_domain(email_key: &str, domains: &[String]) -> bool {
    email_key.rsplit_once('@').is_some_and(|(_, domain)| domains.iter().any(|allowed| allowed == domain))
}

/// Refuses what is no name for an address.
///
/// # Errors
/// A sentence about what is wrong, for garde.
pub(super) fn slug_shape<C>(slug: &str, _: &C) -> garde::Result {
    let good = (1..=63).contains(&slug.len())
        && !slug.starts_with('-')
        && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(garde::Error::new("has more than a-z, 0-9 and - in it, or is too long")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn issuers_are_of_their_kind_and_outside() {
        let outbound = Outbound::new(Vec::new());
        let of = |kind, given| issuer(kind, given, &outbound).map_err(|error| error.fields()[0].code.to_string());
        assert_eq!(of(ProviderKind::Google, None).as_deref(), Ok(GOOGLE));
        assert_eq!(of(ProviderKind::Google, Some("https://evil.example")), Err("invalid".into()));
        assert_eq!(of(ProviderKind::Github, None).as_deref(), Ok(GITHUB));
        assert_eq!(of(ProviderKind::Oidc, None), Err("required".into()));
        assert!(of(ProviderKind::Oidc, Some("https://id.example.com/realms/a")).is_ok());
        for bad in ["http://id.example.com", "https://127.0.0.1", "https://169.254.169.254", "https://x/?a=b", "x"] {
            assert_eq!(of(ProviderKind::Oidc, Some(bad)), Err("invalid".into()), "{bad}");
        }
    }

    #[test]
    fn nobody_is_sent_back_to_where_others_listen() {
        assert!(check_redirects(&words(&["https://app.example.com/callback", "http://localhost:3000/cb"])).is_ok());
        for bad in
            ["http://app.example.com/", "https://a/#b", "javascript:alert(1)", "https://u@a/", "app", "myapp:/cb"]
        {
            assert!(check_redirects(&words(&[bad])).is_err(), "{bad}");
        }
        assert!(check_redirects(&[]).is_err() && check_redirects_of_native_app(&[]).is_err());
    }

    #[test]
    fn a_native_app_has_a_scheme_that_no_other_would_have() {
        for own in ["com.example.app:/callback", "com.example.app://callback?x=1"] {
            assert!(check_redirects_of_native_app(&words(&[own])).is_ok(), "{own}");
            assert!(check_redirects(&words(&[own])).is_err(), "{own}");
        }
        for bad in ["myapp:/cb", "javascript:alert(1)", "data:text/html,x", "com.:/cb", "com.example.app:/cb#f"] {
            assert!(check_redirects_of_native_app(&words(&[bad])).is_err(), "{bad}");
        }
        assert!(check_redirects_of_native_app(&words(&["https://app.example.com/callback"])).is_ok());
    }

    #[test]
    fn domains_are_whole() {
        let allowed = domains(&words(&["Acme.TEST", "@b.example"])).unwrap();
        assert_eq!(allowed, ["acme.test", "b.example"]);
        assert!(is_of_domain("ada@acme.test", &allowed));
        for other in ["ada@evil-acme.test", "ada@acme.test.evil", "ada@sub.acme.test", "acme.test"] {
            assert!(!is_of_domain(other, &allowed), "{other}");
        }
        for bad in ["", "com", "a..b", "-a.b", "a@b.c", "*.b"] {
            assert!(domains(&words(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_are_words_and_openid_is_among_them() {
        assert!(check_scopes(ProviderKind::Oidc, &default_scopes(ProviderKind::Oidc)).is_ok());
        assert!(check_scopes(ProviderKind::Oidc, &words(&["email"])).is_err());
        assert!(check_scopes(ProviderKind::Github, &words(&["user:email"])).is_ok());
        assert!(check_scopes(ProviderKind::Github, &words(&["a b"])).is_err());
    }
}
