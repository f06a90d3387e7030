//! What is wrong with the configuration, in one line.

use std::fmt;

use figment::Figment;
use figment::error::{Error as FigmentError, Kind};

use super::layers::variable_of;
use super::names::similar;

/// One line: the variable, the value's fault, the remedy. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    setting: String,
    fault: String,
    remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{} {}; {}", self.setting, self.fault, self.remedy);
        f.write_str(&line.replace('\n', " "))
    }
}

impl ConfigError {
    /// A setting (its variable, or its key and file), what is wrong with it, and what to do.
    pub fn new(setting: impl Into<String>, fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { setting: setting.into(), fault: fault.into(), remedy: remedy.into() }
    }

    /// A fault of the value of `key`, named by where the value came from.
    pub(super) fn of(figment: &Figment, key: &str, fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(place(figment, key), fault, remedy)
    }

    pub(super) fn from_figment(figment: &Figment, error: FigmentError) -> Self {
        // An item of a list is named by its list.
        let named = error.path.iter().filter(|part| part.parse::<usize>().is_err()).map(String::as_str);
        let mut key = named.collect::<Vec<_>>().join(".");
        let default = super::show::default_of(&key);
        let remedy = default.map_or_else(|| "correct it".to_owned(), |value| format!("the default is {value}"));
        match error.kind {
            Kind::UnknownField(name, _) => {
                if error.path.last().is_none_or(|last| *last != name) {
                    key = error.path.iter().map(String::as_str).chain([name.as_str()]).collect::<Vec<_>>().join(".");
                }
                let remedy = similar(&variable_of(&key)).map(|meant| format!("did you mean {meant}?"));
                let remedy = remedy.unwrap_or_else(|| "`tenantry config show` lists those there are".to_owned());
                Self::of(figment, &key, "is no setting", remedy)
            }
            Kind::Message(said) | Kind::InvalidValue(_, said) => Self::of(figment, &key, said, remedy),
            Kind::InvalidType(_, expected) => Self::of(figment, &key, format!("must be {expected}"), remedy),
            Kind::UnknownVariant(_, known) => {
                Self::of(figment, &key, format!("must be one of: {}", known.join(", ")), remedy)
            }
            _ => Self::of(figment, &key, "cannot be used", remedy),
        }
    }
}

/// The variable itself, or the key and the file it stands in.
fn place(figment: &Figment, key: &str) -> String {
    let variable = variable_of(key);
    match figment.find_metadata(key).map(|metadata| metadata.name.to_string()) {
        Some(source) if source.starts_with("TENANTRY_") => source,
        Some(source) if source != "default" => format!("{variable} ({key} in {source})"),
        _ => variable,
    }
}
