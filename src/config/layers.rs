//! Where values come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::names::{self, LATER, Meaning};
use super::{ConfigError, DEFAULTS, secret_file};

pub(super) const PREFIX: &str = "TENANTRY_";
/// Credentials of an S3 storage, under the names that every S3 client knows.
const S3_PREFIX: &str = "AWS_";
const DATA_DIR: &str = ".tenantry";
/// What `tenantry dev` keeps in its directory, whether it runs or not: the mark by which a directory is known for one of
/// its own. Any other may be that of a server in production.
pub const DEV_MARK: &str = "dev.json";
/// Variables that are no settings themselves.
pub(super) const CONFIG_VARIABLE: &str = "TENANTRY_CONFIG";
pub(super) const DATA_DIR_VARIABLE: &str = "TENANTRY_DATA_DIR";
/// Settings that may be given as a file.
pub(super) const FILES: [(&str, &str); 4] = [
    ("TENANTRY_DATABASE_URL_FILE", "database_url"),
    ("TENANTRY_MASTER_KEY_FILE", "master_key"),
    ("TENANTRY_PASSWORD_PEPPER_FILE", "password_pepper"),
    ("TENANTRY_SMTP_URL_FILE", "smtp_url"),
];

/// Where to look for settings.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// What the command itself sets, by key: `("listen", "127.0.0.1:8081")`. Wins over everything.
    pub overrides: Vec<(&'static str, String)>,
    variables: BTreeMap<String, String>,
    s3_variables: Vec<(String, String)>,
    working_dir: Option<PathBuf>,
}

impl Sources {
    /// The environment of this process, and the working directory.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn from_environment() -> Self {
        // Not `vars()`, which panics on a foreign variable that is no UTF-8.
        let named = |prefix: &'static str| {
            std::env::vars_os().filter_map(move |(name, value)| {
                let name = name.into_string().ok().filter(|name| name.starts_with(prefix))?;
                Some((name, value.to_string_lossy().into_owned()))
            })
        };
        let (variables, s3_variables) = (named(PREFIX).collect(), named(S3_PREFIX).collect());
        Self { variables, s3_variables, working_dir: std::env::current_dir().ok(), ..Self::default() }
    }

    /// `AWS_ACCESS_KEY_ID` and the like, for a storage that speaks S3.
    pub(super) fn s3_variables(&self) -> &[(String, String)] {
        &self.s3_variables
    }

    /// Given variables and nothing else: no environment, no working directory.
    #[must_use]
    pub fn from_variables(variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self { variables, ..Self::default() }
    }

    /// The installation's directory: `--data-dir`, `TENANTRY_DATA_DIR`, or `.tenantry/` of the working directory.
    ///
    /// # Errors
    /// If the one that is named is none.
    pub fn data_dir(&self) -> Result<Option<PathBuf>, ConfigError> {
        let named = match (&self.data_dir, self.variables.get(DATA_DIR_VARIABLE)) {
            (Some(dir), _) => Some(("--data-dir", dir.clone())),
            (None, Some(dir)) => Some((DATA_DIR_VARIABLE, PathBuf::from(dir))),
            (None, None) => None,
        };
        match named {
            Some((_, dir)) if dir.is_dir() => Ok(Some(dir)),
            Some((by, dir)) => {
                let fault = format!("names {}, which is no directory", dir.display());
                Err(ConfigError::new(by, fault, "start `tenantry dev` with it first, or correct the path"))
            }
            None => Ok(self.working_dir.as_ref().map(|dir| dir.join(DATA_DIR)).filter(|dir| dir.is_dir())),
        }
    }
}

impl Sources {
    /// Variables that are set, and that this release does not use yet.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        LATER.iter().copied().filter(|name| self.variables.contains_key(*name))
    }

    /// Variables that begin as ours do and are no settings, nor like one: of somebody's script, it seems.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let is_unknown = |(name, value): &(&String, &String)| names::meaning(name, value) == Ok(Meaning::Unknown);
        self.variables.iter().filter(is_unknown).map(|(name, _)| name.as_str())
    }

    /// Where `tenantry dev` keeps its installation: as [`Self::data_dir`], but it need not be there yet.
    #[must_use]
    pub fn dev_dir(&self) -> PathBuf {
        let named = self.data_dir.clone().or_else(|| self.variables.get(DATA_DIR_VARIABLE).map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from(DATA_DIR))
    }

    /// The same without any data directory: what holds before there is an installation.
    #[must_use]
    pub fn without_data_dir(&self) -> Self {
        let mut sources = Self { data_dir: None, working_dir: None, ..self.clone() };
        sources.variables.remove(DATA_DIR_VARIABLE);
        sources
    }
}

/// One source of values, under the name that `config show` gives it.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl Layer {
    fn one(name: impl Into<String>, key: &str, value: impl Into<Value>) -> Self {
        Self { name: name.into(), values: nested(key, value.into()) }
    }

    fn toml(name: impl Into<String>, text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text).map(|values| Self { name: name.into(), values })
    }
}

fn nested(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((section, rest)) => Dict::from([(section.to_owned(), nested(rest, value).into())]),
        None => Dict::from([(key.to_owned(), value)]),
    }
}

