//! What the router is told: its settings, and its guards.

use std::time::Duration;

use url::{Host, Url};

use super::error::{Error, Result};
use crate::kernel::{Clock, LONGEST_WAIT, MAX_PUBLIC_URL_LEN, Slug, is_base_url};

const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Settings of the router. Times are of 1 ms to 24 days, as PostgreSQL counts them.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Base of issuers, without a trailing slash.
    pub public_url: String,
    /// The domain whose subdomains are tenants' names: `acme.api.example.com`. That of the public URL, unless set; without
    /// any, hosts name nobody. An application beside the installation (`crm.example.com`, where the server is at
    /// `example.com`) needs another one, or none.
    pub tenant_domain: Option<String>,
    /// The clock.
    pub clock: Clock,
    /// How far clocks may differ when times in a token are checked; five minutes at most.
    pub clock_leeway: Duration,
    /// Connections to tenant databases of one cluster, where the cluster itself says nothing.
    pub cluster_budget: u32,
    /// Connections of one tenant, where the tenant itself says nothing.
    pub tenant_max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a connection that must not be used any more may still be in use.
    pub drain_timeout: Duration,
    /// How long work waits for a tenant that is held, before it is refused; a request as long as the tenant may be held, if
    /// that is longer.
    pub hold_timeout: Duration,
    /// Bound on opening a connection.
    pub connect_timeout: Duration,
    /// Bound on one statement.
    pub statement_timeout: Duration,
    /// How long this node's slices of the connection budgets are kept for it when it is not heard of.
    pub slice_ttl: Duration,
    /// The guards; all on.
    pub guards: Guards,
}

/// The issuer of a tenant's tokens at an installation's public URL: `<public url>/t/<slug>`.
#[must_use]
pub fn issuer(public_url: &str, slug: &Slug) -> String {
    format!("{public_url}/t/{slug}")
}

impl RouterConfig {
    /// The defaults for a public URL.
    pub fn new(public_url: impl Into<String>) -> Self {
        let public_url = public_url.into().trim_end_matches('/').to_owned();
        Self {
            tenant_domain: domain_of(&public_url),
            public_url,
            clock: Clock::system(),
            clock_leeway: Duration::from_secs(5),
            cluster_budget: 80,
            tenant_max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            hold_timeout: Duration::from_secs(40),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            slice_ttl: Duration::from_secs(15),
            guards: Guards::default(),
        }
    }

    /// The issuer of a tenant's tokens: `<public url>/t/<slug>`.
    #[must_use]
    pub fn issuer(&self, slug: &Slug) -> String {
        issuer(&self.public_url, slug)
    }

    /// Refuses what would break every request, and not the start. Takes whatever the server can be told by its own settings.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |fault: String| Err(Error::Config(fault));
        if !is_base_url(&self.public_url) || self.public_url.ends_with('/') {
            return refuse("public_url is no address as https://api.example.com".to_owned());
        }
        if self.public_url.len() > MAX_PUBLIC_URL_LEN {
            return refuse(format!(
                "public_url is longer than {MAX_PUBLIC_URL_LEN} bytes, and every token says it twice"
            ));
        }
        if self.tenant_domain.as_ref().is_some_and(|domain| !is_domain(domain)) {
            return refuse("tenant_domain is no domain as api.example.com, in lower case".to_owned());
        }
        for (name, number) in
            [("cluster_budget", self.cluster_budget), ("tenant_max_connections", self.tenant_max_connections)]
        {
            if number == 0 {
                return refuse(format!("{name} is 0, so no tenant could be served"));
            }
        }
        for (name, time) in [
            ("acquire_timeout", self.acquire_timeout),
            ("idle_timeout", self.idle_timeout),
            ("drain_timeout", self.drain_timeout),
            ("hold_timeout", self.hold_timeout),
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
            ("slice_ttl", self.slice_ttl),
        ] {
            if !(SHORTEST_WAIT..=LONGEST_WAIT).contains(&time) {
                return refuse(format!("{name} is not between 1 ms and 24 days"));
            }
        }
        if self.clock_leeway > MAX_LEEWAY {
            return refuse("clock_leeway is over five minutes: keep the clocks together instead".to_owned());
        }
        Ok(())
    }

    /// The part of a host name in front of the tenants' domain.
    pub(super) fn subdomain(&self, host: &str) -> Option<String> {
        let domain = self.tenant_domain.as_deref()?;
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let name = host.strip_suffix(domain)?.strip_suffix('.')?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// The public URL's host. An address has no subdomains, but for this machine's own: all names below `localhost` lead there
/// (RFC 6761).
fn domain_of(public_url: &str) -> Option<String> {
    let public = Url::parse(public_url).ok()?;
    let name = match public.host()? {
        Host::Domain(name) => name,
        Host::Ipv4(address) if address.is_loopback() => "localhost",
        Host::Ipv6(address) if address.is_loopback() => "localhost",
        Host::Ipv4(_) | Host::Ipv6(_) => return None,
    };
    is_domain(name).then(|| name.to_owned())
}

/// Whether hosts can be compared with it: lower-case, a name alone, no dot at either end.
fn is_domain(name: &str) -> bool {
    let other = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_whitespace() || b"/:@*".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && !name.ends_with('.') && !name.bytes().any(other)
}

/// The independent guards against misrouting. They exist as switches so that a test can turn each one off and see the
/// attacks get through: outside of tests there is no way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    pub(crate) check_stamp: bool,
    pub(crate) bind_key: bool,
    pub(crate) confirm_hints: bool,
    pub(crate) check_typ: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { check_stamp: true, bind_key: true, confirm_hints: true, check_typ: true }
    }
}

