//! Those who come to have a password compared, before the hash is known. Of each tenant a few at a time ask its database and
//! have their hash compared; the others wait here, where they cost nothing. Five hundred who come at once would else be five
//! hundred statements at once, and every other request of the process waits behind them. A tenant whose database hangs holds
//! up its own logins only: a turn to hash is taken afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

/// How many of one tenant are let in for each hash that runs at a time: one that hashes, and others that ask meanwhile. A
/// statement takes a hundredth of a hash.
const EACH: usize = 4;
/// Tenants that are remembered. One that is forgotten while it is busy gets its places once more.
const TENANTS: u64 = 10_000;
/// How many times the room of one tenant all of them have. Those who come when it is taken get no more than their share of it.
const ALL: usize = 4;

/// A few places for each tenant, and a bounded line in front of them.
#[derive(Clone)]
pub(super) struct Arrivals {
    tenants: Cache<Uuid, Arc<Line>>,
    all: Arc<All>,
    places: usize,
    room: usize,
    patience: Duration,
}

struct Line {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Those who wait, of all tenants.
#[derive(Default)]
struct All {
    waiting: AtomicUsize,
    /// Tenants of whom somebody does.
    lines: AtomicUsize,
}

/// The right to ask, and to hash afterwards; given on when it is dropped.
#[derive(Debug)]
pub struct Arrived {
    _place: OwnedSemaphorePermit,
}

/// Counts somebody who waits, until dropped.
struct Waits {
    line: Arc<Line>,
    all: Arc<All>,
}

impl Waits {
    /// Unless there is no room.
    fn new(line: &Arc<Line>, all: &Arc<All>, room: usize) -> Option<Self> {
        let waits = Self { line: line.clone(), all: all.clone() };
        let own = line.waiting.fetch_add(1, Ordering::Relaxed);
        let lines = all.lines.fetch_add(usize::from(own == 0), Ordering::Relaxed) + usize::from(own == 0);
        let is_full = all.waiting.fetch_add(1, Ordering::Relaxed) >= ALL * room;
        let share = if is_full { ALL * room / lines.max(1) } else { room };
        (own < share.min(room)).then_some(waits)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.all.waiting.fetch_sub(1, Ordering::Relaxed);
        let own = self.line.waiting.fetch_sub(1, Ordering::Relaxed);
        self.all.lines.fetch_sub(usize::from(own == 1), Ordering::Relaxed);
    }
}

impl Arrivals {
    /// For so many hashes at a time, with room for so many of each tenant who wait, for so long.
    pub(super) fn new(parallel: usize, room: usize, patience: Duration) -> Self {
        let tenants = Cache::builder().max_capacity(TENANTS).eviction_policy(EvictionPolicy::lru());
        let tenants = tenants.time_to_idle(4 * patience).build();
        Self { tenants, all: Arc::default(), places: parallel * EACH, room, patience }
    }

    /// Waits for a place; `None` if too many wait, or it does not come in time.
    pub(super) async fn take(&self, whose: Uuid) -> Option<Arrived> {
        self.take_within(self.patience, whose).await
    }

    async fn take_within(&self, deadline: Duration, whose: Uuid) -> Option<Arrived> {
        let line = self.tenants.get_with(whose, || {
            Arc::new(Line { places: Arc::new(Semaphore::new(self.places)), waiting: AtomicUsize::new(0) })
        });
        let _waits = Waits::new(&line, &self.all, self.room)?;
        let place = timeout(deadline, line.places.clone().acquire_owned()).await.ok()?.ok()?;
        Some(Arrived { _place: place })
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_with;

    use futures_util::future::join_all;
    use futures_util::poll;

    use super::super::PATIENCE;
    use super::*;

    #[tokio::test]
    async fn a_few_of_each_tenant_are_let_in() {
        let (arrivals, busy, other) = (Arrivals::new(2, 100, PATIENCE), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut asking = Vec::new();
        for _ in 0..2 * EACH {
            asking.push(arrivals.take(busy).await.expect("there is room"));
        }
        assert!(arrivals.take_within(Duration::ZERO, busy).await.is_none(), "nobody has left");
        assert!(arrivals.take(other).await.is_some(), "each tenant has places of its own");
        let mut next = Box::pin(arrivals.take(busy));
        assert!(poll!(&mut next).is_pending());
        asking.pop();
        assert!(next.await.is_some());
        assert_eq!([&arrivals.all.waiting, &arrivals.all.lines].map(|count| count.load(Ordering::Relaxed)), [0, 0]);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_no_tenant_fills_those_of_others() {
        let room = 8;
        let arrivals = Arrivals::new(1, room, PATIENCE);
        let whole = |whose| {
            let arrivals = arrivals.clone();
            repeat_with(move || {
                let arrivals = arrivals.clone();
                async move { arrivals.take(whose).await.map(std::mem::forget) }
            })
        };
        // Their places are taken for good; then as many wait as there is room.
        let mut waiting = Vec::new();
        for whose in (0..).map(Uuid::from_u128).take(ALL) {
            assert_eq!(join_all(whole(whose).take(EACH)).await.iter().flatten().count(), EACH);
            for next in whole(whose).take(room) {
                let mut next = Box::pin(next);
                assert!(poll!(&mut next).is_pending());
                waiting.push(next);
            }
            assert!(arrivals.take(whose).await.is_none(), "its line is full");
        }
        // All of them together fill the whole: the next has its share nevertheless.
        let (late, share) = (Uuid::from_u128(99), ALL * room / (ALL + 1));
        assert_eq!(join_all(whole(late).take(EACH)).await.iter().flatten().count(), EACH);
        for next in whole(late).take(share) {
            let mut next = Box::pin(next);
            assert!(poll!(&mut next).is_pending());
            waiting.push(next);
        }
        assert!(arrivals.take(late).await.is_none());
        // Whoever leaves makes room.
        waiting.pop();
        assert!(poll!(Box::pin(arrivals.take(late))).is_pending());
    }
}
