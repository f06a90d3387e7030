//! Which variables are settings, and which are somebody else's.

use super::ConfigError;
use super::layers::{CONFIG_VARIABLE, DATA_DIR_VARIABLE, FILES, PREFIX, variable_of};
use super::show;

/// Variables of capabilities that this release does not have: known, so that an environment written for a later one
/// starts this one too, and warned about.
pub(super) const LATER: [&str; 1] = ["TENANTRY_REDIS_URL"];
/// From here on a name is taken for a slip of the pen, by the measure of Jaro and Winkler.
const SIMILAR: f64 = 0.9;

/// What a variable that begins as ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A setting, or looks like one of a section: the settings themselves say whether it is there.
    Setting,
    /// Read elsewhere, or known not to be meant for us.
    Other,
    /// Of somebody's script, as far as we know.
    Unknown,
}

/// The meaning of a variable.
///
/// # Errors
/// If it is none of ours, and was probably meant to be.
pub(super) fn meaning(name: &str, value: &str) -> Result<Meaning, ConfigError> {
    let is_other = [CONFIG_VARIABLE, DATA_DIR_VARIABLE].contains(&name)
        || FILES.iter().any(|(file, _)| *file == name)
        || LATER.contains(&name)
        || is_service_link(name, value);
    if is_other {
        return Ok(Meaning::Other);
    }
    if name.contains("__") || show::keys().iter().any(|key| variable_of(key).eq_ignore_ascii_case(name)) {
        return Ok(Meaning::Setting);
    }
    match similar(name) {
        Some(meant) => Err(ConfigError::new(name, "is no setting", format!("did you mean {meant}?"))),
        None => Ok(Meaning::Unknown),
    }
}

/// The variable that is meant by one that we do not know: that of a section, if it is only the section that was forgotten; else
/// the nearest.
pub(super) fn similar(name: &str) -> Option<String> {
    let settings = show::keys().into_iter().map(|key| variable_of(&key));
    let without_section = name.to_ascii_uppercase().strip_prefix(PREFIX).map(|bare| format!("__{bare}"));
    let is_of_section = |known: &String| without_section.as_ref().is_some_and(|end| known.ends_with(end));
    if let Some(meant) = settings.clone().find(is_of_section) {
        return Some(meant);
    }
    let others = FILES.iter().map(|(file, _)| *file).chain([CONFIG_VARIABLE, DATA_DIR_VARIABLE]).map(str::to_owned);
    // All begin alike: that says nothing.
    let bare = |name: &str| name.to_ascii_uppercase().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let likeness = |known: &String| strsim::jaro_winkler(&bare(known), &bare(name));
    let known = settings.chain(others).map(|known| (likeness(&known), known));
    let nearest = known.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.filter(|(likeness, _)| *likeness >= SIMILAR).map(|(_, known)| known)
}

/// Whether a variable tells where a service is, as Kubernetes tells each container of every service of its namespace: one
/// that is called `tenantry`, or begins so, has the names of our settings.
fn is_service_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('_').collect();
    match parts.as_slice() {
        [.., "SERVICE", "HOST"] => true,
        [.., "PORT", number, protocol] | [.., "PORT", number, protocol, "PROTO" | "PORT" | "ADDR"]
            if is_number(number) && PROTOCOLS.contains(protocol) =>
        {
            true
        }
        parts if parts.windows(2).any(|two| two == ["SERVICE", "PORT"]) => true,
        [.., "PORT"] => {
            value.split_once("://").is_some_and(|(scheme, _)| PROTOCOLS.contains(&&*scheme.to_ascii_uppercase()))
        }
        _ => false,
    }
}
