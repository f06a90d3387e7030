//! Moments that clients name: chrono's calendar is wider than that of PostgreSQL, and than RFC 3339 can write.

use chrono::{DateTime, Utc};

use crate::error::{ApiError, ApiResult};

/// The last second of the year 9999, the last with four digits.
const LATEST: i64 = 253_402_300_799;

fn latest() -> DateTime<Utc> {
    DateTime::from_timestamp(LATEST, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A moment to compare rows with: nothing here is older than the one end, or younger than the other.
#[must_use]
pub fn within_reach(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.clamp(DateTime::UNIX_EPOCH, latest())
}

/// Refuses an end that has passed, or that is too far off to be written down.
///
/// # Errors
/// 422 on `expiresAt`.
pub fn check_end(expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> ApiResult<()> {
    match expires_at {
        Some(at) if at <= now => Err(ApiError::invalid_field("expiresAt", "past", "It has passed.")),
        Some(at) if at > latest() => {
            let said = "The year 9999 is the last. Leave it out for what is never to end.";
            Err(ApiError::invalid_field("expiresAt", "invalid", said))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_is_out_of_reach() {
        assert_eq!(within_reach(DateTime::<Utc>::MIN_UTC), DateTime::UNIX_EPOCH);
        assert_eq!(within_reach(DateTime::<Utc>::MAX_UTC), latest());
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert_eq!(within_reach(now), now);
    }

    #[test]
    fn an_end_is_to_come_and_can_be_written() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert!(check_end(Some(now), now).is_err() && check_end(Some(DateTime::<Utc>::MAX_UTC), now).is_err());
        assert!(check_end(Some(latest()), now).is_ok() && check_end(None, now).is_ok());
    }
}
