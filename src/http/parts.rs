//! What a node is made of, as its configuration says; each fault is told with its remedy.

use std::error::Error as _;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::config::{Config, ConfigError};
use crate::kernel::crypto::MasterKeys;
use crate::mailer::{self, Mailer, MailerSettings, SmtpServer};
use crate::rest::passwords::{Leaked, Peppers};
use crate::router::Target;
use crate::router::migrate::{MigrationSet, OPERATOR_HISTORY};
use crate::storage::Storage;

/// What a node is made of, as its configuration says: whatever is wrong with that is found here.
pub(super) struct Parts {
    pub(super) keys: MasterKeys,
    pub(super) target: Target,
    pub(super) peppers: Peppers,
    pub(super) leaked: Option<Leaked>,
    pub(super) storage: Option<Storage>,
    pub(super) mailer: Option<Mailer>,
}

impl Parts {
    pub(super) fn read(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            target: control_target(config)?,
            keys: master_keys(config)?,
            peppers: peppers(config)?,
            leaked: leaked(config)?,
            storage: storage(config)?,
            mailer: mailer(config)?,
        })
    }
}

/// The operator's own migrations, if a directory of them is named: it has to be there, and its files be migrations.
pub(super) fn own_migrations(config: &Config) -> Result<(), ConfigError> {
    let Some(dir) = config.tenant_migrations() else { return Ok(()) };
    if !dir.is_dir() {
        let said = format!("names {}, which is no directory", dir.display());
        return Err(ConfigError::new("TENANTRY_TENANT_MIGRATIONS", said, "make it, or unset the variable"));
    }
    MigrationSet::read(OPERATOR_HISTORY, dir).map(drop).map_err(|fault| {
        let why = fault.source().map(|why| format!(": {why}")).unwrap_or_default();
        let said = format!("cannot be used: {fault}{why}");
        ConfigError::new("TENANTRY_TENANT_MIGRATIONS", said, "correct that file, or unset the variable")
    })
}

/// The control plane's database. Without an `sslmode` in its URL: no TLS on this machine, `verify-full` elsewhere.
fn control_target(config: &Config) -> Result<Target, ConfigError> {
    Target::parse_control_plane(config.database_url()?).map_err(|error| {
        let remedy = "write it as postgres://user:password@host:5432/name";
        ConfigError::new("TENANTRY_DATABASE_URL", format!("cannot be used: {error}"), remedy)
    })
}

/// The master keys.
fn master_keys(config: &Config) -> Result<MasterKeys, ConfigError> {
    MasterKeys::parse(config.master_key()?).map_err(|error| {
        ConfigError::new("TENANTRY_MASTER_KEY", format!("cannot be used: {error}"), "correct the entry")
    })
}

/// What goes into hashes of passwords; nothing, unless it is set.
fn peppers(config: &Config) -> Result<Peppers, ConfigError> {
    let Some(list) = config.password_pepper() else { return Ok(Peppers::default()) };
    Peppers::parse(list).map_err(|error| {
        let remedy = "make one with `tenantry key generate`, newest first, separated by commas";
        ConfigError::new("TENANTRY_PASSWORD_PEPPER", format!("cannot be used: {error}"), remedy)
    })
}

/// Passwords that nobody may choose, for they have leaked; none, unless a list is named.
fn leaked(config: &Config) -> Result<Option<Leaked>, ConfigError> {
    let Some(path) = &config.auth().leaked_passwords else { return Ok(None) };
    Leaked::open(path).map(Some).map_err(|error| {
        let remedy = "name a file of SHA-1 digests, sorted, one a line, that the server may read";
        ConfigError::new("TENANTRY_AUTH__LEAKED_PASSWORDS", format!("cannot be used: {error}"), remedy)
    })
}

/// Where backups are kept; nowhere without a setting and a data directory.
fn storage(config: &Config) -> Result<Option<Storage>, ConfigError> {
    let Some(url) = config.storage_url() else { return Ok(None) };
    Storage::parse(url.expose_secret(), config.s3_variables()).map(Some).map_err(|error| {
        let remedy = "write it as file:///directory or s3://bucket?endpoint=https://host";
        ConfigError::new("TENANTRY_STORAGE_URL", format!("cannot be used: {error}"), remedy)
    })
}

/// How mail is sent; none without a mail server.
fn mailer(config: &Config) -> Result<Option<Mailer>, ConfigError> {
    let mail = config.mail();
    let from = mailer::sender(&mail.from).map_err(|error| {
        let remedy = "write it as Tenantry <no-reply@example.com>";
        ConfigError::new("TENANTRY_MAIL__FROM", error.to_string(), remedy)
    })?;
    let Some(url) = config.smtp_url() else { return Ok(None) };
    let server = SmtpServer::parse(url.expose_secret()).map_err(|error| {
        let remedy = "write it as smtps://user:password@host:465 or smtp://host:587?tls=required";
        ConfigError::new("TENANTRY_SMTP_URL", error.to_string(), remedy)
    })?;
    let allowed = mail.allowed_networks.clone();
    let local = Arc::new(move |ip| allowed.iter().any(|network| network.contains(ip)));
    Ok(Some(Mailer::new(MailerSettings { server, from, timeout: mail.timeout.0, local })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn target(url: &str) -> Result<Target, String> {
        let config = Config::load(&Sources::from_variables(&[("TENANTRY_DATABASE_URL", url)])).unwrap();
        control_target(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let refused = target("mysql://u:hunter2@h/d").unwrap_err();
        assert!(refused.starts_with("TENANTRY_DATABASE_URL cannot be used: ") && !refused.contains("hunter2"));
    }
}
