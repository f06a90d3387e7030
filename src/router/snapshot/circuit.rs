//! Whether the control plane answered when it was last asked, so that nobody waits for one that does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::jittered;

/// How long a failure is believed. Whoever follows the registry asks more often than that, and ends it early.
const SHUT_FOR: Duration = Duration::from_secs(10);
/// How long one caller has it to itself to find out, once a failure is no longer believed.
const PROBE_FOR: Duration = Duration::from_secs(5);

/// Shut after a failure; opened by the next success of anybody.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    shut_until: Mutex<Option<Instant>>,
}

impl Circuit {
    /// Whether to ask. Once the failure is old, one caller at a time is told yes.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut shut_until = self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *shut_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *shut_until = Some(now + PROBE_FOR);
                true
            }
        }
    }

    /// What came of asking. Says whether that is news.
    pub(super) fn heard(&self, answered: bool, now: Instant) -> bool {
        let mut shut_until = self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        let was_shut = shut_until.is_some();
        *shut_until = (!answered).then(|| now + jittered(SHUT_FOR));
        was_shut == answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_one_that_did_not_answer() {
        let (circuit, mut now) = (Circuit::default(), Instant::now());
        assert!(circuit.admits(now) && circuit.admits(now), "open from the start");
        assert!(circuit.heard(false, now), "news");
        assert!(!circuit.heard(false, now), "no news");
        // Each further failure, as of whoever follows the registry, keeps it shut.
        for _ in 0..20 {
            now += SHUT_FOR / 2;
            assert!(!circuit.admits(now));
            circuit.heard(false, now);
        }
        assert!(circuit.heard(true, now), "news");
        assert!(!circuit.heard(true, now), "no news");
        assert!(circuit.admits(now) && circuit.admits(now));
    }

    #[test]
    fn one_at_a_time_finds_out_when_nobody_follows() {
        let (circuit, mut now) = (Circuit::default(), Instant::now());
        circuit.heard(false, now);
        now += SHUT_FOR * 2;
        assert!(circuit.admits(now), "the one that finds out");
        assert!(!circuit.admits(now) && !circuit.admits(now), "the others");
        // It went away without a word: somebody else's turn.
        now += PROBE_FOR;
        assert!(circuit.admits(now) && !circuit.admits(now));
        circuit.heard(true, now);
        assert!(circuit.admits(now));
    }
}
