//! A password that was refused and may be right in a moment: somebody rotates it, in the registry and at the server,
//! one after the other.

use std::time::{Duration, Instant};

/// How long nobody is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The first pause between two tries; each is twice as long as the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// One tenant's. There is none while all is well, nor while its breaker is open.
#[derive(Debug)]
pub(super) struct Doubt {
    since: Instant,
    /// Looks at the registry that were begun.
    looks: u32,
    looking: bool,
}

impl Doubt {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, looks: 0, looking: false }
    }

    /// Whether it is too early to say that the password is wrong.
    pub(super) fn lasts(&self, patience: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < patience
    }

    /// Begins a look, unless one is under way: gives which it is, and the pause that belongs to it.
    pub(super) fn look(&mut self) -> Option<(u32, Duration)> {
        if self.looking {
            return None;
        }
        self.looking = true;
        self.looks += 1;
        Some((self.looks, FIRST_PAUSE.saturating_mul(1 << (self.looks - 1).min(10)).min(LONGEST_PAUSE)))
    }

    /// The look has ended.
    pub(super) const fn looked(&mut self) {
        self.looking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_with_growing_pauses_for_a_second() {
        let now = Instant::now();
        let mut doubt = Doubt::new(now);
        assert_eq!(doubt.look(), Some((1, Duration::from_millis(10))));
        assert_eq!(doubt.look(), None, "one at a time");
        let mut all = Duration::ZERO;
        for number in 2..12 {
            doubt.looked();
            let (count, pause) = doubt.look().expect("the next");
            assert_eq!(count, number);
            assert!(pause <= LONGEST_PAUSE);
            all += pause;
        }
        assert!(all > PATIENCE, "few tries in that time");
        assert!(doubt.lasts(PATIENCE, now + PATIENCE / 2) && !doubt.lasts(PATIENCE, now + PATIENCE));
    }
}
