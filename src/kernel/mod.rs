//! The words every other module speaks: ids, names, time, secrets, opaque tokens, pages, requests, traces. No I/O.

pub mod chunks;
pub mod clock;
pub mod crypto;
pub mod ids;
pub mod opaque;
pub mod page;
pub mod request;
pub mod slug;
pub mod trace;

use std::time::Duration;

pub use clock::Clock;
pub use ids::*;
pub use slug::Slug;

/// The longest public URL of an installation, in bytes: every token says it twice, and has to be short.
pub const MAX_PUBLIC_URL_LEN: usize = 180;

/// The longest that anything is waited for: PostgreSQL counts milliseconds in 31 bits, not quite 25 days.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 86_400);

/// Whether others can be told an address to build theirs on, as `https://api.example.com`.
#[must_use]
pub fn is_base_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() && url.fragment().is_none()
    })
}
