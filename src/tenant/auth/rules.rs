//! Decisions of signing in that need no database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// So many failures within [`LOCKOUT_WINDOW`] lock an address.
pub const LOCKOUT_FAILURES: usize = 5;
/// How long a failure counts.
pub const LOCKOUT_WINDOW: TimeDelta = TimeDelta::minutes(15);

/// How long an address stays locked. `failures` are the last [`LOCKOUT_FAILURES`] since its last success, newest first.
#[must_use]
pub fn lockout(failures: &[DateTime<Utc>], now: DateTime<Utc>) -> Option<Duration> {
    let oldest = failures.get(LOCKOUT_FAILURES - 1)?;
    (*oldest + LOCKOUT_WINDOW - now).to_std().ok().filter(|left| !left.is_zero())
}

/// How long an attempt after so many failures is held back, right or wrong.
#[must_use]
pub fn slowdown(failures: usize) -> Duration {
    Duration::from_millis(match failures {
        0 | 1 => 0,
        2 => 100,
        3 => 200,
        _ => 400,
    })
}

/// What is known when a refresh token is presented.
#[derive(Debug, Clone, Copy)]
pub struct Presented {
    /// When the token runs out.
    pub expires_at: DateTime<Utc>,
    /// When it was exchanged for its successor, if it was.
    pub rotated_at: Option<DateTime<Utc>>,
    /// Whether the session was ended, or its person may not come in any more.
    pub ended: bool,
    /// When the session runs out, whatever is refreshed.
    pub session_expires_at: DateTime<Utc>,
}

/// What is done with a presented refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The first time: its successor is made.
    Rotate,
    /// Again within the grace, as a client whose answer was lost does: the same successor.
    Repeat,
    /// Again later: somebody else has it. The whole session ends.
    Reuse,
    /// Too late.
    Expired,
    /// The session has ended.
    Ended,
}

/// Judges a refresh token.
#[must_use]
pub fn rotation(token: &Presented, grace: TimeDelta, now: DateTime<Utc>) -> Rotation {
    match token.rotated_at {
        _ if token.ended => Rotation::Ended,
        _ if now >= token.expires_at || now >= token.session_expires_at => Rotation::Expired,
        None => Rotation::Rotate,
        Some(at) if now - at <= grace => Rotation::Repeat,
        Some(_) => Rotation::Reuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn locks_after_five_and_forgets_after_the_window() {
        let failures: Vec<_> = [40, 30, 20, 10, 0].map(at).into();
        assert_eq!(lockout(&failures[..4], at(41)), None);
        assert_eq!(lockout(&failures, at(60)), Some(Duration::from_secs(15 * 60 - 60)));
        assert_eq!(lockout(&failures, at(15 * 60)), None);
        assert!(slowdown(0).is_zero() && slowdown(4) > slowdown(3) && slowdown(9) <= Duration::from_millis(400));
    }

    #[test]
    fn rotates_once_repeats_briefly_then_calls_it_theft() {
        let grace = TimeDelta::seconds(30);
        let fresh = Presented { expires_at: at(1000), rotated_at: None, ended: false, session_expires_at: at(2000) };
        let rotated = Presented { rotated_at: Some(at(100)), ..fresh };
        assert_eq!(rotation(&fresh, grace, at(999)), Rotation::Rotate);
        assert_eq!(rotation(&fresh, grace, at(1000)), Rotation::Expired);
        assert_eq!(rotation(&Presented { session_expires_at: at(5), ..fresh }, grace, at(5)), Rotation::Expired);
        assert_eq!(rotation(&rotated, grace, at(130)), Rotation::Repeat);
        assert_eq!(rotation(&rotated, grace, at(131)), Rotation::Reuse);
        assert_eq!(rotation(&Presented { ended: true, ..rotated }, grace, at(131)), Rotation::Ended);
    }
}