#[cfg(feature = "testing")]
impl Guards {
    /// All guards but one: `stamp`, `key`, `hints` or `typ`.
    ///
    /// # Panics
    /// If there is no such guard.
    #[must_use]
    pub fn all_but(guard: &str) -> Self {
        let all = Self::default();
        match guard {
            "stamp" => Self { check_stamp: false, ..all },
            "key" => Self { bind_key: false, ..all },
            "hints" => Self { confirm_hints: false, ..all },
            "typ" => Self { check_typ: false, ..all },
            other => panic!("there is no guard '{other}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_every_request_is_refused() {
        let good = || RouterConfig::new("https://api.example.com/");
        good().check().unwrap();
        let at = |url: &str| RouterConfig { public_url: url.into(), ..good() };
        let statements = |statement_timeout| RouterConfig { statement_timeout, ..good() };
        for (setting, config) in [
            ("public_url", at("api.example.com")),
            ("public_url", at("https://api.example.com/")),
            ("public_url", at(&format!("https://api.example.com/{}", "p".repeat(MAX_PUBLIC_URL_LEN)))),
            ("tenant_domain", RouterConfig { tenant_domain: Some(".example.com".into()), ..good() }),
            ("tenant_domain", RouterConfig { tenant_domain: Some("https://example.com".into()), ..good() }),
            ("cluster_budget", RouterConfig { cluster_budget: 0, ..good() }),
            ("tenant_max_connections", RouterConfig { tenant_max_connections: 0, ..good() }),
            ("statement_timeout", statements(Duration::ZERO)),
            ("statement_timeout", statements(Duration::from_micros(999))),
            ("statement_timeout", statements(Duration::MAX)),
            ("slice_ttl", RouterConfig { slice_ttl: Duration::MAX, ..good() }),
            ("clock_leeway", RouterConfig { clock_leeway: Duration::MAX, ..good() }),
        ] {
            let refused = config.check().unwrap_err().to_string();
            assert!(refused.starts_with(setting), "{refused}");
        }
    }

    #[test]
    fn subdomains_of_the_public_host_only() {
        let config = RouterConfig::new("https://api.example.com:8443/");
        assert_eq!(config.subdomain("acme.api.example.com").as_deref(), Some("acme"));
        assert_eq!(config.subdomain("ACME.API.example.com.").as_deref(), Some("acme"));
        for other in
            ["api.example.com", "evil-api.example.com", "example.com", "acme.other.com", ".api.example.com", ""]
        {
            assert_eq!(config.subdomain(other), None, "{other}");
        }
        for here in ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"] {
            let config = RouterConfig::new(here);
            assert_eq!(config.subdomain("acme.localhost").as_deref(), Some("acme"), "{here}");
            for other in ["localhost", "127.0.0.1", "acme.127.0.0.1", "acme.example.com"] {
                assert_eq!(config.subdomain(other), None, "{here} {other}");
            }
        }
        assert_eq!(RouterConfig::new("http://10.0.0.7").subdomain("acme.localhost"), None);
        assert_eq!(config.issuer(&"acme".parse().unwrap()), "https://api.example.com:8443/t/acme");
    }

    #[test]
    fn an_application_beside_the_installation_has_a_domain_of_its_own_or_none() {
        let server = || RouterConfig::new("https://example.com");
        assert_eq!(server().subdomain("crm.example.com").as_deref(), Some("crm"), "as the server takes it");
        let below = RouterConfig { tenant_domain: Some("crm.example.com".into()), ..server() };
        assert_eq!(below.subdomain("acme.crm.example.com").as_deref(), Some("acme"));
        assert_eq!(below.subdomain("crm.example.com"), None);
        let nobody = RouterConfig { tenant_domain: None, ..server() };
        assert_eq!(nobody.subdomain("crm.example.com"), None);
        below.check().and(nobody.check()).unwrap();
    }
}
