//! The parts of the policy, as clients see and change them.

use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::PasswordPolicy;
use crate::rest::Patch;
use crate::rest::passwords::{MIN_CHARS, MIN_CHARS_WITH_FACTOR};

/// What a password has to be like. Whatever the policy, one that is among the first that would be tried is refused.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRules {
    /// Fewest characters, where the password is the only proof.
    #[schema(example = 15)]
    pub min_length: i32,
    /// Fewest characters of people in `mfaRequiredRoles`.
    #[schema(example = 8)]
    pub min_length_with_factor: i32,
    /// How many earlier passwords cannot be used again.
    #[schema(example = 0)]
    pub history: i32,
    /// Words of the organisation that a password must not be made of.
    #[schema(example = json!(["roadrunner"]))]
    pub blocked_words: Vec<String>,
}

impl From<PasswordPolicy> for PasswordRules {
    fn from(policy: PasswordPolicy) -> Self {
        let PasswordPolicy { min_length, min_length_with_factor, history, blocked_words } = policy;
        Self { min_length, min_length_with_factor, history, blocked_words }
    }
}

/// A change of what a password has to be like. Passwords that are in use stay.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchPasswordRules {
    /// Fewest characters, where the password is the only proof: 8 to 64; null for 15.
    #[serde(default)]
    #[garde(inner(range(min = 8, max = 64)))]
    #[schema(value_type = Option<i32>, minimum = 8, maximum = 64, example = 15)]
    pub min_length: Patch<i32>,
    /// Fewest characters of people in `mfaRequiredRoles`: 8 to 64; null for 8.
    #[serde(default)]
    #[garde(inner(range(min = 8, max = 64)))]
    #[schema(value_type = Option<i32>, minimum = 8, maximum = 64, example = 8)]
    pub min_length_with_factor: Patch<i32>,
    /// How many earlier passwords cannot be used again: up to 24; null for none.
    #[serde(default)]
    #[garde(inner(range(min = 0, max = 24)))]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 24, example = 5)]
    pub history: Patch<i32>,
    /// Words that a password must not be made of: up to 1,000; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 1000), inner(length(chars, min = 3, max = 100))))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["roadrunner"]))]
    pub blocked_words: Patch<Vec<String>>,
}

/// Applies a change.
pub(super) fn apply(change: &Patch<PatchPasswordRules>, policy: &mut PasswordPolicy) {
    const USUAL: (i32, i32) = (MIN_CHARS as i32, MIN_CHARS_WITH_FACTOR as i32);
    fn set<T: Clone>(place: &mut T, change: &Patch<T>, usual: T) {
        match change {
            Patch::Absent => {}
            Patch::Null => *place = usual,
            Patch::Value(value) => place.clone_from(value),
        }
    }
    let usual = PatchPasswordRules {
        min_length: Patch::Null,
        min_length_with_factor: Patch::Null,
        history: Patch::Null,
        blocked_words: Patch::Null,
    };
    let change = match change {
        Patch::Absent => return,
        Patch::Null => &usual,
        Patch::Value(change) => change,
    };
    set(&mut policy.min_length, &change.min_length, USUAL.0);
    set(&mut policy.min_length_with_factor, &change.min_length_with_factor, USUAL.1);
    set(&mut policy.history, &change.history, 0);
    set(&mut policy.blocked_words, &change.blocked_words, Vec::new());
}
