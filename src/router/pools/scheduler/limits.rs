//! How many connections may be open, and what the server itself has room for.

use std::time::{Duration, Instant};

use super::extras::{Ratios, Verdict};
use super::{Action, Scheduler, Waiter};
#[cfg(test)]
use crate::router::pools::model::mutant;
use crate::router::pools::pooled::Line;

/// How often it is remembered what requests take, while nobody has more than one connection.
const REMEMBER_EVERY: Duration = Duration::from_secs(1);

impl<L: Line, W: Waiter> Scheduler<L, W> {
    /// How many permits there are.
    pub(in crate::router::pools) fn set_capacity(&mut self, capacity: usize, now: Instant) -> Vec<Action<L, W>> {
        self.capacity = capacity;
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        actions
    }

    /// Asks the tenants with one connection what the others' second ones cost them. Called every [`LOOK_EVERY`].
    pub(in crate::router::pools) fn watch(&mut self, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        let (mut ratios, calm) = (Ratios::default(), self.extra == 0);
        // In quiet times now and then is enough to remember.
        let due = self.extra > 0 || !self.extras.is_free() || self.remember_at.is_none_or(|at| now >= at);
        if !due {
            return actions;
        }
        self.remember_at = Some(now + REMEMBER_EVERY);
        for pool in self.pools.values_mut() {
            let (leases, micros) = pool.shared.usage.worked_so_far();
            if let Some((ratio, weight)) = pool.pace.look(leases, micros, pool.held() <= 1, calm) {
                ratios.add(ratio, weight);
            }
        }
        if let Verdict::Slower(factor) = self.extras.look(ratios, self.extra + self.leaving, now) {
            self.pools.values_mut().for_each(|pool| pool.pace.slower(factor));
        }
        self.shed_extras(now, &mut actions);
        self.dispatch(now, &mut actions);
        actions
    }

    /// What is above the limit takes no more requests. It is not for another: the server itself is what is short.
    fn shed_extras(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        while self.extra > self.extras.limit() {
            let Some((owner, conn)) = self.beyond_its_share(None) else { break };
            self.change(owner, |pool| pool.take(&conn));
            self.dismiss(owner, conn, false, now, actions);
            self.change(owner, |pool| pool.serve(now, actions));
        }
    }

    /// A test says how many connections tenants may hold beyond one each.
    #[cfg(test)]
    pub(in crate::router::pools) fn set_extras(&mut self, limit: usize, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.extras.set(limit);
        self.shed_extras(now, &mut actions);
        self.dispatch(now, &mut actions);
        actions
    }

    /// Openings that may be under way at once.
    pub(in crate::router::pools) const fn openings_limit(&self) -> usize {
        self.openings.limit()
    }

    /// Connections that tenants may hold beyond one each.
    pub(in crate::router::pools) const fn extras_limit(&self) -> usize {
        self.extras.limit()
    }

    /// The server has no room for more connections than it holds of us now.
    pub(in crate::router::pools) fn server_full(&mut self) {
        self.room_found = Some(self.open.saturating_sub(self.opening + self.closing));
    }

    /// The server may have room for more. True if nothing holds back any more.
    pub(in crate::router::pools) fn try_more_room(&mut self, now: Instant) -> (bool, Vec<Action<L, W>>) {
        self.room_found = self.room_found.map(|room| room + 1 + room / 2).filter(|room| *room < self.capacity);
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        (self.room_found.is_none(), actions)
    }

    /// Whether the server itself is what holds back: nobody gains by taking a connection from somebody.
    pub(in crate::router::pools) fn has_no_room(&self) -> bool {
        self.room_found.is_some() && self.open >= self.limit()
    }

    /// Whether every permit is out.
    pub(in crate::router::pools) fn is_full(&self) -> bool {
        self.open >= self.capacity
    }

    /// The permits that may be out.
    pub(super) fn limit(&self) -> usize {
        let limit = self.room_found.map_or(self.capacity, |room| room.min(self.capacity));
        #[cfg(test)]
        let limit = mutant::limit(limit, self.closing);
        limit
    }
}
