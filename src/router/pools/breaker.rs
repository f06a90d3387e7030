//! When a tenant's database cannot be reached: answer quickly, and ask the server again with growing pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::kernel::crypto::random;
use crate::router::connect::{ConnectError, ConnectFailure};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// For what mends itself at any moment: a server that was away, or full.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// For what somebody has to mend.
const LONG_PAUSE: Duration = Duration::from_secs(15);

/// An open breaker. There is none while all is well.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    until: Instant,
    cause: Arc<ConnectError>,
    /// A probe is on its way, or waits for its time.
    pub(super) probing: bool,
    /// Somebody asked for the tenant since the last probe.
    pub(super) wanted: bool,
    /// Told when its time moves on or it is gone. Shared with its successors.
    moved: Arc<Notify>,
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.moved.notify_waiters();
    }
}

impl Breaker {
    /// Opens it, or opens it anew after a failed probe.
    pub(super) fn trip(previous: Option<&Self>, cause: Arc<ConnectError>, now: Instant) -> Self {
        let failures = previous.map_or(1, |b| b.failures.saturating_add(1));
        Self {
            failures,
            until: now + pause(failures, longest(cause.kind)),
            cause,
            probing: previous.is_some_and(|b| b.probing),
            wanted: false,
            moved: previous.map_or_else(Arc::default, |b| b.moved.clone()),
        }
    }

    /// Waits once more, after something was tried of which the outcome is not known yet.
    pub(super) fn rest(&mut self, now: Instant) {
        self.until = now + pause(self.failures, longest(self.cause.kind));
        self.moved.notify_waiters();
    }

    /// Tells those who wait by then that it may be another, or gone.
    pub(super) const fn moved(&self) -> &Arc<Notify> {
        &self.moved
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

const fn longest(kind: ConnectFailure) -> Duration {
    match kind {
        ConnectFailure::Unreachable | ConnectFailure::ServerFull | ConnectFailure::ConnectionLimit => SHORT_PAUSE,
        _ => LONG_PAUSE,
    }
}

/// Doubles from 250 ms to the longest, each with up to 25 % taken off at random so that nodes do not ask in step.
fn pause(failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    let jitter = u32::from(random::<1>()[0]);
    doubled - doubled * jitter / 1024
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn whoever_waits_for_a_probe_hears_how_it_ends() {
        let (cause, now) = (Arc::new(ConnectError::new(ConnectFailure::Unreachable, "away")), Instant::now());
        let mut breaker = Breaker::trip(None, cause.clone(), now);
        let moved = breaker.moved().clone();
        let quiet = moved.notified();
        assert!(quiet.now_or_never().is_none(), "nothing has happened");
        let rested = moved.notified();
        breaker.rest(now);
        assert!(rested.now_or_never().is_some(), "its time has moved on");
        let replaced = moved.notified();
        breaker = Breaker::trip(Some(&breaker), cause, now);
        assert!(replaced.now_or_never().is_some(), "the probe has failed");
        let removed = moved.notified();
        drop(breaker);
        assert!(removed.now_or_never().is_some(), "the probe has succeeded");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for longest in [SHORT_PAUSE, LONG_PAUSE] {
            for failures in 1..40 {
                let pause = pause(failures, longest);
                assert!(pause >= FIRST_PAUSE * 3 / 4 && pause <= longest, "{failures}: {pause:?}");
            }
        }
        assert!(pause(6, LONG_PAUSE) > pause(1, LONG_PAUSE) * 8);
    }
}
