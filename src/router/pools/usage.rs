//! What one tenant's pool has done on this node: a handful of relaxed atomics, so that a warm request pays nanoseconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::TenantId;

/// Tenants of one server whose usage is remembered; beyond, those not asked for the longest are forgotten.
const MOST: usize = 4_096;
/// Length of a window of [`RecentMax`].
const WINDOW: Duration = Duration::from_secs(30);
/// Bits of a [`RecentMax`] that hold the value, the window's number being above: 12 days in microseconds.
const VALUE_BITS: u32 = 40;

/// The largest value of this window or the one before, without a lock: two slots take turns, and the number of the
/// window stands above the value, so that whatever is newer is also larger.
#[derive(Debug, Default)]
struct RecentMax([AtomicU64; 2]);

impl RecentMax {
    fn record(&self, window: u64, value: u64) {
        let value = value.min((1 << VALUE_BITS) - 1);
        self.0[usize::from(window % 2 == 1)].fetch_max(window << VALUE_BITS | value, Ordering::Relaxed);
    }

    fn get(&self, window: u64) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        let recent = slots.filter(|slot| (slot >> VALUE_BITS) + 1 >= window);
        recent.map(|slot| slot & ((1 << VALUE_BITS) - 1)).max().unwrap_or(0)
    }
}

/// What a tenant's pool has done since this node got to know the tenant. Shared by whoever does it.
#[derive(Debug)]
pub(crate) struct Usage {
    since: Instant,
    /// When the table was last asked for it, in the table's own count.
    touched: AtomicU64,
    requests: AtomicU64,
    wait_micros: AtomicU64,
    recent_wait: RecentMax,
    leases: AtomicU64,
    database_micros: AtomicU64,
    cold_starts: AtomicU64,
    opened: AtomicU64,
    evicted: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    retries: AtomicU64,
}

/// The counts of a tenant's pool on this node, since the node got to know the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct UsageCounts {
    /// Times that somebody asked for a connection, those refused included.
    pub requests: u64,
    /// Time spent waiting for a connection, in microseconds.
    pub wait_micros: u64,
    /// The longest wait of the last 30 to 60 seconds, in microseconds.
    pub recent_max_wait_micros: u64,
    /// Time that requests had a connection to themselves or shared one, in microseconds.
    pub database_micros: u64,
    /// Requests that found the tenant without any connection.
    pub cold_starts: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Connections taken away for another tenant.
    pub evictions: u64,
    /// Statements cancelled, since nobody waited for them any more or their time was over.
    pub cancelled_statements: u64,
    /// Connections that could not be brought back to order after somebody let go in the middle of something.
    pub dropped_connections: u64,
    /// Requests done anew on another connection, since theirs was broken or out of date.
    pub retries: u64,
}

