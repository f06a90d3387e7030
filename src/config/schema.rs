//! The settings and what they may be. Their meaning stands in `config/default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::ConfigError;
use super::times::check_times;
use super::units::{Network, Size, Span};
use crate::kernel::{MAX_PUBLIC_URL_LEN, is_base_url};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) database_url: Option<SecretString>,
    pub(super) master_key: Option<SecretString>,
    /// `TENANTRY_PASSWORD_PEPPER`
    pub(super) password_pepper: Option<SecretString>,
    pub(super) listen: SocketAddr,
    pub(super) management_listen: SocketAddr,
    pub(super) public_url: Option<String>,
    pub(super) tenant_migrations: Option<PathBuf>,
    pub(super) storage_url: Option<SecretString>,
    pub(super) smtp_url: Option<SecretString>,
    pub(super) http: Http,
    pub(super) router: Router,
    pub(super) auth: Auth,
    pub(super) fleet: Fleet,
    pub(super) backup: Backup,
    pub(super) signup: SignUp,
    pub(super) outbound: Outbound,
    pub(super) mail: Mail,
    pub(super) log: Log,
}

/// `TENANTRY_HTTP__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `TENANTRY_HTTP__BODY_LIMIT`
    pub body_limit: Size,
    /// `TENANTRY_HTTP__TRUSTED_PROXIES`
    pub trusted_proxies: Vec<Network>,
    /// `TENANTRY_HTTP__WORKERS`
    pub workers: usize,
    /// `TENANTRY_HTTP__DOCS`
    pub docs: bool,
    /// `TENANTRY_HTTP__CORS_ORIGINS`
    pub cors_origins: Vec<String>,
    /// `TENANTRY_HTTP__REQUEST_TIMEOUT`
    pub request_timeout: Span,
    /// `TENANTRY_HTTP__KEEP_ALIVE`
    pub keep_alive: Span,
    /// `TENANTRY_HTTP__SHUTDOWN_TIMEOUT`
    pub shutdown_timeout: Span,
}

/// `TENANTRY_ROUTER__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    /// `TENANTRY_ROUTER__CLUSTER_BUDGET`
    pub cluster_budget: u32,
    /// `TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS`
    pub tenant_max_connections: u32,
    /// `TENANTRY_ROUTER__ACQUIRE_TIMEOUT`
    pub acquire_timeout: Span,
    /// `TENANTRY_ROUTER__IDLE_TIMEOUT`
    pub idle_timeout: Span,
    /// `TENANTRY_ROUTER__DRAIN_TIMEOUT`
    pub drain_timeout: Span,
    /// `TENANTRY_ROUTER__HOLD_TIMEOUT`
    pub hold_timeout: Span,
    /// `TENANTRY_ROUTER__CONNECT_TIMEOUT`
    pub connect_timeout: Span,
    /// `TENANTRY_ROUTER__STATEMENT_TIMEOUT`
    pub statement_timeout: Span,
    /// `TENANTRY_ROUTER__SNAPSHOT_PATH`; see [`super::Config::snapshot_path`].
    pub snapshot_path: Option<PathBuf>,
    /// `TENANTRY_ROUTER__SNAPSHOT_MAX_AGE`; 0 keeps none.
    pub snapshot_max_age: Span,
    /// `TENANTRY_ROUTER__SLICE_TTL`
    pub slice_ttl: Span,
}

/// `TENANTRY_AUTH__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// `TENANTRY_AUTH__ACCESS_TOKEN_TTL`
    pub access_token_ttl: Span,
    /// `TENANTRY_AUTH__REFRESH_TOKEN_TTL`
    pub refresh_token_ttl: Span,
    /// `TENANTRY_AUTH__REFRESH_GRACE`
    pub refresh_grace: Span,
    /// `TENANTRY_AUTH__CLOCK_LEEWAY`
    pub clock_leeway: Span,
    /// `TENANTRY_AUTH__LOCKOUT_FAILURES`
    pub lockout_failures: u32,
    /// `TENANTRY_AUTH__LOCKOUT_WINDOW`
    pub lockout_window: Span,
    /// `TENANTRY_AUTH__ADDRESS_FAILURES`
    pub address_failures: u32,
    /// `TENANTRY_AUTH__TENANT_FAILURES`
    pub tenant_failures: u32,
    /// `TENANTRY_AUTH__OPERATORS_NEED_SECOND_FACTOR`
    pub operators_need_second_factor: bool,
    /// `TENANTRY_AUTH__LEAKED_PASSWORDS`
    pub leaked_passwords: Option<PathBuf>,
    /// `TENANTRY_AUTH__PASSKEY_RP_ID`
    pub passkey_rp_id: Option<String>,
    /// `TENANTRY_AUTH__TURNSTILE_URL`
    pub turnstile_url: Url,
    /// `TENANTRY_AUTH__HCAPTCHA_URL`
    pub hcaptcha_url: Url,
}

/// `TENANTRY_FLEET__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// `TENANTRY_FLEET__PURGE_GRACE`
    pub purge_grace: Span,
    /// `TENANTRY_FLEET__EXPORT_RETENTION`
    pub export_retention: Span,
    /// `TENANTRY_FLEET__PLACEMENT`
    pub placement: Placement,
    /// `TENANTRY_FLEET__DUMP_LIMIT`
    pub dump_limit: Size,
    /// `TENANTRY_FLEET__READY_TENANTS`
    pub ready_tenants: u32,
}

