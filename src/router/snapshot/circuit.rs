//! Whether the control plane answered when it was last asked, so that nobody waits for one that does not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    pub(super) fn admits(&self) -> bool {
        let mut shut_until = self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
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
    pub(super) fn heard(&self, answered: bool) -> bool {
        let mut shut_until = self.shut_until.lock().unwrap_or_else(PoisonError::into_inner);
        let was_shut = shut_until.is_some();
        *shut_until = (!answered).then(|| Instant::now() + jittered(SHUT_FOR));
        was_shut == answered
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_one_that_did_not_answer() {
        let circuit = Circuit::default();
        assert!(circuit.admits() && circuit.admits(), "open from the start");
        assert!(circuit.heard(false), "news");
        assert!(!circuit.heard(false), "no news");
        assert!(!circuit.admits());
        // Each further failure, as of whoever follows the registry, keeps it shut.
        for _ in 0..20 {
            advance(SHUT_FOR / 2).await;
            assert!(!circuit.admits());
            circuit.heard(false);
        }
        assert!(circuit.heard(true), "news");
        assert!(circuit.admits() && circuit.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_finds_out_when_nobody_follows() {
        let circuit = Circuit::default();
        circuit.heard(false);
        advance(SHUT_FOR * 2).await;
        assert!(circuit.admits(), "the one that finds out");
        assert!(!circuit.admits() && !circuit.admits(), "the others");
        // It went away without a word: somebody else's turn.
        advance(PROBE_FOR).await;
        assert!(circuit.admits());
        circuit.heard(true);
        assert!(circuit.admits());
    }
}
