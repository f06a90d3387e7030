//! How openings end: a connection that serves, or one that does not come to be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Scheduler, Waiter};
use crate::kernel::TenantId;
use crate::router::pools::pooled::{Line, Pooled};

impl<L: Line, W: Waiter> Scheduler<L, W> {
    /// A connection is open, and its database the tenant's.
    pub(in crate::router::pools) fn opened(
        &mut self,
        tenant: TenantId,
        conn: Arc<Pooled<L>>,
        took: Duration,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.openings.took(took, self.opening_now().max(1));
        self.opening -= 1;
        let good = self.change(tenant, |pool| {
            pool.opening -= 1;
            (pool.blocked, pool.probing) = (false, false);
            pool.fits(&conn)
        });
        if good {
            self.change(tenant, |pool| pool.add(conn, now));
        } else {
            self.dismiss(tenant, conn, true, now, &mut actions);
        }
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An opening failed. If nothing else can serve the tenant, its waiters are given back to be told why.
    pub(in crate::router::pools) fn open_failed(
        &mut self,
        tenant: TenantId,
        now: Instant,
    ) -> (Vec<W>, Vec<Action<L, W>>) {
        self.opening -= 1;
        self.change(tenant, |pool| {
            pool.opening -= 1;
            // A probe that still waits for its turn comes after the pause that begins now.
            (pool.blocked, pool.probing) = (true, false);
        });
        let waiters = if self.can_serve(tenant, now) { Vec::new() } else { self.drain_waiters(tenant) };
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        (waiters, actions)
    }

    /// An opening failed for a reason that is none any more: it may be tried again at once.
    pub(in crate::router::pools) fn open_again(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        self.opening -= 1;
        self.change(tenant, |pool| pool.opening -= 1);
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An opening failed for a reason that may be none in a moment. Until [`Self::unblock`] nothing is opened, and whoever
    /// waits waits on.
    pub(in crate::router::pools) fn open_later(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        self.opening -= 1;
        self.change(tenant, |pool| {
            pool.opening -= 1;
            pool.blocked = true;
        });
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// Gives back the waiters of all tenants that nothing serves, to be told.
    pub(in crate::router::pools) fn refuse_starving(&mut self) -> Vec<W> {
        let starving: Vec<_> = self.pools.iter().filter(|(_, p)| p.is_starving()).map(|(t, _)| *t).collect();
        starving.into_iter().flat_map(|tenant| self.drain_waiters(tenant)).collect()
    }

    /// A connection for a tenant that nobody may wait for: the router's own probe. It takes its turn like any other.
    pub(in crate::router::pools) fn open_unasked(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.change(tenant, |pool| pool.probing = true);
        self.take_turn(tenant);
        self.dispatch(now, &mut actions);
        actions
    }

    /// Whoever waits for the tenant has a connection opened for him again; a probe is of no use any more.
    pub(in crate::router::pools) fn unblock(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.knows(tenant) {
            self.change(tenant, |pool| (pool.blocked, pool.probing) = (false, false));
            self.settle(tenant, now, &mut actions);
        }
        actions
    }
}
