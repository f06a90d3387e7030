//! What this node sees while a migration rolls over the fleet: how requests fare of tenants that have it, and of the rest.
//! Two sets of counters, whatever the number of tenants; nothing is counted while there is no run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use uuid::Uuid;

use super::registry::Registry;
use super::slices::NodeId;
use super::tenant::Tenant;

/// How often a node says what it sees.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Requests are sorted by how long they took: each bucket reaches to √2 times as long as the one before it, from half a
/// millisecond to a minute.
const BUCKETS: usize = 35;
const FIRST: Duration = Duration::from_micros(500);

/// How long a request of this bucket took at most.
#[must_use]
pub fn upper_bound(bucket: usize) -> Duration {
    FIRST.mul_f64(2_f64.powf(bucket.min(BUCKETS) as f64 / 2.0))
}

fn bucket_of(elapsed: Duration) -> usize {
    (0..BUCKETS - 1).find(|bucket| elapsed <= upper_bound(*bucket)).unwrap_or(BUCKETS - 1)
}

/// A run over the fleet that nodes are to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedRun {
    /// The run.
    pub id: Uuid,
    /// What a tenant's [`Tenant::migrations_hash`] is that has the run's migrations.
    pub hash: String,
}

/// What a node has seen of one side since it heard of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenSide {
    /// Requests.
    pub requests: i64,
    /// Those that were answered with 5xx.
    pub errors: i64,
    /// Requests by how long they took; see [`upper_bound`].
    pub buckets: Vec<i64>,
}

struct Counts {
    requests: AtomicI64,
    errors: AtomicI64,
    buckets: [AtomicI64; BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        let none = || AtomicI64::new(0);
        Self { requests: none(), errors: none(), buckets: std::array::from_fn(|_| none()) }
    }
}

impl Counts {
    fn add(&self, failed: bool, elapsed: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(i64::from(failed), Ordering::Relaxed);
        self.buckets[bucket_of(elapsed)].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> SeenSide {
        let read = |count: &AtomicI64| count.load(Ordering::Relaxed);
        let buckets = self.buckets.iter().map(read).collect();
        SeenSide { requests: read(&self.requests), errors: read(&self.errors), buckets }
    }
}

struct Watching {
    run: WatchedRun,
    migrated: Counts,
    rest: Counts,
}

/// See the module.
#[derive(Default)]
pub(super) struct Rollout {
    now: ArcSwapOption<Watching>,
    changed: Notify,
}

impl fmt::Debug for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rollout({:?})", self.now.load().as_ref().map(|watching| &watching.run))
    }
}

impl Rollout {
    /// Whether there is something to count.
    #[must_use]
    pub(super) fn is_on(&self) -> bool {
        self.now.load().is_some()
    }

    /// A request of this tenant has been answered.
    pub(super) fn record(&self, tenant: &Tenant, failed: bool, elapsed: Duration) {
        if let Some(watching) = &*self.now.load() {
            let migrated = tenant.migrations_hash.as_ref() == Some(&watching.run.hash);
            if migrated { &watching.migrated } else { &watching.rest }.add(failed, elapsed);
        }
    }

    /// What the registry says of a run that is on.
    pub(super) fn follow(&self, run: Option<WatchedRun>) {
        if self.now.load().as_ref().map(|watching| &watching.run) == run.as_ref() {
            return;
        }
        let watching = |run| Arc::new(Watching { run, migrated: Counts::default(), rest: Counts::default() });
        self.now.store(run.map(watching));
        self.changed.notify_one();
    }

    /// Says what is seen, while there is a run.
    pub(super) async fn report_forever(self: Arc<Self>, source: Arc<dyn Registry>, node: NodeId) {
        loop {
            let Some(watching) = self.now.load_full() else {
                self.changed.notified().await;
                continue;
            };
            let seen = [watching.migrated.read(), watching.rest.read()];
            if let Err(error) = source.report_rollout(node, watching.run.id, seen).await {
                tracing::warn!(%error, "what is seen of a migration could not be said");
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_reach_from_half_a_millisecond_to_a_minute() {
        assert_eq!(bucket_of(Duration::from_micros(10)), 0);
        assert_eq!(bucket_of(Duration::from_millis(1)), 2);
        assert_eq!(bucket_of(Duration::from_secs(600)), BUCKETS - 1);
        assert!(upper_bound(BUCKETS - 1) > Duration::from_secs(60));
        assert!((1..BUCKETS).all(|bucket| upper_bound(bucket) > upper_bound(bucket - 1)));
    }

    #[test]
    fn nothing_is_counted_without_a_run() {
        let rollout = Rollout::default();
        assert!(!rollout.is_on());
        let run = WatchedRun { id: Uuid::nil(), hash: "h".into() };
        rollout.follow(Some(run.clone()));
        let first = rollout.now.load_full().unwrap();
        first.rest.add(true, Duration::ZERO);
        rollout.follow(Some(run));
        assert_eq!(rollout.now.load_full().unwrap().rest.read().errors, 1, "the same run goes on");
        rollout.follow(None);
        assert!(!rollout.is_on());
    }
}