/// The variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The defaults alone.
pub(super) fn defaults() -> Figment {
    Figment::from(Layer::toml("default", DEFAULTS).expect("the embedded defaults are TOML"))
}

/// All layers, the later ones winning.
pub(super) fn assemble(sources: &Sources, data_dir: Option<&Path>) -> Result<Figment, ConfigError> {
    let defaults = defaults();
    let said = said(sources, &defaults)?;
    let mut figment = defaults;
    if let Some(dir) = data_dir {
        // A command that says where it listens is the installation itself: the address of its last run is not its own.
        let is_node = !sources.overrides.iter().any(|(key, _)| *key == "listen");
        figment = from_data_dir(figment, dir, &said, is_node)?;
    }
    Ok(figment.merge(said))
}

/// What wins over the data directory: a file, the environment, the command itself.
fn said(sources: &Sources, defaults: &Figment) -> Result<Figment, ConfigError> {
    let mut figment = Figment::new();
    let file = match (&sources.config, sources.variables.get(CONFIG_VARIABLE)) {
        (Some(path), _) => Some(("--config", path.clone())),
        (None, Some(path)) => Some((CONFIG_VARIABLE, PathBuf::from(path))),
        (None, None) => None,
    };
    if let Some((by, path)) = file {
        let unreadable = |fault: String| {
            ConfigError::new(by, format!("{}: {fault}", path.display()), "correct the file or its path")
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        let layer = Layer::toml(path.display().to_string(), &text).map_err(|e| unreadable(e.message().to_owned()))?;
        figment = figment.merge(layer);
    }
    for (name, key) in FILES {
        if let Some(path) = sources.variables.get(name) {
            if sources.variables.contains_key(&variable_of(key)) {
                return Err(ConfigError::new(name, format!("is set beside {}", variable_of(key)), "unset one of them"));
            }
            let secret = secret_file(name, Path::new(path))?;
            figment = figment.merge(Layer::one(name, key, secret.expose_secret()));
        }
    }
    for (name, value) in &sources.variables {
        if names::meaning(name, value)? == Meaning::Setting {
            let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
            figment = figment.merge(Layer::one(name, &key, typed(defaults, &key, value)));
        }
    }
    for (key, value) in &sources.overrides {
        figment = figment.merge(Layer::one("the command", key, typed(defaults, key, value)));
    }
    Ok(figment)
}

/// A variable's text as the type that the default has. Settings without a default are texts.
fn typed(defaults: &Figment, key: &str, text: &str) -> Value {
    match defaults.find_value(key) {
        Ok(Value::Array(..)) if !text.trim_start().starts_with('[') => {
            text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect::<Vec<_>>().into()
        }
        Ok(Value::Array(..) | Value::Num(..) | Value::Bool(..)) => {
            text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
        }
        _ => text.into(),
    }
}

/// What `tenantry dev` leaves in its directory for the other commands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    url: Option<String>,
    database_url: Option<String>,
}

/// An installation to try things out in: who can reach it on this machine signs up as often as he likes.
fn opened_for_dev(figment: Figment, dir: &Path) -> Figment {
    let place = dir.join(DEV_MARK).display().to_string();
    let loopback = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    figment
        .merge(Layer::one(&place, "signup.mode", "open"))
        .merge(Layer::one(&place, "signup.unlimited", loopback.clone()))
        // And its identity providers and the like may run beside it, and its mail server.
        .merge(Layer::one(&place, "outbound.allow", loopback.clone()))
        .merge(Layer::one(&place, "mail.allowed_networks", loopback))
}

fn from_data_dir(mut figment: Figment, dir: &Path, said: &Figment, is_node: bool) -> Result<Figment, ConfigError> {
    let mut own_database = None;
    let ready = dir.join("ready.json");
    if ready.is_file() {
        let place = ready.display().to_string();
        let damaged = |fault: String| ConfigError::new(&place, fault, "start `tenantry dev` again, which writes it");
        let text = std::fs::read_to_string(&ready).map_err(|error| damaged(format!("cannot be read: {error}")))?;
        let read: Ready = serde_json::from_str(&text).map_err(|_| damaged("is damaged".to_owned()))?;
        if let Some(url) = read.url.filter(|_| is_node) {
            figment = figment.merge(Layer::one(&place, "public_url", url));
        }
        if let Some(url) = read.database_url {
            figment = figment.merge(Layer::one(&place, "database_url", url.as_str()));
            own_database = Some(url);
        }
    }
    // What stands open to whoever tries things out is the directory's own installation. Another database is another one's.
    let named = said.find_value("database_url").ok();
    let is_own = !is_node || named.is_none_or(|named| named.as_str() == own_database.as_deref());
    if is_own && dir.join(DEV_MARK).is_file() {
        figment = opened_for_dev(figment, dir);
    }
    let key = dir.join("master.key");
    if key.is_file() {
        let place = key.display().to_string();
        let secret = secret_file(&place, &key)?;
        figment = figment.merge(Layer::one(&place, "master_key", secret.expose_secret()));
    }
    Ok(figment)
}
