//! What the registry says of a tenant.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Action, News, Scheduler, Waiter};
use crate::kernel::TenantId;
#[cfg(test)]
use crate::router::pools::model::mutant::{self, Mutant};
use crate::router::pools::pooled::Line;

impl<L: Line, W: Waiter> Scheduler<L, W> {
    /// Takes in what the registry says of the tenant now; older news than known are ignored. Connections of another
    /// version take no more requests, and are closed when they are left.
    pub(in crate::router::pools) fn learn(&mut self, tenant: TenantId, news: News, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        let pool = self.pool(tenant, now);
        if pool.shared.generation.load(Ordering::Relaxed) >= news.generation {
            return actions;
        }
        pool.shared.generation.store(news.generation, Ordering::Release);
        let changed = pool.version != news.version;
        #[cfg(test)]
        let changed = changed && !mutant::is(Mutant::KeepsOldVersions);
        self.change(tenant, |pool| {
            pool.ceiling = news.ceiling.max(1);
            pool.weight = news.weight.max(1);
            pool.version = news.version;
            pool.blocked &= !changed;
        });
        if changed {
            let conns = self.change(tenant, |pool| {
                pool.hurry(now);
                pool.conns.split_off(0)
            });
            for conn in conns {
                self.dismiss(tenant, conn, true, now, &mut actions);
            }
        }
        // Not forgotten, though it may be empty: whoever learns is about to ask for something.
        self.serve(tenant, now, &mut actions);
        self.dispatch(now, &mut actions);
        actions
    }

    /// The tenant is not to be served any more. Gives its waiters back to be told.
    pub(in crate::router::pools) fn retire(
        &mut self,
        tenant: TenantId,
        generation: i64,
        now: Instant,
    ) -> (Vec<W>, Vec<Action<L, W>>) {
        if !self.knows(tenant) {
            return (Vec::new(), Vec::new());
        }
        let news = News { generation, version: None, ceiling: 1, weight: 1 };
        let mut actions = self.learn(tenant, news, now);
        let mut waiters = Vec::new();
        if self.is_retired(tenant) {
            self.change(tenant, |pool| pool.probing = false);
            waiters = self.drain_waiters(tenant);
        }
        self.settle(tenant, now, &mut actions);
        (waiters, actions)
    }

    /// Whether the newest news of the tenant were that it is not to be served.
    pub(in crate::router::pools) fn is_retired(&self, tenant: TenantId) -> bool {
        self.pools
            .get(&tenant)
            .is_some_and(|p| p.shared.generation.load(Ordering::Relaxed) > i64::MIN && p.version.is_none())
    }
}
