//! Those who come to have a password compared, before the hash is known: a few of each tenant ask its database at a time.
//! Five hundred who come at once would else be five hundred statements at once, and every other request of the process waits
//! behind them. A tenant whose database hangs holds up its own logins only.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

/// How many of one tenant ask at a time. A statement takes a hundredth of a hash: these keep every core busy hashing.
const AT_ONCE: usize = 8;
/// How long one waits to ask.
const DEADLINE: Duration = Duration::from_secs(5);
/// Tenants that are remembered. One that is forgotten while it is busy gets its places once more.
const TENANTS: u64 = 10_000;

/// A few places for each tenant.
#[derive(Clone)]
pub(super) struct Arrivals(Cache<Uuid, Arc<Semaphore>>);

/// The right to ask; given on when it is dropped.
#[derive(Debug)]
pub struct Arrived {
    _place: OwnedSemaphorePermit,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        let places = Cache::builder().max_capacity(TENANTS).eviction_policy(EvictionPolicy::lru());
        Self(places.time_to_idle(4 * DEADLINE).build())
    }

    /// Waits for a place; `None` if it does not come in time.
    pub(super) async fn take(&self, whose: Uuid) -> Option<Arrived> {
        self.take_within(DEADLINE, whose).await
    }

    async fn take_within(&self, deadline: Duration, whose: Uuid) -> Option<Arrived> {
        let places = self.0.get_with(whose, || Arc::new(Semaphore::new(AT_ONCE)));
        let place = timeout(deadline, places.acquire_owned()).await.ok()?.ok()?;
        Some(Arrived { _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_few_of_each_tenant_ask_at_a_time() {
        let (arrivals, busy, other) = (Arrivals::new(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut asking = Vec::new();
        for _ in 0..AT_ONCE {
            asking.push(arrivals.take(busy).await.expect("there is room"));
        }
        assert!(arrivals.take_within(Duration::ZERO, busy).await.is_none(), "nobody has left");
        assert!(arrivals.take(other).await.is_some(), "each tenant has places of its own");
        let mut next = Box::pin(arrivals.take(busy));
        assert!(futures_util::poll!(&mut next).is_pending());
        asking.pop();
        assert!(next.await.is_some());
    }
}
