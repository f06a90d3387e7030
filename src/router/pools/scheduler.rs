//! Who gets a server's next connection: a state machine without I/O, time or threads of its own.
//!
//! One scheduler per PostgreSQL server. It counts permits (the right to one physical connection), knows each tenant's
//! connections and waiters, and says what to do: open one, close one, hand one over. Warm requests pass it by: they
//! join a connection through [`TenantPool`] and leave it again, and come here only when somebody waits. Rules, in
//! order:
//!
//! 1. Permits that are out never exceed the capacity, whatever happens.
//! 2. Tenants without a connection come first, in turn; then those that want one more, in turn and by weight. A tenant
//!    with 500 waiters gets one turn, like one with a single.
//! 3. All of a tenant's waiters are served before its connection is taken.
//! 4. No permit free: somebody makes room (`room.rs`). What is idle is closed at once, what is busy when it is left.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(test)]
use super::model::mutant::{self, Mutant};
use super::openings::Openings;
use super::permit::Ticket;
use super::pool::{Leaving, Pool};
use super::pooled::{Directory, Line, Mode, Pooled, TenantPool};
use super::popularity::Popularity;
use super::usage::{Usage, UsageTable};
use crate::kernel::TenantId;

/// Somebody who waits for a connection.
pub(crate) trait Waiter {
    /// Whether nobody is waiting any more.
    fn is_gone(&self) -> bool;
    /// What it is waited for.
    fn mode(&self) -> Mode;
}

/// What to do, after the lock is released.
#[derive(Debug)]
pub(crate) enum Action<L, W> {
    /// Open a connection with this permit's ticket.
    Open(Ticket),
    /// Let go of this connection; nobody is on it.
    Close(Arc<Pooled<L>>),
    /// Hand this connection, joined already, to a waiter.
    Give(Arc<TenantPool<L>>, Arc<Pooled<L>>, W),
    /// Cancel what runs on this connection: it has had long enough to leave.
    Cancel(Arc<Pooled<L>>),
    /// Bring this connection, whose statement was abandoned and which nobody is on, back to order.
    Recover(Arc<Pooled<L>>),
}

/// What the registry says of a tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) generation: i64,
    /// Which target and schema epoch its connections must be of. None: it is not to be served.
    pub(crate) version: Option<u64>,
    /// The most connections it may hold.
    pub(crate) ceiling: usize,
    /// Its share when connections are scarce.
    pub(crate) weight: u32,
}

/// Counts of one tenant's pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
pub struct PoolCounts {
    /// Connections without work.
    pub idle: usize,
    /// Connections at work.
    pub busy: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Connections that take no requests any more and are closed when their last one leaves.
    pub draining: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// The most connections this tenant may hold.
    pub ceiling: usize,
}

/// Counts of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct ClusterCounts {
    /// Permits in all.
    pub capacity: usize,
    /// Permits that are out, those of connections still closing included.
    pub open: usize,
    /// Connections being closed.
    pub closing: usize,
    /// Connections that are closed when their last request leaves.
    pub draining: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Idle connections.
    pub idle: usize,
    /// Tenants that wait.
    pub waiting_tenants: usize,
    /// Requests that wait.
    pub waiting: usize,
}

impl PoolCounts {
    /// Connections that the tenant holds.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.idle + self.busy + self.opening
    }
}

impl ClusterCounts {
    /// Connections at work. A failed opening gives its permit back a moment before it is counted out.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.open.saturating_sub(self.idle + self.opening + self.draining + self.closing)
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.capacity += other.capacity;
        self.open += other.open;
        self.closing += other.closing;
        self.draining += other.draining;
        self.opening += other.opening;
        self.idle += other.idle;
        self.waiting_tenants += other.waiting_tenants;
        self.waiting += other.waiting;
    }
}

