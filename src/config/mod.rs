//! Configuration: the embedded `config/default.toml`, then the data directory, then the file, then the environment, then
//! what the command itself sets; the later one wins. The only place that reads the environment.

mod error;
mod layers;
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
pub use units::{LONGEST_WAIT, Network, Size, Span};

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
        let in_data_dir = || {
            let path = std::path::absolute(self.data_dir.as_ref()?.join("storage")).ok()?;
            url::Url::from_directory_path(path).ok().map(|url| String::from(url).into())
        };
        self.settings.storage_url.clone().or_else(in_data_dir)
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
        show::describe(&self.figment, &self.public_url)
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::load(&Sources::from_variables(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_embedded_file_is_the_default() {
        let config = load(&[]).unwrap();
        assert_eq!(config.listen().to_string(), "127.0.0.1:8080");
        assert_eq!(config.public_url(), "http://127.0.0.1:8080");
        assert_eq!(config.http().body_limit.0, 1024 * 1024);
        assert_eq!(config.router().acquire_timeout.0, Duration::from_secs(5));
        assert_eq!(config.auth().refresh_token_ttl.0, Duration::from_secs(30 * 86_400));
        assert!(config.database_url().unwrap_err().to_string().starts_with("TENANTRY_DATABASE_URL is not set; "));
    }

    #[test]
    fn the_environment_wins() {
        let config = load(&[
            ("TENANTRY_LISTEN", "0.0.0.0:80"),
            ("TENANTRY_ROUTER__CLUSTER_BUDGET", "7"),
            ("TENANTRY_AUTH__ACCESS_TOKEN_TTL", "1500ms"),
            ("TENANTRY_HTTP__DOCS", "false"),
            ("TENANTRY_HTTP__BODY_LIMIT", "2048"),
            ("TENANTRY_HTTP__CORS_ORIGINS", "https://a.example, https://b.example"),
            ("TENANTRY_PUBLIC_URL", "https://api.example.com/"),
            ("TENANTRY_ROUTER__SNAPSHOT_PATH", "/var/lib/tenantry/registry.redb"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.snapshot_path(), Some("/var/lib/tenantry/registry.redb".into()));
        assert_eq!(config.router().cluster_budget, 7);
        assert_eq!(config.auth().access_token_ttl.0, Duration::from_millis(1500));
        assert!(!config.http().docs);
        assert_eq!(config.http().body_limit.0, 2048);
        assert_eq!(config.http().cors_origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.public_url(), "https://api.example.com");
    }

    /// Of services called `tenantry` and `tenantry-db`, in whose namespace it runs.
    #[test]
    fn what_kubernetes_says_of_services_is_no_setting() {
        let links = [
            ("TENANTRY_SERVICE_HOST", "10.0.0.7"),
            ("TENANTRY_SERVICE_PORT", "8080"),
            ("TENANTRY_SERVICE_PORT_HTTP", "8080"),
            ("TENANTRY_PORT", "tcp://10.0.0.7:8080"),
            ("TENANTRY_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("TENANTRY_PORT_8080_TCP_PROTO", "tcp"),
            ("TENANTRY_PORT_8080_TCP_PORT", "8080"),
            ("TENANTRY_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("TENANTRY_DB_SERVICE_HOST", "10.0.0.8"),
            ("TENANTRY_DB_PORT", "tcp://10.0.0.8:5432"),
            ("TENANTRY_DB_PORT_5432_TCP_ADDR", "10.0.0.8"),
        ];
        load(&links).unwrap();
        // What looks alike is not passed over.
        for wrong in [("TENANTRY_PORT", "8080"), ("TENANTRY_PORT_TCP", "8080"), ("TENANTRY_HOST", "10.0.0.7")] {
            assert!(load(&[wrong]).unwrap_err().contains("is no setting"), "{wrong:?}");
        }
    }

    #[test]
    fn a_fault_is_one_line_with_variable_and_remedy() {
        let long = format!("https://{}.example.com", "h".repeat(200));
        let table = [
            (("TENANTRY_ROUTER__CLUSTR_BUDGET", "7"), "TENANTRY_ROUTER__CLUSTR_BUDGET is no setting; "),
            (("TENANTRY_ROUTER__CLUSTER_BUDGET", "many"), "TENANTRY_ROUTER__CLUSTER_BUDGET "),
            (("TENANTRY_ROUTER__CLUSTER_BUDGET", "0"), "TENANTRY_ROUTER__CLUSTER_BUDGET "),
            (("TENANTRY_ROUTER__IDLE_TIMEOUT", "60"), "TENANTRY_ROUTER__IDLE_TIMEOUT "),
            (("TENANTRY_BACKUP__KEEP", "100000000d"), "TENANTRY_BACKUP__KEEP "),
            (("TENANTRY_FLEET__PURGE_GRACE", "100000000d"), "TENANTRY_FLEET__PURGE_GRACE "),
            (("TENANTRY_AUTH__REFRESH_TOKEN_TTL", "100000000d"), "TENANTRY_AUTH__REFRESH_TOKEN_TTL "),
            (("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "25d"), "TENANTRY_ROUTER__STATEMENT_TIMEOUT "),
            (("TENANTRY_LISTEN", "localhost"), "TENANTRY_LISTEN "),
            (("TENANTRY_PUBLIC_URL", "example.com"), "TENANTRY_PUBLIC_URL "),
            (("TENANTRY_PUBLIC_URL", long.as_str()), "TENANTRY_PUBLIC_URL is longer than 180 "),
            (("TENANTRY_HTTP__TRUSTED_PROXIES", "10.0.0.0/99"), "TENANTRY_HTTP__TRUSTED_PROXIES "),
            (("TENANTRY_HTTP__CORS_ORIGINS", "*"), "TENANTRY_HTTP__CORS_ORIGINS "),
            (("TENANTRY_LOG__FORMAT", "xml"), "TENANTRY_LOG__FORMAT "),
            (("TENANTRY_MASTER_KEY_FILE", "/nonexistent"), "TENANTRY_MASTER_KEY_FILE "),
            (("TENANTRY_CONFIG", "/nonexistent.toml"), "TENANTRY_CONFIG "),
        ];
        for (variable, begins) in table {
            let said = load(&[variable]).unwrap_err();
            assert!(said.starts_with(begins), "{said}");
            assert!(said.contains("; ") && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn secrets_stay_hidden() {
        let config =
            load(&[("TENANTRY_DATABASE_URL", "postgres://u:hunter2@h/d"), ("TENANTRY_MASTER_KEY", "12345678")]);
        let config = config.unwrap();
        assert_eq!(config.database_url().unwrap().expose_secret(), "postgres://u:hunter2@h/d");
        assert_eq!(config.master_key().unwrap().expose_secret(), "12345678");
        let shown = format!("{:?} {:?}", config.describe(), config);
        assert!(!shown.contains("hunter2") && !shown.contains("12345678"));
    }

    #[test]
    fn a_data_directory_gives_database_key_and_address() {
        let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        let ready = r#"{"url": "http://127.0.0.1:8099", "databaseUrl": "postgres://u:p@h/d", "tenants": []}"#;
        std::fs::write(dir.join("ready.json"), ready).unwrap();
        std::fs::write(dir.join("master.key"), "c2VjcmV0\n").unwrap();
        let mut sources = Sources::default();
        sources.data_dir = Some(dir.clone());
        let node = Config::load(&sources).unwrap();
        assert_eq!(node.public_url(), "http://127.0.0.1:8099");
        assert_eq!(node.snapshot_path(), Some(dir.join("registry.redb")));
        assert_eq!(node.master_key().unwrap().expose_secret(), "c2VjcmV0");
        assert_eq!(node.database_url().unwrap().expose_secret(), "postgres://u:p@h/d");
        let mut dev = sources.clone();
        dev.overrides.push(("listen", "127.0.0.1:8100".into()));
        assert_eq!(Config::load(&dev).unwrap().public_url(), "http://127.0.0.1:8100");
        assert!(Config::load(&sources.without_data_dir()).unwrap().master_key().is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_data_directory_opens_nothing_unless_it_is_dev_s() {
        let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("master.key"), "c2VjcmV0\n").unwrap();
        let of = |variables: &[(&str, &str)]| {
            let mut sources = Sources::from_variables(variables);
            sources.data_dir = Some(dir.clone());
            Config::load(&sources).unwrap()
        };
        let production = of(&[]);
        assert_eq!(production.signup().mode, SignUpMode::Closed);
        assert!(production.signup().unlimited.is_empty() && production.outbound().allow.is_empty());
        assert!(production.mail().allowed_networks.is_empty());
        std::fs::write(dir.join(DEV_MARK), "{}").unwrap();
        let dev = of(&[]);
        assert_eq!(dev.signup().mode, SignUpMode::Open);
        let lists = [&dev.signup().unlimited, &dev.outbound().allow, &dev.mail().allowed_networks];
        assert!(lists.iter().all(|list| list.len() == 2), "{lists:?}");
        let said = of(&[("TENANTRY_SIGNUP__MODE", "approval"), ("TENANTRY_OUTBOUND__ALLOW", "")]);
        assert_eq!(said.signup().mode, SignUpMode::Approval);
        assert!(said.outbound().allow.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_setting_is_described_with_its_source() {
        let described = load(&[("TENANTRY_LOG__LEVEL", "debug")]).unwrap().describe();
        let of = |key: &str| described.iter().find(|s| s.key == key).unwrap().clone();
        assert_eq!((of("log.level").value.as_str(), of("log.level").source.as_str()), ("debug", "TENANTRY_LOG__LEVEL"));
        assert_eq!(of("router.idle_timeout").source, "default");
        assert_eq!(of("router.idle_timeout").variable, "TENANTRY_ROUTER__IDLE_TIMEOUT");
        assert_eq!(of("database_url").value, "(not set)");
    }
}
