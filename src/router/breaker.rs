//! When a tenant's database cannot be reached: answer quickly, and ask the server again with growing pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::{ConnectError, ConnectFailure};
use crate::kernel::crypto::random;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// An open breaker. There is none while all is well.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    failures: u32,
    until: Instant,
    cause: Arc<ConnectError>,
    /// A probe is on its way, or waits for its time.
    pub(super) probing: bool,
    /// Somebody asked for the tenant since the last probe.
    pub(super) wanted: bool,
}

impl Breaker {
    /// Opens it, or opens it anew after a failed probe.
    pub(super) fn trip(previous: Option<&Self>, cause: Arc<ConnectError>, now: Instant) -> Self {
        let failures = previous.map_or(1, |b| b.failures.saturating_add(1));
        Self {
            failures,
            until: now + pause(failures),
            cause,
            probing: previous.is_some_and(|b| b.probing),
            wanted: false,
        }
    }

    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    pub(super) const fn cause(&self) -> &Arc<ConnectError> {
        &self.cause
    }

    pub(super) fn kind(&self) -> ConnectFailure {
        self.cause.kind
    }

    /// When a caller may try again; at least a second, so that `Retry-After` is a whole number above zero.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now).max(Duration::from_secs(1))
    }
}

/// Doubles from 250 ms to 15 s, each with up to 25 % taken off at random so that nodes do not ask in step.
fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let jitter = u32::from(random::<1>()[0]);
    doubled - doubled * jitter / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for failures in 1..40 {
            let pause = pause(failures);
            assert!(pause >= FIRST_PAUSE * 3 / 4 && pause <= LONGEST_PAUSE, "{failures}: {pause:?}");
        }
        assert!(pause(6) > pause(1) * 8);
    }
}