/// The tenant's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// See the module.
pub(crate) struct Scheduler<L, W> {
    pub(super) capacity: usize,
    /// Fewer than the capacity while the server itself has no room for more.
    room_found: Option<usize>,
    max_waiters: usize,
    pub(super) openings: Openings,
    pub(super) open: usize,
    pub(super) closing: usize,
    pub(super) leaving: usize,
    pub(super) opening: usize,
    pub(super) starving: usize,
    waiting: usize,
    queued: usize,
    pub(super) pools: HashMap<TenantId, Pool<L, W>>,
    directory: Arc<Directory<L>>,
    starving_turns: VecDeque<TenantId>,
    pub(super) growing_turns: VecDeque<TenantId>,
    pub(super) popularity: Popularity,
    /// A tenant waits and nobody could make room: whoever leaves a connection of any tenant says so.
    pub(super) hungry: Arc<AtomicBool>,
    arrivals: u64,
    /// What the tenants' pools have done; outlives them.
    usages: UsageTable,
    pub(super) steals: u64,
    pub(super) evictions: u64,
}

impl<L: Line, W: Waiter> Scheduler<L, W> {
    pub(super) fn new(capacity: usize, max_waiters: usize, directory: Arc<Directory<L>>) -> Self {
        Self {
            capacity,
            room_found: None,
            max_waiters,
            openings: Openings::new(),
            open: 0,
            closing: 0,
            leaving: 0,
            opening: 0,
            starving: 0,
            waiting: 0,
            queued: 0,
            pools: HashMap::new(),
            directory,
            starving_turns: VecDeque::new(),
            growing_turns: VecDeque::new(),
            popularity: Popularity::default(),
            hungry: Arc::default(),
            arrivals: 0,
            usages: UsageTable::default(),
            steals: 0,
            evictions: 0,
        }
    }

