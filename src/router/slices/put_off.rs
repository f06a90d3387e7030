//! Clusters that could not be looked at. They are left alone for a while, so that the others have their turn.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::kernel::ClusterId;

/// How often the pause doubles.
const DOUBLINGS: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PutOff(HashMap<ClusterId, Pause>);

#[derive(Debug)]
struct Pause {
    failures: u32,
    until: Instant,
}

impl PutOff {
    pub(super) fn has(&self, cluster: ClusterId, now: Instant) -> bool {
        self.0.get(&cluster).is_some_and(|pause| now < pause.until)
    }

    /// A look was in vain: the next one waits, `first` after the first time.
    pub(super) fn failed(&mut self, cluster: ClusterId, first: Duration, now: Instant) {
        // Those that nobody asks for any more are forgotten.
        self.0.retain(|_, pause| now < pause.until + first * (1 << DOUBLINGS));
        let pause = self.0.entry(cluster).or_insert(Pause { failures: 0, until: now });
        pause.until = now + first * (1 << pause.failures.min(DOUBLINGS));
        pause.failures = pause.failures.saturating_add(1);
    }

    pub(super) fn reached(&mut self, cluster: ClusterId) {
        self.0.remove(&cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let (mut put_off, cluster, mut now) = (PutOff::default(), ClusterId::generate(), Instant::now());
        assert!(!put_off.has(cluster, now));
        for pause in [1, 2, 4, 8, 16, 16, 16] {
            put_off.failed(cluster, SECOND, now);
            now += SECOND * pause;
            assert!(put_off.has(cluster, now.checked_sub(SECOND / 2).unwrap()) && !put_off.has(cluster, now));
        }
        put_off.reached(cluster);
        put_off.failed(cluster, SECOND, now);
        assert!(!put_off.has(cluster, now + SECOND), "it was there in between");
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        put_off.failed(ClusterId::generate(), SECOND, now);
        put_off.failed(ClusterId::generate(), SECOND, now + SECOND * 17);
        assert_eq!(put_off.0.len(), 1);
    }
}
