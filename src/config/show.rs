//! Every setting with its value and its source.

use figment::Figment;
use figment::value::{Dict, Value};
use serde::Serialize;

use super::layers::{defaults, variable_of};

/// Settings without a default, and whether they are secret.
const WITHOUT_DEFAULT: [(&str, bool); 11] = [
    ("database_url", true),
    ("master_key", true),
    ("password_pepper", true),
    ("public_url", false),
    ("tenant_migrations", false),
    ("storage_url", true),
    ("smtp_url", true),
    ("mail.app_url", false),
    ("router.snapshot_path", false),
    ("auth.leaked_passwords", false),
    ("auth.passkey_rp_id", false),
];

/// One setting.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// Its key in the file: `router.idle_timeout`.
    pub key: String,
    /// Its variable.
    pub variable: String,
    /// Its value in effect; secrets masked.
    pub value: String,
    /// `default`, the variable, the file, the command, or `from` the setting that it follows from.
    pub source: String,
}

/// `derived` is the value of a setting that nobody gave, where it follows from others, and from which.
pub(super) fn describe(figment: &Figment, derived: impl Fn(&str) -> Option<(String, &'static str)>) -> Vec<Setting> {
    let one = |key: String| {
        let secret = WITHOUT_DEFAULT.contains(&(key.as_str(), true));
        let found = figment.find_value(&key).ok();
        let source = figment.find_metadata(&key).map(|metadata| metadata.name.to_string());
        let (value, source) = match (found, source) {
            (Some(_), Some(source)) if secret => ("********".to_owned(), source),
            (Some(value), Some(source)) => (text(&value), source),
            _ => {
                let (value, source) = derived(&key).unwrap_or_else(|| ("(not set)".to_owned(), "default"));
                (value, source.to_owned())
            }
        };
        Setting { variable: variable_of(&key), key, value, source }
    };
    keys().into_iter().map(one).collect()
}

/// The keys of all settings.
pub(super) fn keys() -> Vec<String> {
    let mut keys: Vec<String> = WITHOUT_DEFAULT.iter().map(|(key, _)| (*key).to_owned()).collect();
    if let Ok(all) = defaults().find_value("") {
        collect("", &all, &mut keys);
    }
    keys
}

/// The default of a key, as text.
pub(super) fn default_of(key: &str) -> Option<String> {
    defaults().find_value(key).ok().map(|value| text(&value))
}

fn collect(prefix: &str, value: &Value, keys: &mut Vec<String>) {
    let Value::Dict(_, dict) = value else { return keys.push(prefix.to_owned()) };
    let (sections, plain): (Vec<_>, Vec<_>) = dict.iter().partition(|(_, value)| matches!(value, Value::Dict(..)));
    for (name, value) in plain.into_iter().chain(sections) {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        collect(&key, value, keys);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .unwrap_or_default(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Dict(_, dict) => keys_of(dict),
        Value::Char(_, c) => c.to_string(),
        Value::Empty(..) => String::new(),
    }
}

fn keys_of(dict: &Dict) -> String {
    dict.keys().cloned().collect::<Vec<_>>().join(", ")
}