    /// Takes in what the registry says of the tenant now; older news than known are ignored. Connections of another
    /// version take no more requests, and are closed when they are left.
    pub(super) fn learn(&mut self, tenant: TenantId, news: News, now: Instant) -> Vec<Action<L, W>> {
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
            let conns = self.change(tenant, |pool| pool.conns.split_off(0));
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
    pub(super) fn retire(&mut self, tenant: TenantId, generation: i64, now: Instant) -> (Vec<W>, Vec<Action<L, W>>) {
        if !self.knows(tenant) {
            return (Vec::new(), Vec::new());
        }
        let news = News { generation, version: None, ceiling: 1, weight: 1 };
        let mut actions = self.learn(tenant, news, now);
        let waiters = if self.is_retired(tenant) { self.drain_waiters(tenant) } else { Vec::new() };
        self.settle(tenant, now, &mut actions);
        (waiters, actions)
    }

    /// Whether the newest news of the tenant were that it is not to be served.
    pub(super) fn is_retired(&self, tenant: TenantId) -> bool {
        self.pools
            .get(&tenant)
            .is_some_and(|p| p.shared.generation.load(Ordering::Relaxed) > i64::MIN && p.version.is_none())
    }

    /// Queues a waiter. It may be served at once.
    pub(super) fn wait(&mut self, tenant: TenantId, waiter: W, now: Instant) -> Result<Vec<Action<L, W>>, QueueFull> {
        let (arrival, most) = (self.arrivals, self.max_waiters);
        self.arrivals += 1;
        let queued = self.change(tenant, |pool| {
            if pool.waiters() >= most {
                pool.prune();
            }
            let room = pool.waiters() < most;
            if room {
                pool.queue(waiter, arrival);
            }
            room
        });
        if !queued {
            return Err(QueueFull);
        }
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        Ok(actions)
    }

    /// Readers crowd on the tenant's connections, without waiting: one more would help.
    pub(super) fn crowded(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.knows(tenant) {
            self.change(tenant, |pool| pool.crowded = pool.opening == 0 && pool.held() > 0);
            self.settle(tenant, now, &mut actions);
        }
        actions
    }

    /// Somebody left a connection while it was sealed, broken, or waited for.
    pub(super) fn freed(&mut self, tenant: TenantId, conn: &Arc<Pooled<L>>, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.look_at(tenant, conn, now, &mut actions);
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// A connection is open. Readers may come; whoever must be alone comes after [`Self::verified`].
    pub(super) fn opened(
        &mut self,
        tenant: TenantId,
        conn: Arc<Pooled<L>>,
        took: Duration,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.openings.took(took, self.opening);
        self.opening -= 1;
        let good = self.change(tenant, |pool| {
            pool.opening -= 1;
            pool.blocked = false;
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

    /// The database said that a new connection is its tenant's.
    pub(super) fn verified(&mut self, tenant: TenantId, conn: &Pooled<L>, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        conn.set_verified();
        self.change(tenant, |pool| {
            // Perhaps another opening has failed meanwhile; nobody probes any more for a tenant that answers.
            pool.blocked = false;
            pool.turn_begins(now);
        });
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An opening failed. If nothing else can serve the tenant, its waiters are given back to be told why.
    pub(super) fn open_failed(&mut self, tenant: TenantId, now: Instant) -> (Vec<W>, Vec<Action<L, W>>) {
        self.opening -= 1;
        self.change(tenant, |pool| {
            pool.opening -= 1;
            pool.blocked = true;
        });
        let waiters = if self.can_serve(tenant, now) { Vec::new() } else { self.drain_waiters(tenant) };
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        (waiters, actions)
    }

    /// An opening failed for a reason that is none any more: it may be tried again at once.
    pub(super) fn open_again(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        self.opening -= 1;
        self.change(tenant, |pool| pool.opening -= 1);
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An opening failed for a reason that may be none in a moment. Until [`Self::unblock`] nothing is opened, and whoever
    /// waits waits on.
    pub(super) fn open_later(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        self.opening -= 1;
        self.change(tenant, |pool| {
            pool.opening -= 1;
            pool.blocked = true;
        });
        let mut actions = Vec::new();
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// The database of a new connection is not the tenant's. Whoever reads on it gets no answer; its waiters are given
    /// back to be told.
    pub(super) fn refused(
        &mut self,
        tenant: TenantId,
        conn: &Arc<Pooled<L>>,
        now: Instant,
    ) -> (Vec<W>, Vec<Action<L, W>>) {
        let mut actions = Vec::new();
        if self.change(tenant, |pool| {
            pool.blocked = true;
            pool.take(conn)
        }) {
            self.dismiss(tenant, conn.clone(), true, now, &mut actions);
        }
        let waiters = if self.can_serve(tenant, now) { Vec::new() } else { self.drain_waiters(tenant) };
        self.settle(tenant, now, &mut actions);
        (waiters, actions)
    }

    /// The connections of the tenant that were opened before are unfit: their prepared statements are dead, or they
    /// are likely to have broken with another.
    pub(super) fn all_unfit(&mut self, tenant: TenantId, before: Instant, now: Instant) -> Vec<Action<L, W>> {
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
    pub(super) fn abandoned(&mut self, tenant: TenantId, conn: &Arc<Pooled<L>>, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.change(tenant, |pool| pool.take(conn)) {
            conn.leases.seal();
            self.change(tenant, |pool| pool.recovering.push(conn.clone()));
        }
        self.settle(tenant, now, &mut actions);
        actions
    }

    /// An abandoned connection is in order again, or cannot be brought there.
    pub(super) fn recovered(
        &mut self,
        tenant: TenantId,
        conn: Arc<Pooled<L>>,
        well: bool,
        now: Instant,
    ) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        let fits = self.change(tenant, |pool| {
            pool.recovering.retain(|c| !Arc::ptr_eq(c, &conn));
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
    pub(super) fn release(&mut self, ticket: &Ticket, now: Instant) -> Vec<Action<L, W>> {
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

    /// A connection for a tenant that nobody may wait for: the router's own probe. It takes its turn like any other.
    pub(super) fn open_unasked(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        self.change(tenant, |pool| pool.probing = true);
        self.take_turn(tenant);
        self.dispatch(now, &mut actions);
        actions
    }

    /// Whoever waits for the tenant has a connection opened for him again.
    pub(super) fn unblock(&mut self, tenant: TenantId, now: Instant) -> Vec<Action<L, W>> {
        let mut actions = Vec::new();
        if self.knows(tenant) {
            self.change(tenant, |pool| pool.blocked = false);
            self.settle(tenant, now, &mut actions);
        }
        actions
    }

    /// What time alone brings: connections idle for too long go, all but `keep` of them; those that had `drain` to
    /// leave are cancelled; turns pass on.
    pub(super) fn tick(&mut self, idle: Duration, drain: Duration, keep: usize, now: Instant) -> Vec<Action<L, W>> {
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

    /// How many permits there are.
    pub(super) fn set_capacity(&mut self, capacity: usize, now: Instant) -> Vec<Action<L, W>> {
        self.capacity = capacity;
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        actions
    }

    /// The server has no room for more connections than it holds of us now.
    pub(super) fn server_full(&mut self) {
        self.room_found = Some(self.open.saturating_sub(self.opening + self.closing));
    }

    /// The server may have room for more. True if nothing holds back any more.
    pub(super) fn try_more_room(&mut self, now: Instant) -> (bool, Vec<Action<L, W>>) {
        self.room_found = self.room_found.map(|room| room + 1 + room / 2).filter(|room| *room < self.capacity);
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        (self.room_found.is_none(), actions)
    }

    /// Gives back the waiters of all tenants that nothing serves, to be told.
    pub(super) fn refuse_starving(&mut self) -> Vec<W> {
        let starving: Vec<_> = self.pools.iter().filter(|(_, p)| p.is_starving()).map(|(t, _)| *t).collect();
        starving.into_iter().flat_map(|tenant| self.drain_waiters(tenant)).collect()
    }

    /// Whether a connection exists that takes requests and answers them.
    pub(super) fn serves(&self, tenant: TenantId, now: Instant) -> bool {
        self.pools.get(&tenant).is_some_and(|p| p.conns.iter().any(|c| !c.line.is_gone() && !c.is_slow(now)))
    }

    /// Whether one does, or may soon.
    fn can_serve(&self, tenant: TenantId, now: Instant) -> bool {
        self.serves(tenant, now) || self.pools.get(&tenant).is_some_and(|p| p.opening > 0 || !p.recovering.is_empty())
    }

    /// Whether the tenant has a pool at all.
    pub(super) fn knows(&self, tenant: TenantId) -> bool {
        self.pools.contains_key(&tenant)
    }

    /// Tenants with a pool.
    pub(super) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.pools.keys().copied()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.open == 0 && self.pools.is_empty()
    }

    pub(super) fn counts(&self) -> ClusterCounts {
        let idle = |p: &Pool<L, W>| p.conns.iter().filter(|c| c.leases.is_idle()).count();
        ClusterCounts {
            capacity: self.capacity,
            open: self.open,
            closing: self.closing,
            draining: self.leaving,
            opening: self.opening,
            idle: self.pools.values().map(idle).sum(),
            waiting_tenants: self.waiting,
            waiting: self.queued,
        }
    }

    pub(super) fn pool_counts(&self, tenant: TenantId) -> Option<PoolCounts> {
        self.pools.get(&tenant).map(Pool::counts)
    }

    /// Whether the server itself is what holds back: nobody gains by taking a connection from somebody.
    pub(super) fn has_no_room(&self) -> bool {
        self.room_found.is_some() && self.open >= self.limit()
    }

    /// Whether every permit is out.
    pub(super) fn is_full(&self) -> bool {
        self.open >= self.capacity
    }

    /// The permits that may be out.
    pub(super) fn limit(&self) -> usize {
        let limit = self.room_found.map_or(self.capacity, |room| room.min(self.capacity));
        #[cfg(test)]
        let limit = mutant::limit(limit, self.closing);
        limit
    }

    /// Looks at a connection that may be drained, or may not be good any more.
    fn look_at(&mut self, tenant: TenantId, conn: &Arc<Pooled<L>>, now: Instant, actions: &mut Vec<Action<L, W>>) {
        let Some(pool) = self.pools.get_mut(&tenant) else { return };
        if let Some(at) = pool.leaving.iter().position(|l| Arc::ptr_eq(&l.conn, conn)) {
            if conn.leases.is_drained() {
                pool.leaving.swap_remove(at);
                self.leaving -= 1;
                self.give_up(conn.clone(), actions);
            }
        } else if pool.recovering.iter().any(|c| Arc::ptr_eq(c, conn)) {
            if conn.leases.is_drained() {
                actions.push(Action::Recover(conn.clone()));
            }
        } else if !pool.fits(conn) && self.change(tenant, |pool| pool.take(conn)) {
            self.dismiss(tenant, conn.clone(), true, now, actions);
        }
    }

    /// Serves the tenant's waiters, sees to its turn, and passes on what is free.
    fn settle(&mut self, tenant: TenantId, now: Instant, actions: &mut Vec<Action<L, W>>) {
        self.serve(tenant, now, actions);
        self.dispatch(now, actions);
        self.forget_if_empty(tenant);
    }

    fn serve(&mut self, tenant: TenantId, now: Instant, actions: &mut Vec<Action<L, W>>) {
        if self.knows(tenant) {
            self.change(tenant, |pool| pool.serve(now, actions));
            self.take_turn(tenant);
        }
    }

    fn prune(&mut self, tenant: TenantId, now: Instant, actions: &mut Vec<Action<L, W>>) {
        self.change(tenant, |pool| {
            pool.prune();
            pool.serve(now, actions);
        });
        self.take_turn(tenant);
        self.forget_if_empty(tenant);
    }

    fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        while self.open < self.limit() && self.opening < self.openings.limit() {
            let Some(tenant) = self.next_turn() else { break };
            actions.push(self.start_opening(tenant));
        }
        self.make_room(now, actions);
    }

    fn next_turn(&mut self) -> Option<TenantId> {
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

    fn take_turn(&mut self, tenant: TenantId) {
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

    fn start_opening(&mut self, tenant: TenantId) -> Action<L, W> {
        self.open += 1;
        self.opening += 1;
        self.change(tenant, |pool| {
            pool.opening += 1;
            pool.crowded = false;
            pool.probing = false;
        });
        Action::Open(Ticket::new(tenant))
    }

    fn drain_waiters(&mut self, tenant: TenantId) -> Vec<W> {
        self.change(tenant, Pool::drain_waiters)
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

    /// Changes a pool, and keeps the counts of waiting and starving tenants true.
    pub(super) fn change<R>(&mut self, tenant: TenantId, change: impl FnOnce(&mut Pool<L, W>) -> R) -> R {
        let pool = self.pool(tenant, Instant::now());
        let (starved, waited) = (usize::from(pool.is_starving()), pool.waiters());
        let result = change(pool);
        let (starves, waits) = (usize::from(pool.is_starving()), pool.waiters());
        self.starving = self.starving + starves - starved;
        self.queued = self.queued + waits - waited;
        self.waiting = self.waiting + usize::from(waits > 0) - usize::from(waited > 0);
        result
    }

    fn pool(&mut self, tenant: TenantId, now: Instant) -> &mut Pool<L, W> {
        self.pools.entry(tenant).or_insert_with(|| {
            let pool = Pool::new(tenant, self.usages.of(tenant, now), now);
            self.directory.insert(pool.shared.clone());
            pool
        })
    }

    /// Connections taken from a tenant for another since this was asked last, and how often it was the last one.
    pub(super) fn taken(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.steals), std::mem::take(&mut self.evictions))
    }

    /// What a tenant's pool has done, if that is known.
    pub(super) fn usage(&self, tenant: TenantId) -> Option<&Arc<Usage>> {
        self.usages.get(tenant)
    }

    /// Forgets the tenant's pool if there is nothing in it.
    pub(super) fn forget_if_empty(&mut self, tenant: TenantId) {
        if self.pools.get(&tenant).is_some_and(Pool::is_empty)
            && let Some(mut pool) = self.pools.remove(&tenant)
        {
            let requests = pool.uncounted();
            self.popularity.record(tenant, requests, pool.since);
            self.directory.remove(tenant);
        }
    }
}