impl Usage {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            touched: AtomicU64::default(),
            requests: AtomicU64::default(),
            wait_micros: AtomicU64::default(),
            recent_wait: RecentMax::default(),
            leases: AtomicU64::default(),
            database_micros: AtomicU64::default(),
            cold_starts: AtomicU64::default(),
            opened: AtomicU64::default(),
            evicted: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            dropped: AtomicU64::default(),
            retries: AtomicU64::default(),
        }
    }

    fn window(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs()
    }

    /// A request asks for a connection.
    pub(super) fn asked(&self) {
        add(&self.requests, 1);
    }

    /// A request had to wait this long, until `now`, whether it then got a connection or not.
    pub(super) fn waited(&self, wait: Duration, now: Instant) {
        let micros = micros(wait);
        add(&self.wait_micros, micros);
        self.recent_wait.record(self.window(now), micros);
    }

    /// A request had a connection for this long.
    pub(super) fn worked(&self, time: Duration) {
        add(&self.leases, 1);
        add(&self.database_micros, micros(time));
    }

    /// How many had one so far, and for how long in all, in microseconds.
    pub(super) fn worked_so_far(&self) -> (u64, u64) {
        (self.leases.load(Ordering::Relaxed), self.database_micros.load(Ordering::Relaxed))
    }

    /// A request found the tenant without any connection.
    pub(super) fn cold_start(&self) {
        add(&self.cold_starts, 1);
    }

    /// A connection was opened.
    pub(super) fn opened(&self) {
        add(&self.opened, 1);
    }

    /// A connection was taken away for another tenant.
    pub(super) fn evicted(&self) {
        add(&self.evicted, 1);
    }

    /// Somebody let go in the middle of something, and what was running is cancelled.
    pub(super) fn cancelled(&self) {
        add(&self.cancelled, 1);
    }

    /// A connection could not be brought back to order.
    pub(super) fn dropped(&self) {
        add(&self.dropped, 1);
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A request was begun anew on another connection.
    pub(super) fn retried(&self) {
        add(&self.retries, 1);
    }

    /// The counts at `now`.
    pub(super) fn counts(&self, now: Instant) -> UsageCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        UsageCounts {
            requests: get(&self.requests),
            wait_micros: get(&self.wait_micros),
            recent_max_wait_micros: self.recent_wait.get(self.window(now)),
            database_micros: get(&self.database_micros),
            cold_starts: get(&self.cold_starts),
            connections_opened: get(&self.opened),
            evictions: get(&self.evicted),
            cancelled_statements: get(&self.cancelled),
            dropped_connections: get(&self.dropped),
            retries: get(&self.retries),
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The usage of the tenants of one server. It outlives their pools: what a tenant suffered by losing its last
/// connection is still known when it comes back.
#[derive(Debug, Default)]
pub(super) struct UsageTable {
    kept: HashMap<TenantId, Arc<Usage>>,
    asked: u64,
}

impl UsageTable {
    /// The usage of a tenant, from nought if it is not known.
    pub(super) fn of(&mut self, tenant: TenantId, now: Instant) -> Arc<Usage> {
        self.asked += 1;
        if let Some(usage) = self.kept.get(&tenant) {
            usage.touched.store(self.asked, Ordering::Relaxed);
            return usage.clone();
        }
        if self.kept.len() >= MOST {
            self.forget_oldest();
        }
        let usage = Arc::new(Usage::new(now));
        usage.touched.store(self.asked, Ordering::Relaxed);
        self.kept.insert(tenant, usage.clone());
        usage
    }

    /// The usage of a tenant that is known.
    pub(super) fn get(&self, tenant: TenantId) -> Option<&Arc<Usage>> {
        self.kept.get(&tenant)
    }

    /// Forgets the eighth that was not asked for the longest, but for those with a connection, which holds on to its
    /// usage: many at once, so that the search is seldom.
    fn forget_oldest(&mut self) {
        let mut touched: Vec<u64> = self.kept.values().map(|usage| usage.touched.load(Ordering::Relaxed)).collect();
        let (_, limit, _) = touched.select_nth_unstable(MOST / 8);
        let limit = *limit;
        self.kept.retain(|_, usage| Arc::strong_count(usage) > 1 || usage.touched.load(Ordering::Relaxed) >= limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn counts_add_up() {
        let now = Instant::now();
        let usage = Usage::new(now);
        usage.asked();
        usage.asked();
        usage.waited(3 * MS, now);
        usage.worked(7 * MS);
        usage.cold_start();
        usage.opened();
        usage.evicted();
        usage.cancelled();
        usage.dropped();
        usage.dropped();
        usage.retried();
        let expected = UsageCounts {
            requests: 2,
            wait_micros: 3_000,
            recent_max_wait_micros: 3_000,
            database_micros: 7_000,
            cold_starts: 1,
            connections_opened: 1,
            evictions: 1,
            cancelled_statements: 1,
            dropped_connections: 2,
            retries: 1,
        };
        assert_eq!(usage.counts(now), expected);
    }

    #[test]
    fn the_longest_wait_is_forgotten_in_time() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let recent = |windows: u32| usage.counts(start + WINDOW * windows).recent_max_wait_micros;
        usage.waited(9 * MS, start);
        assert_eq!((recent(0), recent(1), recent(2)), (9_000, 9_000, 0));
        usage.waited(2 * MS, start + WINDOW * 2);
        assert_eq!((recent(2), recent(3), recent(4)), (2_000, 2_000, 0));
        usage.waited(Duration::MAX, start + WINDOW * 5);
        assert_eq!(recent(6), (1 << VALUE_BITS) - 1);
    }

    #[test]
    fn the_table_forgets_who_was_not_asked_for_the_longest() {
        let now = Instant::now();
        let mut table = UsageTable::default();
        let first = TenantId::generate();
        table.of(first, now).opened();
        let others: Vec<_> = (1..MOST).map(|_| TenantId::generate()).collect();
        let held = table.of(others[0], now);
        for tenant in &others[1..] {
            table.of(*tenant, now);
        }
        table.of(first, now);
        table.of(TenantId::generate(), now);
        assert!(table.kept.len() <= MOST && table.kept.len() > MOST / 2);
        assert_eq!(table.get(first).expect("asked for lately").counts(now).connections_opened, 1);
        assert!(table.get(others[1]).is_none() && table.get(others[MOST - 2]).is_some());
        assert!(table.get(others[0]).is_some_and(|usage| Arc::ptr_eq(usage, &held)), "it has a connection");
    }
}
