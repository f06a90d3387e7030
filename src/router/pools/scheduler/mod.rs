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

mod counts;
mod departures;
mod extras;
mod limits;
mod news;
mod openings;
mod outcomes;
mod pool;
mod popularity;
mod recovery;
mod room;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[cfg(test)]
use super::model::mutant::{self, Mutant};
use super::permit::Ticket;
use super::pooled::{Directory, Line, Mode, Pooled, TenantPool};
use super::usage::UsageTable;
use crate::kernel::TenantId;
pub use counts::{ClusterCounts, PoolCounts};
use extras::Extras;
pub(super) use extras::LOOK_EVERY;
use openings::Openings;
use pool::Pool;
use popularity::Popularity;
pub(super) use recovery::Recovery;

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
    Recover(Recovery<L>),
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

/// The tenant's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// See the module.
pub(crate) struct Scheduler<L, W> {
    capacity: usize,
    /// Fewer than the capacity while the server itself has no room for more.
    room_found: Option<usize>,
    max_waiters: usize,
    openings: Openings,
    extras: Extras,
    /// Connections that tenants hold beyond one each.
    extra: usize,
    /// When it is next remembered what requests take.
    remember_at: Option<Instant>,
    open: usize,
    closing: usize,
    leaving: usize,
    opening: usize,
    /// Of those, openings to which the server says nothing.
    lagging: usize,
    starving: usize,
    waiting: usize,
    queued: usize,
    pools: HashMap<TenantId, Pool<L, W>>,
    directory: Arc<Directory<L>>,
    starving_turns: VecDeque<TenantId>,
    growing_turns: VecDeque<TenantId>,
    popularity: Popularity,
    /// A tenant waits and nobody could make room: whoever leaves a connection of any tenant says so.
    pub(super) hungry: Arc<AtomicBool>,
    arrivals: u64,
    /// What the tenants' pools have done; outlives them.
    usages: UsageTable,
    steals: u64,
    evictions: u64,
}

impl<L: Line, W: Waiter> Scheduler<L, W> {
    pub(super) fn new(capacity: usize, max_waiters: usize, directory: Arc<Directory<L>>) -> Self {
        Self {
            capacity,
            room_found: None,
            max_waiters,
            openings: Openings::new(),
            extras: Extras::new(),
            extra: 0,
            remember_at: None,
            open: 0,
            closing: 0,
            leaving: 0,
            opening: 0,
            lagging: 0,
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

    fn drain_waiters(&mut self, tenant: TenantId) -> Vec<W> {
        self.change(tenant, Pool::drain_waiters)
    }

    /// Changes a pool, and keeps true what is counted over all of them.
    fn change<R>(&mut self, tenant: TenantId, change: impl FnOnce(&mut Pool<L, W>) -> R) -> R {
        let pool = self.pool(tenant, Instant::now());
        let (starved, waited, extra) = (usize::from(pool.is_starving()), pool.waiters(), pool.extra());
        let result = change(pool);
        let (starves, waits, has) = (usize::from(pool.is_starving()), pool.waiters(), pool.extra());
        self.starving = self.starving + starves - starved;
        self.extra = self.extra + has - extra;
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

    /// Forgets the tenant's pool if there is nothing in it.
    pub(super) fn forget_if_empty(&mut self, tenant: TenantId) {
        if self.pools.get(&tenant).is_some_and(Pool::is_empty)
            && let Some(mut pool) = self.pools.remove(&tenant)
        {
            let requests = pool.uncounted();
            self.popularity.record(tenant, requests, pool.since);
            self.directory.remove(tenant);
            // While others starve nobody comes to this turn, and the tenant comes back for another one again and again.
            let leaves_turn = pool.growing_turn;
            #[cfg(test)]
            let leaves_turn = leaves_turn && !mutant::is(Mutant::KeepsTurns);
            if leaves_turn {
                self.growing_turns.retain(|turn| *turn != tenant);
            }
        }
    }
}
