//! Decisions of signing in that need no database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::router::Rate;

/// How many failures are too many. Those of a whole window count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many of one account lock it (`auth.lockout_failures`).
    pub account: usize,
    /// From so many of one address on, over all accounts, its tries are spaced (`auth.address_failures`).
    pub address: usize,
    /// From so many in a whole tenant on, every try is slowed (`auth.tenant_failures`).
    pub tenant: usize,
    /// How long a failure counts (`auth.lockout_window`).
    pub window: TimeDelta,
}

impl Default for Limits {
    fn default() -> Self {
        Self { account: 5, address: 50, tenant: 500, window: TimeDelta::minutes(15) }
    }
}

/// So many accounts that were tried from one address make it suspect.
pub const SPRAYED_FROM_ADDRESS: i64 = 10;
/// So many accounts of a tenant that were tried, from wherever, make it suspect as a whole.
pub const SPRAYED_IN_TENANT: i64 = 50;
/// The longest time between two tries of an address that has failed too often: 2 to this power, in seconds.
const SPACING: usize = 6;

/// How long an account stays locked. `failures` are the last ones since its last success, newest first.
#[must_use]
pub fn lockout(failures: &[DateTime<Utc>], limits: &Limits, now: DateTime<Utc>) -> Option<Duration> {
    let oldest = failures.get(limits.account.checked_sub(1)?)?;
    (*oldest + limits.window - now).to_std().ok().filter(|left| !left.is_zero())
}

/// How long an address waits for its next try, whatever account that is for: the more it failed, up to a minute.
#[must_use]
pub fn spacing(failures: usize, last: Option<DateTime<Utc>>, limits: &Limits, now: DateTime<Utc>) -> Option<Duration> {
    let over = failures.checked_sub(limits.address)?.min(SPACING);
    (last? + TimeDelta::seconds(1 << over) - now).to_std().ok().filter(|left| !left.is_zero())
}

/// Failures of one address beyond which more make no difference.
#[must_use]
pub const fn address_matters(limits: &Limits) -> usize {
    limits.address + SPACING
}

/// How long an attempt after so many failures of the account is held back, right or wrong.
#[must_use]
pub fn slowdown(failures: usize) -> Duration {
    Duration::from_millis(match failures {
        0 | 1 => 0,
        2 => 100,
        3 => 200,
        _ => 400,
    })
}

/// How long an attempt is held back beside that, after so many failures in the tenant.
#[must_use]
pub fn tenant_slowdown(failures: usize, limits: &Limits) -> Duration {
    Duration::from_millis(match failures / limits.tenant.max(1) {
        0 => 0,
        1 => 400,
        _ => 800,
    })
}

/// How an account stands after so many failures, for who logs in to it; alike whether there is one or not.
#[must_use]
pub fn login_rate(failures: usize, limits: &Limits) -> Rate {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let window = limits.window.num_seconds().unsigned_abs();
    let left = count(limits.account.saturating_sub(failures));
    // At the latest: the oldest failure may be forgotten before.
    Rate { quota: count(limits.account), window, left, reset: if failures == 0 { 0 } else { window } }
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
        let limits = Limits::default();
        let failures: Vec<_> = [40, 30, 20, 10, 0].map(at).into();
        assert_eq!(lockout(&failures[..4], &limits, at(41)), None);
        assert_eq!(lockout(&failures, &limits, at(60)), Some(Duration::from_secs(15 * 60 - 60)));
        assert_eq!(lockout(&failures, &limits, at(15 * 60)), None);
        assert!(slowdown(0).is_zero() && slowdown(4) > slowdown(3) && slowdown(9) <= Duration::from_millis(400));
    }

    #[test]
    fn an_address_waits_longer_each_time_and_never_for_good() {
        let limits = Limits { address: 3, tenant: 10, ..Limits::default() };
        let wait = |failures| spacing(failures, Some(at(0)), &limits, at(0)).map(|wait| wait.as_secs());
        assert_eq!([2, 3, 4, 5].map(wait), [None, Some(1), Some(2), Some(4)]);
        assert_eq!(wait(1_000_000), wait(address_matters(&limits)));
        assert_eq!(spacing(1_000_000, Some(at(0)), &limits, at(64)), None);
        assert!(tenant_slowdown(9, &limits).is_zero() && !tenant_slowdown(10, &limits).is_zero());
        assert!(tenant_slowdown(usize::MAX, &limits) < Duration::from_secs(1));
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
