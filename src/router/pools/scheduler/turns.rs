//! Whose turn it is: tenants without a connection first, then those that want one more.

use std::time::{Duration, Instant};

use super::{Action, Scheduler, Waiter};
use crate::kernel::TenantId;
use crate::router::pools::permit::Ticket;
use crate::router::pools::pooled::Line;

impl<L: Line, W: Waiter> Scheduler<L, W> {
    pub(super) fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        while self.open < self.limit() && self.opening_now() < self.openings.limit() {
            let Some(tenant) = self.next_turn() else { break };
            actions.push(self.start_opening(tenant));
        }
        self.make_room(now, actions);
    }

    /// Openings that the server works on.
    pub(super) const fn opening_now(&self) -> usize {
        self.opening.saturating_sub(self.lagging)
    }

    /// How long an opening may take before it is no measure of what the server bears any more.
    pub(in crate::router::pools) fn opening_patience(&self) -> Duration {
        self.openings.patience()
    }

    /// An opening has taken longer than that: others may begin.
    pub(in crate::router::pools) fn opening_lags(&mut self, now: Instant) -> Vec<Action<L, W>> {
        self.lagging += 1;
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        actions
    }

    /// It has ended.
    pub(in crate::router::pools) const fn lagged(&mut self) {
        self.lagging = self.lagging.saturating_sub(1);
    }

    pub(super) fn next_turn(&mut self) -> Option<TenantId> {
        while let Some(tenant) = self.starving_turns.pop_front() {
            let starving = self.pools.contains_key(&tenant)
                && self.change(tenant, |pool| {
                    pool.starving_turn = false;
                    pool.prune();
                    pool.is_starving()
                });
            if starving {
                return Some(tenant);
            }
            self.forget_if_empty(tenant);
        }
        // Later, when the server bears more.
        if self.extra >= self.extras.limit() {
            return None;
        }
        while let Some(tenant) = self.growing_turns.pop_front() {
            if !self.pools.contains_key(&tenant) {
                continue;
            }
            let (wants, again) = self.change(tenant, |pool| {
                pool.prune();
                let wants = pool.wants() > 0;
                pool.growing_turn = wants;
                (wants, pool.spend_credit())
            });
            match (wants, again) {
                (true, true) => self.growing_turns.push_front(tenant),
                (true, false) => self.growing_turns.push_back(tenant),
                (false, _) => self.forget_if_empty(tenant),
            }
            if wants {
                return Some(tenant);
            }
        }
        None
    }

    pub(super) fn take_turn(&mut self, tenant: TenantId) {
        let Some(pool) = self.pools.get_mut(&tenant) else { return };
        if pool.is_starving() {
            if !pool.starving_turn {
                pool.starving_turn = true;
                self.starving_turns.push_back(tenant);
            }
        } else if pool.wants() > 0 && !pool.growing_turn {
            pool.growing_turn = true;
            self.growing_turns.push_back(tenant);
        }
    }

    /// Whether nobody waits twice for a turn to grow, or without a pool.
    #[cfg(test)]
    pub(in crate::router::pools) fn turns_are_due(&self) -> bool {
        let due = self.pools.values().filter(|pool| pool.growing_turn).count();
        self.growing_turns.len() == due && self.growing_turns.iter().all(|turn| self.pools.contains_key(turn))
    }

    pub(super) fn start_opening(&mut self, tenant: TenantId) -> Action<L, W> {
        self.open += 1;
        self.opening += 1;
        self.change(tenant, |pool| {
            pool.opening += 1;
            pool.crowded = false;
            pool.probing = false;
        });
        Action::Open(Ticket::new(tenant))
    }
}
