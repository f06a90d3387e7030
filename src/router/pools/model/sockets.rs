//! What servers and sockets do to a node, and the promises that can be seen on it alone.

use super::*;

const IDLE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(10);

impl Node {
    pub(in super::super) fn opens(&mut self, at: usize) {
        let Some(at) = pick(&self.opening, at) else { return };
        let (ticket, version) = self.opening.swap_remove(at);
        self.next += 1;
        let (id, tenant, gone) = (self.next, ticket.tenant, Arc::<AtomicBool>::default());
        self.sockets.push(Socket { id, ticket: ticket.clone(), gone: gone.clone() });
        let conn = Arc::new(Pooled::new(Wire { id, tenant, gone }, ticket, version, self.now));
        self.broken.retain(|broken| *broken != tenant);
        let actions = self.scheduler.opened(tenant, conn, Duration::from_millis(3), self.now);
        self.perform(actions);
    }

    pub(in super::super) fn opening_fails(&mut self, at: usize) {
        let Some(at) = pick(&self.opening, at) else { return };
        let (ticket, _) = self.opening.swap_remove(at);
        let retired = self.scheduler.is_retired(ticket.tenant);
        let (waiters, actions) = match retired {
            true => (Vec::new(), self.scheduler.open_again(ticket.tenant, self.now)),
            false => self.scheduler.open_failed(ticket.tenant, self.now),
        };
        self.tell(waiters);
        self.perform(actions);
        let actions = self.scheduler.release(&ticket, self.now);
        self.perform(actions);
        if !retired {
            self.breaks(ticket.tenant);
        }
    }

    /// The tenant's breaker opens; the first probe comes later.
    fn breaks(&mut self, tenant: TenantId) {
        if !self.broken.contains(&tenant) {
            self.broken.push(tenant);
        }
    }

    /// The router's own probe, which is what lets waiters open again.
    fn probe(&mut self, tenant: TenantId) {
        if let Some(news) = self.knows(tenant).news() {
            let mut actions = self.scheduler.learn(tenant, news, self.now);
            actions.extend(self.scheduler.open_unasked(tenant, self.now));
            self.perform(actions);
        }
    }

    pub(in super::super) fn server_is_full(&mut self, at: usize) {
        let Some(at) = pick(&self.opening, at) else { return };
        let (ticket, _) = self.opening.swap_remove(at);
        self.full = true;
        self.scheduler.server_full();
        let actions = self.scheduler.open_again(ticket.tenant, self.now);
        self.perform(actions);
        let waiters = self.scheduler.refuse_starving();
        self.tell(waiters);
        let actions = self.scheduler.release(&ticket, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn more_room(&mut self) {
        let (all, actions) = self.scheduler.try_more_room(self.now);
        self.full &= !all;
        self.perform(actions);
    }

    /// Others feel what tenants have beyond one connection each, or feel it no more.
    pub(in super::super) fn slows(&mut self, extras: usize) {
        let actions = self.scheduler.set_extras(extras, self.now);
        self.perform(actions);
    }

    /// The probes are repeated until one succeeds.
    pub(in super::super) fn probe_again(&mut self) {
        for tenant in self.broken.clone() {
            self.probe(tenant);
        }
    }

    /// They are given up: nobody asks for those tenants.
    pub(in super::super) fn probes_end(&mut self) {
        for tenant in std::mem::take(&mut self.broken) {
            let actions = self.scheduler.unblock(tenant, self.now);
            self.perform(actions);
        }
    }

    pub(in super::super) fn closed(&mut self, at: usize) {
        let Some(at) = pick(&self.closing, at) else { return };
        let socket = self.closing.swap_remove(at);
        let actions = self.scheduler.release(&socket.ticket, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn recovered(&mut self, at: usize, well: bool) {
        let Some(at) = pick(&self.recovering, at) else { return };
        let recovery = self.recovering.swap_remove(at);
        let actions = self.scheduler.recovered(recovery.conn().line.tenant, recovery, well, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn server_closes(&mut self, at: usize) {
        let Some(at) = pick(&self.sockets, at) else { return };
        let socket = self.sockets.swap_remove(at);
        socket.gone.store(true, Ordering::Relaxed);
        let actions = self.scheduler.release(&socket.ticket, self.now);
        self.perform(actions);
    }

    /// The tenant's prepared statements are dead.
    pub(in super::super) fn stale(&mut self, tenant: usize) {
        let actions = self.scheduler.all_unfit(self.known[tenant].tenant, self.now, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn crowd(&mut self, tenant: usize) {
        let actions = self.scheduler.crowded(self.known[tenant].tenant, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn tick(&mut self) {
        let actions = self.scheduler.tick(IDLE, DRAIN, 0, self.now);
        self.perform(actions);
    }

    pub(in super::super) fn check(&self) {
        for wait in &self.waiting {
            let known = Arc::strong_count(&wait.gone) > 1;
            promise(known, REQUESTS, || format!("{wait:?} waits, and nobody knows of it"));
        }
        let counts = self.scheduler.counts();
        promise(counts.open == self.physical(), BUDGET, || format!("{counts:?}, and {} are there", self.physical()));
        promise(counts.opening == self.opening.len(), COUNTS, || format!("opening: {counts:?}"));
        promise(counts.closing == self.closing.len(), COUNTS, || format!("closing: {counts:?}"));
        promise(self.scheduler.turns_are_due(), COUNTS, || "a turn that is nobody's".to_owned());
        let (mut waiting, mut tenants) = (0, 0);
        for pool in self.known.iter().filter_map(|entry| self.scheduler.pool_counts(entry.tenant)) {
            // A probe, and a connection brought back to order, may come on top.
            let held = pool.idle + pool.busy;
            promise(held <= CEILING.max(pool.opening + 1) + 1, COUNTS, || format!("above the ceiling: {pool:?}"));
            waiting += pool.waiting;
            tenants += usize::from(pool.waiting > 0);
        }
        promise((counts.waiting, counts.waiting_tenants) == (waiting, tenants), COUNTS, || format!("{counts:?}"));
    }
}
