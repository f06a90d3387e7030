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

pub use clock::Clock;
pub use ids::*;
pub use slug::Slug;

/// The longest public URL of an installation, in bytes: every token says it twice, and has to be short.
pub const MAX_PUBLIC_URL_LEN: usize = 180;
