//! The words every other module speaks: ids, names, time, secrets, opaque tokens, pages. No I/O.

pub mod clock;
pub mod crypto;
pub mod ids;
pub mod opaque;
pub mod page;
pub mod slug;

pub use clock::Clock;
pub use ids::*;
pub use slug::Slug;
