//! Who makes room when every permit is out, and for whom.
//!
//! What is idle goes first: the connection that will be missed least, by how often its tenant is asked for, shared
//! among the connections it has. If all are in use, a tenant with more than its share gives one up when it is left; and
//! among tenants that hold one each, whoever has had the longest turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Action, Scheduler, Waiter};
use crate::kernel::TenantId;
#[cfg(test)]
use crate::router::pools::model::mutant::{self, Mutant};
use crate::router::pools::pooled::{Line, Pooled};

/// A tenant that has a connection takes another's only connection if that was not used for this long.
const SETTLED: Duration = Duration::from_secs(1);
/// The least time a tenant of weight 1 keeps its only connection while others have none.
const TURN: Duration = Duration::from_millis(200);

impl<L: Line, W: Waiter> Scheduler<L, W> {
    /// Closes as many connections as can be opened next, and no more: what is closed early is missed.
    pub(super) fn make_room(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        let over = self.open.saturating_sub(self.capacity);
        // Nobody makes room for what the server would not bear.
        let growing = self.growing_turns.len().min(self.extras.limit().saturating_sub(self.extra));
        if self.open < self.limit() || (over == 0 && self.starving == 0 && growing == 0) {
            self.hungry.store(false, Ordering::SeqCst);
            return;
        }
        // What others hold of a full server may go to anybody: a connection that is closed for another may be lost.
        let slots = if self.has_no_room() { 0 } else { self.openings.limit().saturating_sub(self.opening_now()) };
        let wanted = over + slots.min(self.starving);
        // Before looking: whoever leaves from now on comes to the scheduler.
        self.hungry.store(self.closing + self.leaving < wanted, Ordering::SeqCst);
        while self.closing + self.leaving < wanted && self.take_one(None, now, actions) {}
        self.hungry.store(self.closing + self.leaving < wanted, Ordering::SeqCst);
        let wanted = over + slots.min(self.starving + growing);
        while self.closing + self.leaving < wanted {
            let grower = self.growing_turns.iter().copied().find(|t| self.pools.get(t).is_some_and(|p| p.wants() > 0));
            let Some(grower) = grower else { break };
            if !self.take_one(Some(grower), now, actions) {
                break;
            }
        }
    }

    /// Takes one connection from somebody: for `grower`, or for a tenant that has none.
    fn take_one(&mut self, grower: Option<TenantId>, now: Instant, actions: &mut Vec<Action<L, W>>) -> bool {
        let victim = self
            .least_missed(grower, now)
            .or_else(|| self.beyond_its_share(grower))
            .or_else(|| if grower.is_none() { self.longest_turn(now) } else { None });
        let Some((owner, conn)) = victim else { return false };
        self.take_from(owner, conn, now, actions);
        true
    }

    fn take_from(&mut self, owner: TenantId, conn: Arc<Pooled<L>>, now: Instant, actions: &mut Vec<Action<L, W>>) {
        let last = self.change(owner, |pool| {
            pool.shared.usage.evicted();
            pool.take(&conn);
            #[cfg(test)]
            if mutant::is(Mutant::ForgetsWaiters) {
                pool.drain_waiters();
            }
            pool.held() == 0
        });
        self.steals += 1;
        self.evictions += u64::from(last);
        #[cfg(test)]
        if self.hand_over(owner, &conn, now, actions) {
            return;
        }
        self.dismiss(owner, conn, false, now, actions);
        self.change(owner, |pool| pool.serve(now, actions));
        self.forget_if_empty(owner);
    }

    /// The idle connection that will be missed least.
    fn least_missed(&mut self, grower: Option<TenantId>, now: Instant) -> Option<(TenantId, Arc<Pooled<L>>)> {
        let rank = |held: usize, weight: u32| held as f64 / f64::from(weight);
        let share = grower.and_then(|t| self.pools.get(&t)).map(|p| rank(p.held() + 1, p.weight));
        let mut best: Option<(f64, Instant, TenantId, Arc<Pooled<L>>)> = None;
        for (&tenant, pool) in &mut self.pools {
            if Some(tenant) == grower || pool.conns.is_empty() {
                continue;
            }
            let requests = pool.uncounted();
            self.popularity.record(tenant, requests, now);
            let worth = self.popularity.of(tenant, now) / pool.held() as f64;
            let rich = share.is_some_and(|share| pool.held() > 1 && rank(pool.held(), pool.weight) > share);
            for conn in &pool.conns {
                let free = conn.leases.readers() == Some(0);
                let used = conn.last_used();
                let allowed = share.is_none() || rich || now.saturating_duration_since(used) >= SETTLED;
                let better = best.as_ref().is_none_or(|(least, at, ..)| (worth, used) < (*least, *at));
                if free && allowed && better {
                    best = Some((worth, used, tenant, conn.clone()));
                }
            }
        }
        best.map(|(_, _, tenant, conn)| (tenant, conn))
    }

    /// A connection of the tenant that holds most by its weight, if that is more than the one who asks would hold.
    pub(super) fn beyond_its_share(&self, grower: Option<TenantId>) -> Option<(TenantId, Arc<Pooled<L>>)> {
        let rank = |held: usize, weight: u32| held as f64 / f64::from(weight);
        let asks = grower.and_then(|t| self.pools.get(&t)).map_or(0.0, |p| rank(p.held() + 1, p.weight));
        let (tenant, pool) = self
            .pools
            .iter()
            .filter(|(t, p)| Some(**t) != grower && p.held() > 1 && !p.conns.is_empty())
            .max_by(|(_, a), (_, b)| rank(a.held(), a.weight).total_cmp(&rank(b.held(), b.weight)))?;
        if rank(pool.held(), pool.weight) <= asks {
            return None;
        }
        let conn = pool.conns.iter().min_by_key(|c| c.leases.readers().unwrap_or(u32::MAX))?;
        Some((*tenant, conn.clone()))
    }

    /// The connection of the tenant that has been served longest, while others wait for their turn.
    fn longest_turn(&self, now: Instant) -> Option<(TenantId, Arc<Pooled<L>>)> {
        let turn = |since: Instant, weight: u32| now.saturating_duration_since(since).as_secs_f64() / f64::from(weight);
        let due = self.pools.iter().filter(|(_, p)| p.held() == 1 && !p.conns.is_empty());
        let (tenant, pool) = due
            .filter(|(_, p)| turn(p.since, p.weight) >= TURN.as_secs_f64() || self.open > self.capacity)
            .max_by(|(_, a), (_, b)| turn(a.since, a.weight).total_cmp(&turn(b.since, b.weight)))?;
        Some((*tenant, pool.conns.first()?.clone()))
    }

    /// What a broken manager does: gives a connection to a tenant that has none. False if there is no such tenant, or it has changed hands before.
    #[cfg(test)]
    fn hand_over(
        &mut self,
        owner: TenantId,
        conn: &Arc<Pooled<L>>,
        now: Instant,
        actions: &mut Vec<Action<L, W>>,
    ) -> bool {
        let heir = self.pools.iter().find(|(_, p)| p.is_starving()).map(|(t, _)| *t);
        let Some(heir) =
            heir.filter(|heir| mutant::is(Mutant::HandsToAnother) && *heir != owner && owner == conn.ticket.tenant)
        else {
            return false;
        };
        self.change(heir, |pool| {
            pool.add(conn.clone(), now);
            pool.serve(now, actions);
        });
        true
    }
}
