//! Scopes: names of permissions, and the words of OpenID Connect.

use std::collections::BTreeSet;

use crate::error::{ApiError, ApiResult};
use crate::router::token::MAX_SCOPE_LEN;
use crate::tenant::api_keys::rules as keys;

/// Scopes that are no permission: who somebody is (`openid`), their names, their address.
pub const OPENID: [&str; 3] = ["openid", "profile", "email"];

/// The words of a list as it is written in requests and tokens, each once.
pub(super) fn read(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    text.split(' ').filter(|word| !word.is_empty() && seen.insert(*word)).map(str::to_owned).collect()
}

/// The words of a list as a token says them: each once, with spaces between them.
pub(super) fn written(scopes: &[String]) -> String {
    read(&scopes.join(" ")).join(" ")
}

/// Whether a list has a word.
pub(super) fn has(scopes: &[String], word: &str) -> bool {
    scopes.iter().any(|scope| scope == word)
}

/// What was asked for: the words, or all that may be asked for where none are named. None if one of them may not.
pub(super) fn within(asked: Option<&str>, most: &[String]) -> Option<Vec<String>> {
    let Some(asked) = asked else { return Some(most.to_vec()) };
    let asked = read(asked);
    (!asked.is_empty() && asked.iter().all(|scope| most.contains(scope))).then_some(asked)
}

/// The permissions among them.
pub(in crate::tenant) fn permissions(scopes: &[String]) -> Vec<String> {
    scopes.iter().filter(|scope| !OPENID.contains(&scope.as_str())).cloned().collect()
}

/// Refuses scopes that are nothing, that whoever asks does not have, or that no token has room for.
///
/// # Errors
/// 422 on the first of them.
pub(super) fn check(scopes: &[String], own: &BTreeSet<String>) -> ApiResult<()> {
    let mut may = own.clone();
    may.extend(OPENID.map(str::to_owned));
    keys::check_scopes(scopes, &may)?;
    if written(scopes).len() > MAX_SCOPE_LEN {
        let said = format!("They may take {MAX_SCOPE_LEN} characters altogether, with spaces between them.");
        return Err(ApiError::invalid_field("scopes", "too_large", said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn nobody_asks_for_more_than_there_is() {
        let most = words(&["openid", "a:read", "b:read"]);
        assert_eq!(within(None, &most), Some(most.clone()));
        assert_eq!(within(Some("b:read  openid b:read"), &most), Some(words(&["b:read", "openid"])));
        assert_eq!(within(Some("a:read c:read"), &most), None);
        assert_eq!(within(Some(" "), &most), None);
        assert_eq!(permissions(&most), words(&["a:read", "b:read"]));
        let own = BTreeSet::from(["a:read".to_owned()]);
        assert!(check(&words(&["openid", "a:read"]), &own).is_ok());
        assert_eq!(check(&most, &own).unwrap_err().fields()[0].field, "scopes[2]");
        // However often one is named, a token says it once; and there is an end to what it says.
        let often = vec!["a:read".to_owned(); 200];
        assert_eq!(written(&often), "a:read");
        assert!(check(&often, &own).is_ok());
        let many: Vec<String> = (100..300).map(|at| format!("a:{at}")).collect();
        let refused = check(&many, &many.iter().cloned().collect()).unwrap_err();
        assert_eq!((&*refused.fields()[0].field, &*refused.fields()[0].code), ("scopes", "too_large"));
    }
}
