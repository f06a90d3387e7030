//! How connections leave: sealed, left by their last request, closed; and how those in doubt come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pool::Leaving;
use super::recovery::{Abandoned, Recovery};
use super::{Action, Scheduler, Waiter};
use crate::kernel::TenantId;
#[cfg(test)]
use crate::router::pools::model::mutant::{self, Mutant};
use crate::router::pools::permit::Ticket;
use crate::router::pools::pooled::{Line, Pooled};

impl<L: Line, W: Waiter> Scheduler<L, W> {
    /// The connections of the tenant that were opened before are unfit: their prepared statements are dead, or they
    /// are likely to have broken with another.
    pub(in crate::router::pools) fn all_unfit(
        &mut self,
        tenant: TenantId,
        before: Instant,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.knows(tenant) {
            let old = |conn: &mut Arc<Pooled<L>>| conn.opened <= before;
            for conn in self.change(tenant, |pool| pool.conns.extract_if(.., old).collect::<Vec<_>>()) {
                self.dismiss(tenant, conn, false, now, &mut actions);
            }
            self.settle(tenant, now, &mut actions);
        }
        actions
    }

    /// Somebody lets go in the middle of a statement or a transaction. Said before leaving, so that nobody else comes;
    /// whoever leaves last has it recovered.
    pub(in crate::router::pools) fn abandoned(
        &mut self,
        tenant: TenantId,
        conn: &Arc<Pooled<L>>,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.change(tenant, |pool| pool.take(conn)) {
            conn.leases.seal();
            self.change(tenant, |pool| pool.recovering.push(Abandoned::new(conn.clone())));
        }
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An abandoned connection is in order again, or cannot be brought there.
    pub(in crate::router::pools) fn recovered(
        &mut self,
        tenant: TenantId,
        recovery: Recovery<L>,
        well: bool,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        let conn = recovery.end();
        let fits = self.change(tenant, |pool| {
            pool.recovering.retain(|abandoned| !abandoned.is(&conn));
            pool.fits(&conn)
        });
        if well && fits {
            conn.leases.unseal();
            self.change(tenant, |pool| pool.add(conn, now));
        } else {
            self.give_up(conn, &mut actions);
        }
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// A permit is back: its socket is closed, and the server has let go of it.
    pub(in crate::router::pools) fn release(&mut self, ticket: &Ticket, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if ticket.release() {
            self.closing -= 1;
        }
        self.open -= 1;
        if let Some(pool) = self.pools.get(&ticket.tenant) {
            let gone: Vec<_> = pool.conns.iter().filter(|c| c.line.is_gone()).cloned().collect();
            for conn in gone {
                self.look_at(ticket.tenant, &conn, now, &mut actions);
            }
        }
        self.settle(ticket.tenant, now, &mut actions);
        actions
    }

    /// What time alone brings: connections idle for too long go, all but `keep` of them; those that had `drain` to
    /// leave are cancelled; turns pass on.
    pub(in crate::router::pools) fn tick(
        &mut self,
        idle: Duration,
        drain: Duration,
        keep: usize,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        let mut spare = self.open.saturating_sub(self.closing + self.leaving + keep);
        for tenant in self.pools.keys().copied().collect::<Vec<_>>() {
            let Some(pool) = self.pools.get_mut(&tenant) else { continue };
            let requests = pool.uncounted();
            self.popularity.record(tenant, requests, now);
            pool.crowded = false;
            for conn in pool.overdue(drain, now) {
                actions.push(Action::Cancel(conn));
            }
            let old = |c: &&Arc<Pooled<L>>| now.saturating_duration_since(c.last_used()) >= idle;
            let old: Vec<_> = pool.conns.iter().filter(old).take(spare).cloned().collect();
            for conn in old.into_iter().filter(|c| c.leases.seal_idle()) {
                spare -= 1;
                self.change(tenant, |pool| pool.take(&conn));
                self.give_up(conn, &mut actions);
            }
            self.prune(tenant, now, &mut actions);
        }
        self.dispatch(now, &mut actions);
        actions
    }

    /// Looks at a connection that may be drained, or may not be good any more.
    pub(super) fn look_at(
        &mut self,
        tenant: TenantId,
        conn: &Arc<Pooled<L>>,
        now: Instant,
        actions: &mut Vec<Action<L, W>>,
    ) {
        let Some(pool) = self.pools.get_mut(&tenant) else { return };
        if let Some(at) = pool.leaving.iter().position(|l| Arc::ptr_eq(&l.conn, conn)) {
            if conn.leases.is_drained() {
                pool.leaving.swap_remove(at);
                self.leaving -= 1;
                self.give_up(conn.clone(), actions);
            }
        } else if let Some(abandoned) = pool.recovering.iter_mut().find(|abandoned| abandoned.is(conn)) {
            actions.extend(abandoned.begin().map(Action::Recover));
        } else if !pool.fits(conn) && self.change(tenant, |pool| pool.take(conn)) {
            self.dismiss(tenant, conn.clone(), true, now, actions);
        }
    }

    /// A connection that the pool has let go of takes no more requests, and is closed when the last one leaves it.
    pub(super) fn dismiss(
        &mut self,
        tenant: TenantId,
        conn: Arc<Pooled<L>>,
        retired: bool,
        now: Instant,
        actions: &mut Vec<Action<L, W>>,
    ) {
        let left = conn.leases.seal();
        #[cfg(test)]
        let left = left || mutant::is(Mutant::ClosesUnderRequests);
        if left {
            self.give_up(conn, actions);
        } else {
            self.leaving += 1;
            self.change(tenant, |pool| pool.leaving.push(Leaving { conn, since: now, retired }));
        }
        self.change(tenant, |pool| pool.publish());
    }

    /// Nobody is on the connection. Its permit is out until the socket is closed.
    pub(super) fn give_up(&mut self, conn: Arc<Pooled<L>>, actions: &mut Vec<Action<L, W>>) {
        self.closing += usize::from(conn.ticket.close());
        actions.push(Action::Close(conn));
    }
}
