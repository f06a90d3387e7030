//! The proof of isolation on a running installation.

use crate::kernel::Slug;

/// What the tenants are called that the proof makes and removes.
const CANARY: &str = "canary-";

/// Whether a tenant is one of the proof's own.
pub(super) fn is_canary(slug: &Slug) -> bool {
    let digits = slug.as_str().strip_prefix(CANARY);
    digits.is_some_and(|digits| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
