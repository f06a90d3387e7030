//! Configuration: the embedded `config/default.toml`, then the data directory, then the file, then the environment, then
//! what the command itself sets; the later one wins. The only place that reads the environment.

mod error;
mod layers;
mod names;
mod schema;
mod show;
mod times;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use figment::Figment;
use secrecy::{ExposeSecret as _, SecretString};

pub use error::ConfigError;
pub use layers::{DEV_MARK, Sources};
pub use schema::{Auth, Backup, Fleet, Http, Log, LogFormat, Mail, Outbound, Placement, Router, SignUp, SignUpMode};
pub use show::Setting;
pub use units::{Network, Size, Span};

use schema::Settings;

/// The defaults, as embedded: the reference of every setting.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The configuration in effect.
#[derive(Clone)]
pub struct Config {
    settings: Settings,
    public_url: String,
    data_dir: Option<PathBuf>,
    s3_variables: Vec<(String, String)>,
    figment: Figment,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Config {
    /// Reads all layers and checks them.
    ///
    /// # Errors
    /// [`ConfigError`]: one line with the variable, its fault and the remedy.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let data_dir = sources.data_dir()?;
        let figment = layers::assemble(sources, data_dir.as_deref())?;
        let settings: Settings = figment.extract().map_err(|error| ConfigError::from_figment(&figment, error))?;
        schema::check(&figment, &settings)?;
        let public_url = match &settings.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => public_url_of(settings.listen),
        };
        let s3_variables = sources.s3_variables().to_vec();
        Ok(Self { settings, public_url, data_dir, s3_variables, figment })
    }

    /// The control plane's database.
    ///
    /// # Errors
    /// If none is set.
    pub fn database_url(&self) -> Result<&SecretString, ConfigError> {
        self.settings.database_url.as_ref().ok_or_else(|| {
            let remedy = "set it to postgres://…, or give the --data-dir of a `tenantry dev` that has been started";
            ConfigError::new("TENANTRY_DATABASE_URL", "is not set", remedy)
        })
    }

    /// The list of master keys, newest first.
    ///
    /// # Errors
    /// If none is set.
    pub fn master_key(&self) -> Result<&SecretString, ConfigError> {
        self.settings.master_key.as_ref().ok_or_else(|| {
            ConfigError::new("TENANTRY_MASTER_KEY", "is not set", "make a key with `tenantry key generate` and set it")
        })
    }

    /// Secrets that go into hashes of passwords, newest first; without them, nothing does.
    #[must_use]
    pub fn password_pepper(&self) -> Option<&SecretString> {
        self.settings.password_pepper.as_ref()
    }

    /// Base of issuers and links, without a trailing slash.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The public listener.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        self.settings.listen
    }

    /// The management listener.
    #[must_use]
    pub const fn management_listen(&self) -> SocketAddr {
        self.settings.management_listen
    }

    /// Whether nobody has set the management listener.
    #[must_use]
    pub fn management_listen_is_default(&self) -> bool {
        self.figment.find_metadata("management_listen").is_none_or(|metadata| metadata.name == "default")
    }

    /// The operator's own migrations of tenant databases.
    #[must_use]
    pub fn tenant_migrations(&self) -> Option<&std::path::Path> {
        self.settings.tenant_migrations.as_deref()
    }

    /// The installation's directory on this machine, if there is one.
    #[must_use]
    pub fn data_dir(&self) -> Option<&std::path::Path> {
        self.data_dir.as_deref()
    }

    /// The file of the registry's snapshot: as set, or in the data directory.
    #[must_use]
    pub fn snapshot_path(&self) -> Option<PathBuf> {
        let set = self.settings.router.snapshot_path.clone();
        set.or_else(|| self.data_dir.as_ref().map(|dir| dir.join("registry.redb")))
    }

    /// Where backups are kept: as set, or in the data directory; nowhere without either.
    #[must_use]
    pub fn storage_url(&self) -> Option<SecretString> {
        self.settings.storage_url.clone().or_else(|| self.storage_in_data_dir().map(SecretString::from))
    }

    fn storage_in_data_dir(&self) -> Option<String> {
        let path = std::path::absolute(self.data_dir.as_ref()?.join("storage")).ok()?;
        url::Url::from_directory_path(path).ok().map(String::from)
    }

    /// Credentials of a storage that speaks S3, by their usual variables.
    #[must_use]
    pub fn s3_variables(&self) -> &[(String, String)] {
        &self.s3_variables
    }

    /// Section `backup`.
    #[must_use]
    pub const fn backup(&self) -> &Backup {
        &self.settings.backup
    }

    /// Section `http`.
    #[must_use]
    pub const fn http(&self) -> &Http {
        &self.settings.http
    }

    /// Section `router`.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.settings.router
    }

    /// Section `auth`.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.settings.auth
    }

    /// Section `fleet`.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.settings.fleet
    }

    /// Section `signup`.
    #[must_use]
    pub const fn signup(&self) -> &SignUp {
        &self.settings.signup
    }

    /// Section `outbound`.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        &self.settings.outbound
    }

    /// The mail server; none, and mails wait, or are in the log of `tenantry dev`.
    #[must_use]
    pub const fn smtp_url(&self) -> Option<&SecretString> {
        self.settings.smtp_url.as_ref()
    }

    /// Section `mail`.
    #[must_use]
    pub const fn mail(&self) -> &Mail {
        &self.settings.mail
    }

    /// Where the links in mails lead, without a trailing slash: as set, or the public address.
    #[must_use]
    pub fn app_url(&self) -> &str {
        self.settings.mail.app_url.as_deref().map_or(&self.public_url, |url| url.trim_end_matches('/'))
    }

    /// Section `log`.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.settings.log
    }

    /// Every setting with its value and where it came from, secrets masked.
    #[must_use]
    pub fn describe(&self) -> Vec<Setting> {
        show::describe(&self.figment, |key| self.derived(key))
    }

    /// What holds where nobody gave a setting, if it follows from others, and from which.
    fn derived(&self, key: &str) -> Option<(String, &'static str)> {
        let of_data_dir = |value| (value, "from the data directory");
        match key {
            "public_url" => Some((self.public_url.clone(), "from listen")),
            "mail.app_url" => Some((self.app_url().to_owned(), "from public_url")),
            "router.snapshot_path" => self.snapshot_path().map(|path| of_data_dir(path.display().to_string())),
            // One that was given may hold a password; this one has none.
            "storage_url" => self.storage_in_data_dir().map(of_data_dir),
            _ => None,
        }
    }
}

fn public_url_of(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        format!("http://localhost:{}", listen.port())
    } else {
        format!("http://{listen}")
    }
}

/// Reads a file that holds one secret, without the line's end.
///
/// # Errors
/// If it cannot be read, or is empty.
pub fn secret_file(variable: &str, path: &std::path::Path) -> Result<SecretString, ConfigError> {
    let remedy = "name a readable file that holds the value alone";
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(variable, format!("cannot read {}: {error}", path.display()), remedy))?;
    let secret = SecretString::from(text.trim());
    if secret.expose_secret().is_empty() {
        return Err(ConfigError::new(variable, format!("{} is empty", path.display()), remedy));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests;
