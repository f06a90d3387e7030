//! Failures at tenants that do not exist, or are suspended: counted like any other, so that the lockout does not tell
//! which tenants there are. Kept in memory, for there is no database to keep them in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::rules::{Limits, address_matters, lockout, spacing};

type Failures = Arc<Mutex<Vec<DateTime<Utc>>>>;

/// The newest failures, by the hash of tenant and e-mail and by that of tenant and address.
#[derive(Debug, Clone)]
pub(super) struct Strangers {
    seen: Cache<[u8; 32], Failures>,
    limits: Limits,
}

/// Who tries, and from where, as far as it can be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stranger {
    pub account: [u8; 32],
    pub network: Option<[u8; 32]>,
}

impl Strangers {
    /// With nobody known.
    pub(super) fn new(limits: Limits) -> Self {
        let cache = Cache::builder()
            .max_capacity(40_000)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(limits.window.to_std().unwrap_or(Duration::from_secs(15 * 60)));
        Self { seen: cache.build(), limits }
    }

    /// How many failures of the account there were, or how long no try may be made.
    pub(super) async fn look(&self, who: &Stranger, now: DateTime<Utc>) -> Result<usize, Duration> {
        let account = self.failures(&who.account).await;
        let mut wait = lockout(&account, &self.limits, now);
        if let Some(network) = &who.network {
            let mut failures = self.failures(network).await;
            failures.retain(|at| *at + self.limits.window > now);
            wait = wait.max(spacing(failures.len(), failures.first().copied(), &self.limits, now));
        }
        wait.map_or(Ok(account.len()), Err)
    }

    async fn failures(&self, who: &[u8; 32]) -> Vec<DateTime<Utc>> {
        match self.seen.get(who).await {
            Some(failures) => failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => Vec::new(),
        }
    }

    /// Counts one more, or tells how long no try may be made.
    pub(super) async fn fail(&self, who: Stranger, now: DateTime<Utc>) -> Option<Duration> {
        if let Err(left) = self.look(&who, now).await {
            return Some(left);
        }
        let most = [Some((who.account, self.limits.account)), who.network.map(|n| (n, address_matters(&self.limits)))];
        for (whose, most) in most.into_iter().flatten() {
            let failures = self.seen.get_with(whose, async { Failures::default() }).await;
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.insert(0, now);
            failures.truncate(most);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Clock;

    #[actix_web::test]
    async fn locks_like_a_real_tenant() {
        let limits = Limits { address: 8, ..Limits::default() };
        let (strangers, clock) = (Strangers::new(limits), Clock::system());
        let who = |account: u8| Stranger { account: [account; 32], network: Some([9; 32]) };
        for _ in 0..limits.account {
            assert_eq!(strangers.fail(who(1), clock.now()).await, None);
        }
        assert!(strangers.fail(who(1), clock.now()).await.is_some());
        assert_eq!(strangers.look(&who(2), clock.now()).await, Ok(0));
        for account in 2..5 {
            assert_eq!(strangers.fail(who(account), clock.now()).await, None);
        }
        // The address has failed eight times: the next account waits, and from elsewhere it does not.
        assert!(strangers.fail(who(6), clock.now()).await.is_some());
        assert_eq!(strangers.fail(Stranger { network: None, ..who(6) }, clock.now()).await, None);
        clock.advance(chrono::TimeDelta::minutes(16));
        assert_eq!(strangers.fail(who(1), clock.now()).await, None);
    }
}