/// By what the cluster for a new tenant is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The number of its tenants.
    Databases,
    /// The size of its databases.
    Bytes,
    /// The connections that are open there.
    Connections,
}

/// `TENANTRY_BACKUP__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// `TENANTRY_BACKUP__EVERY`; 0 makes none by itself.
    pub every: Span,
    /// `TENANTRY_BACKUP__KEEP`
    pub keep: Span,
}

/// `TENANTRY_SIGNUP__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUp {
    /// `TENANTRY_SIGNUP__MODE`
    pub mode: SignUpMode,
    /// `TENANTRY_SIGNUP__PER_HOUR`
    pub per_hour: u32,
    /// `TENANTRY_SIGNUP__UNLIMITED`
    pub unlimited: Vec<Network>,
}

/// `TENANTRY_OUTBOUND__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// `TENANTRY_OUTBOUND__ALLOW`
    pub allow: Vec<Network>,
}

/// Who may sign up for a tenant of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignUpMode {
    /// Everybody.
    Open,
    /// Whom an operator agrees to.
    Approval,
    /// Nobody.
    Closed,
}

/// `TENANTRY_MAIL__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// `TENANTRY_MAIL__FROM`
    pub from: String,
    /// `TENANTRY_MAIL__APP_URL`; see [`super::Config::app_url`].
    pub app_url: Option<String>,
    /// `TENANTRY_MAIL__TIMEOUT`
    pub timeout: Span,
    /// `TENANTRY_MAIL__ALLOWED_NETWORKS`
    pub allowed_networks: Vec<Network>,
}

/// `TENANTRY_LOG__…`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `TENANTRY_LOG__FORMAT`
    pub format: LogFormat,
    /// `TENANTRY_LOG__LEVEL`
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line; text on a terminal.
    Json,
    /// For people.
    Text,
}

/// The addresses that others are told.
fn check_addresses(figment: &Figment, settings: &Settings) -> Result<(), ConfigError> {
    for (key, url) in [("public_url", &settings.public_url), ("mail.app_url", &settings.mail.app_url)] {
        if url.as_ref().is_some_and(|url| !is_base_url(url)) {
            return Err(ConfigError::of(figment, key, "is no address", "set it as https://api.example.com"));
        }
    }
    if settings.public_url.as_ref().is_some_and(|url| url.len() > MAX_PUBLIC_URL_LEN) {
        let fault = format!("is longer than {MAX_PUBLIC_URL_LEN} bytes, and every token says it twice");
        return Err(ConfigError::of(figment, "public_url", fault, "set a shorter one, as https://api.example.com"));
    }
    Ok(())
}

/// What types alone cannot say.
pub(super) fn check(figment: &Figment, settings: &Settings) -> Result<(), ConfigError> {
    let fault = |key: &str, fault: &str, remedy: &str| Err(ConfigError::of(figment, key, fault, remedy));
    let (http, router, auth) = (&settings.http, &settings.router, &settings.auth);
    check_addresses(figment, settings)?;
    if settings.listen == settings.management_listen && settings.listen.port() != 0 {
        return fault("management_listen", "is the same as TENANTRY_LISTEN", "give each its own port");
    }
    for origin in &http.cors_origins {
        let good = Url::parse(origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *origin);
        if !good {
            let remedy = "list each as https://app.example.com, without a path";
            return fault("http.cors_origins", &format!("has '{origin}', which is no origin"), remedy);
        }
    }
    if http.body_limit.0 == 0 {
        return fault("http.body_limit", "is 0", "set at least 1KiB");
    }
    for (key, number) in [
        ("router.cluster_budget", router.cluster_budget),
        ("router.tenant_max_connections", router.tenant_max_connections),
    ] {
        if number == 0 {
            return fault(key, "is 0, so no tenant could be served", "set at least 1");
        }
    }
    if settings.signup.per_hour == 0 {
        return fault("signup.per_hour", "is 0", "set at least 1, or TENANTRY_SIGNUP__MODE=closed");
    }
    if settings.fleet.ready_tenants > 1000 {
        return fault("fleet.ready_tenants", "is over 1000", "keep a few; a taken one is made up for in a moment");
    }
    check_times(figment, settings)?;
    if auth.access_token_ttl > auth.refresh_token_ttl {
        return fault(
            "auth.access_token_ttl",
            "is longer than auth.refresh_token_ttl",
            "make it the shorter of the two",
        );
    }
    for (key, number) in [
        ("auth.lockout_failures", auth.lockout_failures),
        ("auth.address_failures", auth.address_failures),
        ("auth.tenant_failures", auth.tenant_failures),
    ] {
        if !(1..=1_000_000).contains(&number) {
            return fault(key, "is no number from 1 to 1000000", "set one, or leave it out");
        }
    }
    if auth.lockout_window.0 < Duration::from_secs(1) || auth.lockout_window.0 > Duration::from_secs(86_400) {
        return fault("auth.lockout_window", "is not between 1s and 1d", "set 15m, or leave it out");
    }
    if auth.clock_leeway.0 > Duration::from_secs(300) {
        return fault("auth.clock_leeway", "is over 5m", "keep the clocks together instead");
    }
    Ok(())
}
