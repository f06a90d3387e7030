//! The site that passkeys are for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use webauthn_rs::{Webauthn, WebauthnBuilder};

use crate::error::{ApiError, ApiResult, Code};

/// How long somebody may take with their device.
pub(super) const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Where passkeys of this installation are good: its name, and the origins of its pages.
#[derive(Clone, Default)]
pub struct PasskeySite(Option<Arc<Webauthn>>);

impl fmt::Debug for PasskeySite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasskeySite({})", if self.0.is_some() { "there" } else { "none" })
    }
}

impl PasskeySite {
    /// The site of a public address: passkeys are for `name` (the address's own host, if none is given) and what is below
    /// it. None where the address has no name, or another one.
    #[must_use]
    pub fn new(public_url: &str, name: Option<&str>, origins: &[String]) -> Self {
        Self(Self::build(public_url, name, origins).map(Arc::new))
    }

    fn build(public_url: &str, name: Option<&str>, origins: &[String]) -> Option<Webauthn> {
        let public = Url::parse(public_url).ok()?;
        let name = name.or_else(|| public.domain())?;
        let site = WebauthnBuilder::new(name, &public).ok()?.allow_subdomains(true).timeout(PATIENCE);
        let below = |url: &Url| url.domain().is_some_and(|d| d == name || d.ends_with(&format!(".{name}")));
        let others = origins.iter().filter_map(|origin| Url::parse(origin).ok()).filter(below);
        others.fold(site, |site, origin| site.append_allowed_origin(&origin)).build().ok()
    }

    /// The protocol's own half.
    ///
    /// # Errors
    /// 409 where there is no site.
    pub(super) fn get(&self) -> ApiResult<&Webauthn> {
        let said = "Passkeys need a public address with a name (`auth.passkey_rp_id`).";
        self.0.as_deref().ok_or_else(|| ApiError::new(Code::Conflict).detail(said))
    }

    /// Whether there is one.
    pub(in crate::tenant::auth) const fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_a_name_of_its_own() {
        let is_there = |url: &str, name: Option<&str>| PasskeySite::new(url, name, &[]).is_there();
        assert!(is_there("https://api.example.com", None) && is_there("https://api.example.com", Some("example.com")));
        assert!(is_there("http://localhost:8080", None));
        for (url, name) in [
            ("https://127.0.0.1", None),
            ("https://api.example.com", Some("other.com")),
            ("https://api.example.com", Some("ample.com")),
        ] {
            assert!(!is_there(url, name), "{url} {name:?}");
        }
    }
}
