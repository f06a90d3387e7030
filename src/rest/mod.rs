//! The REST contract's vocabulary: what a handler takes in and gives out. Uses `router` and `kernel`, knows no feature.
//!
//! In: [`Json`], [`OptionalJson`], [`NoBody`], [`MergePatch`], [`Query`], [`Path`], [`IfMatch`], [`Hints`], [`Authorized`],
//! [`SignedIn`], [`Idempotency`], [`ClientIp`]. Out: [`Reply`], [`Created`], [`Answer`], [`NoContent`], [`Tagged`], [`Listed`], and
//! [`ApiError`](crate::error::ApiError) for everything else.

mod access;
mod body;
pub mod browser;
mod client;
mod client_ip;
mod envelope;
mod etag;
mod fault;
mod few;
mod gate;
mod hints;
mod idempotency;
mod moment;
mod paging;
mod params;
pub mod passwords;
mod patch;
mod principal;
pub mod problem;
mod rate;
mod reply;
pub mod sorted;
mod sorting;
mod strict;
pub mod totp;

pub use access::{AnyCaller, Authorized, Caller, InPerson, Permission, Recent, SignedIn};
pub use body::{BodyLimit, Json, MergePatch, NoBody, OptionalJson, raw_body};
pub use browser::{RefreshCookie, TrustedOrigins, Visitor};
pub use client::Client;
pub use client_ip::{ClientIp, TrustedProxies, customer, site};
pub use envelope::{Envelope, ListEnvelope, ListMeta, Meta, Pagination, RequestId};
pub use etag::{IfMatch, Versioned, has_tag};
pub use few::ListFew;
pub use gate::Gate;
pub use hints::Hints;
pub use idempotency::{Answer, Idempotency, Keyed, Outcome, Replay, ShownOnce};
pub use moment::{check_end, within_reach};
pub use paging::{Listed, Pages, Paging};
pub(crate) use params::bad_parameter;
pub use params::{NoQuery, Path, Query, check_search, nameable};
pub use patch::Patch;
pub use principal::Principal;
pub use problem::{ErrorEnvelope, Problem, PublicUrl};
pub use rate::{RateNote, RateStanding};
pub use reply::{Created, NoContent, Reply, Tagged};
pub use sorting::{SortWord, Sorting};
