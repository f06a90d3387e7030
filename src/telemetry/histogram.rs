//! A histogram that remembers, for each bucket, the trace of a request that fell into it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

use crate::kernel::Clock;
use crate::kernel::trace::{self, Trace};

/// Upper bounds of the buckets, in seconds; the last bucket has none.
pub(super) const BOUNDS: [f64; 16] =
    [0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A value that belongs to a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exemplar {
    pub(super) trace: Trace,
    pub(super) value: f64,
    /// Unix time, seconds.
    pub(super) at: f64,
}

#[derive(Debug, Default)]
struct Bucket {
    count: AtomicU64,
    exemplar: Mutex<Option<Exemplar>>,
}

/// Durations in seconds, exact to the nanosecond in their sum.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Bucket; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A histogram at one moment.
pub(super) struct Snapshot {
    /// Not cumulative; as many as there are bounds, and one.
    pub(super) buckets: Vec<(u64, Option<Exemplar>)>,
    pub(super) sum: f64,
}

impl HistogramFn for Histogram {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a negative duration counts as none")]
    fn record(&self, value: f64) {
        let bucket = &self.buckets[BOUNDS.partition_point(|bound| *bound < value)];
        bucket.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add((value * 1e9) as u64, Ordering::Relaxed);
        // Who finds the place taken leaves it: any trace of the bucket will do, and nobody waits for it.
        if let Some(trace) = trace::current().filter(|trace| trace.sampled)
            && let Ok(mut place) = bucket.exemplar.try_lock()
        {
            let at = Clock::system().now().timestamp_micros() as f64 / 1e6;
            *place = Some(Exemplar { trace, value, at });
        }
    }
}

impl Histogram {
    pub(super) fn snapshot(&self) -> Snapshot {
        let read = |bucket: &Bucket| {
            let exemplar = bucket.exemplar.lock().map_or(None, |place| *place);
            (bucket.count.load(Ordering::Relaxed), exemplar)
        };
        Snapshot {
            buckets: self.buckets.iter().map(read).collect(),
            sum: self.nanos.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_trace_of_a_sampled_request_only() {
        let histogram = Histogram::default();
        let parent =
            |flags: &str| Trace::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"));
        histogram.record(0.0001);
        trace::within(parent("00"), async { histogram.record(0.2) }).await;
        trace::within(parent("01"), async { histogram.record(31.5) }).await;
        let snapshot = histogram.snapshot();
        let counts: Vec<u64> = snapshot.buckets.iter().map(|(count, _)| *count).collect();
        assert_eq!((counts[0], counts[9], counts[16], counts.iter().sum::<u64>()), (1, 1, 1, 3));
        assert!((snapshot.sum - 31.7001).abs() < 1e-6, "{}", snapshot.sum);
        let traced: Vec<f64> = snapshot.buckets.iter().filter_map(|(_, seen)| seen.map(|seen| seen.value)).collect();
        assert_eq!(traced, [31.5]);
    }
}
