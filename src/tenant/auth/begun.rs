//! Sign-ins of strangers that are under way: bounded by address, so that nobody alone makes those of all others give way.

use std::time::Duration;

use crate::error::{ApiError, Code, Limit};

/// The built-in schema that knows from where they began (`V23__asked.sql`).
pub(super) const SINCE: i32 = 23;

/// 429: as many are under way from this address as may be, and each lasts this long.
pub(super) fn too_many(most: i64, window: Duration) -> ApiError {
    let limit = Limit { name: "sign-ins-begun", quota: u32::try_from(most).unwrap_or(u32::MAX), window };
    let said = "Too many sign-ins were begun from here and not ended. Wait, and begin again.";
    ApiError::new(Code::RateLimited).detail(said).retry_after(window / 10).limited(limit)
}
