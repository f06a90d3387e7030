//! Failures at tenants that do not exist, or are suspended: counted like any other, so that the lockout does not tell
//! which tenants there are. Kept in memory, for there is no database to keep them in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::rules::{LOCKOUT_FAILURES, lockout};

type Failures = Arc<Mutex<Vec<DateTime<Utc>>>>;

/// The newest failures by the hash of tenant and e-mail.
#[derive(Debug, Clone)]
pub(super) struct Strangers(Cache<[u8; 32], Failures>);

impl Default for Strangers {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(20_000)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(Duration::from_secs(15 * 60))
            .build();
        Self(cache)
    }
}

impl Strangers {
    /// The failures so far, newest first.
    pub(super) async fn failures(&self, who: &[u8; 32]) -> Vec<DateTime<Utc>> {
        match self.0.get(who).await {
            Some(failures) => failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => Vec::new(),
        }
    }

    /// Counts one more, or tells how long the address is locked.
    pub(super) async fn fail(&self, who: [u8; 32], now: DateTime<Utc>) -> Option<Duration> {
        let failures = self.0.get_with(who, async { Failures::default() }).await;
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = lockout(&failures, now);
        if locked.is_none() {
            failures.insert(0, now);
            failures.truncate(LOCKOUT_FAILURES);
        }
        locked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Clock;

    #[actix_web::test]
    async fn locks_like_a_real_tenant() {
        let (strangers, clock) = (Strangers::default(), Clock::system());
        for _ in 0..LOCKOUT_FAILURES {
            assert_eq!(strangers.fail([1; 32], clock.now()).await, None);
        }
        assert!(strangers.fail([1; 32], clock.now()).await.is_some());
        assert_eq!(strangers.failures(&[1; 32]).await.len(), LOCKOUT_FAILURES);
        assert_eq!(strangers.fail([2; 32], clock.now()).await, None);
        clock.advance(chrono::TimeDelta::minutes(16));
        assert_eq!(strangers.fail([1; 32], clock.now()).await, None);
    }
}
