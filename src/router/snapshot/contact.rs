//! When the control plane last answered, by clocks that may be wrong.
//!
//! The machine's clock says it, so that the next start can tell how old the file is; and the time that has passed since
//! is measured as well, so that a step of that clock makes nothing younger.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::kernel::Clock;

/// How far the clock may have been set back since a file was written.
const LEEWAY: TimeDelta = TimeDelta::minutes(1);

/// See the module.
pub(super) struct Contact {
    clock: Clock,
    last: Mutex<Option<Last>>,
}

#[derive(Clone, Copy)]
struct Last {
    at: DateTime<Utc>,
    /// How long ago that was, and when it was so.
    age: Duration,
    told: Instant,
}

impl Contact {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, last: Mutex::new(None) }
    }

    /// The control plane has answered: nothing is newer, whatever the clock said before.
    pub(super) fn answered(&self) {
        *self.lock() = Some(Last { at: self.clock.now(), age: Duration::ZERO, told: Instant::now() });
    }

    /// What a file says of it, unless that is older than what is known already, or lies ahead of the clock.
    pub(super) fn read(&self, at: DateTime<Utc>) {
        if self.is_ahead(at) {
            return;
        }
        let mut last = self.lock();
        if last.is_none_or(|last| at >= last.at) {
            let age = (self.clock.now() - at).to_std().unwrap_or_default();
            *last = Some(Last { at, age, told: Instant::now() });
        }
    }

    /// Whether a time lies further ahead than a clock that is right has ever been: that clock was wrong, or ours is.
    pub(super) fn is_ahead(&self, at: DateTime<Utc>) -> bool {
        at > self.latest()
    }

    /// The latest time that is believed.
    pub(super) fn latest(&self) -> DateTime<Utc> {
        self.clock.now() + LEEWAY
    }

    pub(super) fn last(&self) -> DateTime<Utc> {
        self.lock().map(|last| last.at).unwrap_or_default()
    }

    /// How long ago it answered: the longer of what the clock says and what has passed.
    pub(super) fn age(&self) -> Duration {
        let Some(last) = *self.lock() else { return Duration::MAX };
        let by_the_clock = (self.clock.now() - last.at).to_std().unwrap_or_default();
        by_the_clock.max(last.age.saturating_add(last.told.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn a_clock_that_was_ahead_once_leaves_nothing_behind() {
        let clock = Clock::default();
        let (contact, now) = (Contact::new(clock.clone()), clock.now());
        clock.advance(TimeDelta::days(400));
        contact.answered();
        clock.advance(TimeDelta::days(-400));
        contact.answered();
        assert!(!contact.is_ahead(contact.last()) && contact.last() >= now);
        clock.advance(TimeDelta::hours(2));
        assert!(contact.age() >= HOUR, "{:?}", contact.age());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_younger() {
        let clock = Clock::default();
        let contact = Contact::new(clock.clone());
        assert_eq!(contact.age(), Duration::MAX, "never");
        contact.read(clock.now() - TimeDelta::hours(2));
        clock.advance(TimeDelta::days(-400));
        assert!(contact.age() >= HOUR * 2, "{:?}", contact.age());
        contact.answered();
        let begun = Instant::now();
        clock.advance(TimeDelta::days(-1));
        assert!(contact.age() <= begun.elapsed() + HOUR, "measured from the answer on");
    }

    #[test]
    fn what_lies_ahead_is_not_read_and_what_is_older_changes_nothing() {
        let clock = Clock::default();
        let contact = Contact::new(clock.clone());
        let now = clock.now();
        contact.read(now + TimeDelta::hours(1));
        assert_eq!(contact.age(), Duration::MAX);
        contact.read(now + TimeDelta::seconds(30));
        assert!(contact.age() < HOUR, "clocks are set by seconds");
        contact.read(now - TimeDelta::hours(2));
        assert_eq!(contact.last(), now + TimeDelta::seconds(30));
        clock.advance(TimeDelta::hours(1));
        contact.read(now + TimeDelta::hours(1));
        assert_eq!(contact.last(), now + TimeDelta::hours(1), "once the clock is right");
    }
}
