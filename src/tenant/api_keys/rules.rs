//! Decisions about API keys that need no database.

use std::collections::BTreeSet;

use crate::config::Network;
use crate::error::{ApiError, ApiResult};

/// What a key may do: its scopes, as far as its owner may do them.
pub(in crate::tenant) fn effective(scopes: &[String], owner_s: &[String]) -> BTreeSet<String> {
    scopes.iter().filter(|scope| owner_s.contains(scope)).cloned().collect()
}

/// Refuses scopes that are no permission, or that whoever asks does not have.
///
/// # Errors
/// 422 on the first of them.
pub(in crate::tenant) fn check_scopes(scopes: &[String], own: &BTreeSet<String>) -> ApiResult<()> {
    match scopes.iter().position(|scope| !own.contains(scope)) {
        None => Ok(()),
        Some(at) => {
            let said = format!("You do not have the permission '{}' yourself.", scopes[at]);
            Err(ApiError::invalid_field(format!("scopes[{at}]"), "beyond_own_permissions", said))
        }
    }
}

/// Refuses what is no network.
///
/// # Errors
/// 422 on the first of them.
pub(super) fn check_addresses(addresses: &[String]) -> ApiResult<()> {
    match addresses.iter().position(|text| text.parse::<Network>().is_err()) {
        None => Ok(()),
        Some(at) => {
            let said = "Write an address or a network, as 203.0.113.7 or 2001:db8::/32.";
            Err(ApiError::invalid_field(format!("allowedAddresses[{at}]"), "invalid", said))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_key_may_do_what_both_may() {
        let both = effective(&words(&["a:read", "b:read"]), &words(&["b:read", "c:read"]));
        assert_eq!(both.into_iter().collect::<Vec<_>>(), ["b:read"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let own = BTreeSet::from(["a:read".to_owned()]);
        assert!(check_scopes(&words(&["a:read"]), &own).is_ok());
        let refused = check_scopes(&words(&["a:read", "x:y"]), &own).unwrap_err();
        assert_eq!(refused.fields()[0].field, "scopes[1]");
        assert!(check_addresses(&words(&["203.0.113.7", "2001:db8::/32"])).is_ok());
        let refused = check_addresses(&words(&["203.0.113.7", "nowhere"])).unwrap_err();
        assert_eq!(refused.fields()[0].field, "allowedAddresses[1]");
    }
}
