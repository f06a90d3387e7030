//! How often tenants are asked for: a count that fades, so that what is taken away is what is least missed.
//!
//! Recency alone (LRU) closes a popular tenant's connection because it was quiet for a moment, and keeps one that was
//! opened for a single request. Frequency with decay is what W-TinyLFU (Einziger et al., 2017) keeps; there are few
//! enough tenants with recent traffic to count exactly.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::kernel::TenantId;

/// A count is worth half after this long.
const HALF_LIFE: Duration = Duration::from_secs(8);
/// Tenants that are counted at once; the least popular half is forgotten beyond.
const MOST: usize = 8192;

#[derive(Debug, Clone, Copy)]
struct Count {
    value: f64,
    at: Instant,
}

impl Count {
    fn at(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-age / HALF_LIFE.as_secs_f64()).exp2()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Popularity(HashMap<TenantId, Count>);

impl Popularity {
    /// Counts requests of a tenant.
    pub(super) fn record(&mut self, tenant: TenantId, requests: u64, now: Instant) {
        if requests == 0 {
            return;
        }
        if self.0.len() >= MOST && !self.0.contains_key(&tenant) {
            self.forget_half(now);
        }
        let count = self.0.entry(tenant).or_insert(Count { value: 0.0, at: now });
        *count = Count { value: count.at(now) + requests as f64, at: now };
    }

    /// Requests of late, fading.
    pub(super) fn of(&self, tenant: TenantId, now: Instant) -> f64 {
        self.0.get(&tenant).map_or(0.0, |count| count.at(now))
    }

    fn forget_half(&mut self, now: Instant) {
        let mut values: Vec<_> = self.0.values().map(|count| count.at(now)).collect();
        let middle = values.len() / 2;
        let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        // Many may be as popular as the middle one: of those only some stay.
        let mut spare = MOST / 4;
        self.0.retain(|_, count| {
            let value = count.at(now);
            let stays = value > median || (value == median && spare > 0);
            spare -= usize::from(stays && value == median);
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fade_and_stay_bounded() {
        let now = Instant::now();
        let (often, once) = (TenantId::generate(), TenantId::generate());
        let mut popularity = Popularity::default();
        popularity.record(often, 100, now);
        popularity.record(once, 1, now + HALF_LIFE);
        assert!((popularity.of(often, now + HALF_LIFE) - 50.0).abs() < 1e-6);
        assert!(popularity.of(often, now + HALF_LIFE) > popularity.of(once, now + HALF_LIFE));
        for _ in 0..3 * MOST {
            popularity.record(TenantId::generate(), 1, now);
        }
        assert!(popularity.0.len() <= MOST);
        assert!(popularity.of(often, now) > 99.0, "the popular are kept");
    }
}
