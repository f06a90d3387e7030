//! Who gets a server's next connection: a pure state machine, without I/O, time or threads.
//!
//! One scheduler per PostgreSQL server. It counts permits (the right to one physical connection), keeps each tenant's
//! idle connections and waiters, and says what to do: open one, close one, hand one over. Rules, in order:
//!
//! 1. Permits that are out never exceed the capacity, whatever happens.
//! 2. A returned connection goes to its own tenant's first waiter, unless a tenant without any connection is waiting
//!    and the owner has more than one, or has been served for its whole quantum: then it is closed for the other.
//! 3. Tenants take turns (round robin), not requests: a tenant with 500 waiters gets one turn, like one with a single.
//! 4. No permit free: the connection that has been idle longest, of whatever tenant, is closed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::TenantId;

/// How many requests a tenant may serve in a row on its last connection while another tenant has none.
const QUANTUM: u32 = 32;
/// A connection is taken from its tenant, for one that has a connection already, only after this long without use.
const SETTLED: Duration = Duration::from_millis(100);

const LIVE: u8 = 0;
const CLOSING: u8 = 1;
const RELEASED: u8 = 2;

/// Ties a connection to its permit. Changed under the scheduler's lock only.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

/// A pooled connection, as far as the scheduler is concerned.
pub(super) trait Pooled {
    /// Its permit's ticket.
    fn ticket(&self) -> &Ticket;
    /// Whether it can serve again.
    fn is_reusable(&self) -> bool;
    /// Which target and schema epoch it was opened for.
    fn version(&self) -> u64;
}

/// Somebody who waits for a connection.
pub(super) trait Waiter {
    /// Whether nobody is waiting any more.
    fn is_gone(&self) -> bool;
}

/// What to do, after the lock is released.
#[derive(Debug)]
pub(super) enum Action<C, W> {
    /// Open a connection for this tenant with this permit's ticket.
    Open(TenantId, Ticket),
    /// Let go of this connection.
    Close(C),
    /// Hand this connection of a tenant to its waiter.
    Give(TenantId, C, W),
}

struct Idle<C> {
    conn: C,
    tick: u64,
    since: Instant,
}

struct Pool<C, W> {
    idle: VecDeque<Idle<C>>,
    waiters: VecDeque<W>,
    opening: usize,
    /// Connections that serve this tenant: opening, busy and idle; not those being closed.
    held: usize,
    ceiling: usize,
    streak: u32,
    generation: i64,
    version: Option<u64>,
    in_turn: bool,
    /// The last opening failed: none is begun for waiters until one succeeds.
    blocked: bool,
}

impl<C, W> Pool<C, W> {
    fn new(ceiling: usize) -> Self {
        Self {
            idle: VecDeque::new(),
            waiters: VecDeque::new(),
            opening: 0,
            held: 0,
            ceiling,
            streak: 0,
            generation: i64::MIN,
            version: None,
            in_turn: false,
            blocked: false,
        }
    }

    fn is_starving(&self) -> bool {
        self.held == 0 && !self.waiters.is_empty()
    }

    fn wants(&self) -> usize {
        if self.blocked || self.version.is_none() {
            return 0;
        }
        self.waiters.len().saturating_sub(self.opening).min(self.ceiling.saturating_sub(self.held))
    }
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
    /// Requests that wait.
    pub waiting: usize,
    /// The most connections this tenant may hold.
    pub ceiling: usize,
}

/// Counts of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Permits in all.
    pub capacity: usize,
    /// Permits that are out, those of connections still closing included.
    pub open: usize,
    /// Connections being closed.
    pub closing: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Idle connections.
    pub idle: usize,
    /// Tenants that wait.
    pub waiting_tenants: usize,
}

/// See the module.
pub(super) struct Scheduler<C, W> {
    capacity: usize,
    max_openings: usize,
    max_waiters: usize,
    open: usize,
    closing: usize,
    opening: usize,
    starving: usize,
    waiting: usize,
    pools: HashMap<TenantId, Pool<C, W>>,
    turns: VecDeque<TenantId>,
    idle: BTreeMap<u64, TenantId>,
    tick: u64,
}

/// The tenant's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

impl<C: Pooled, W: Waiter> Scheduler<C, W> {
    pub(super) fn new(capacity: usize, max_openings: usize, max_waiters: usize) -> Self {
        Self {
            capacity,
            max_openings: max_openings.max(1),
            max_waiters,
            open: 0,
            closing: 0,
            opening: 0,
            starving: 0,
            waiting: 0,
            pools: HashMap::new(),
            turns: VecDeque::new(),
            idle: BTreeMap::new(),
            tick: 0,
        }
    }

    /// Takes an idle connection of the tenant. Stale and broken ones on the way are given up.
    pub(super) fn checkout(&mut self, tenant: TenantId, now: Instant) -> (Option<C>, Vec<Action<C, W>>) {
        let mut actions = Vec::new();
        while let Some(conn) = self.pop_newest_idle(tenant) {
            if self.still_good(tenant, &conn) {
                return (Some(conn), actions);
            }
            self.give_up(tenant, conn, &mut actions);
        }
        if !actions.is_empty() {
            self.dispatch(now, &mut actions);
        }
        (None, actions)
    }

    /// Tells what the registry says of the tenant now. Older news than known are ignored. Idle connections for another
    /// target or epoch are closed at once, busy ones when they come back.
    pub(super) fn learn(
        &mut self,
        tenant: TenantId,
        generation: i64,
        version: Option<u64>,
        ceiling: usize,
        now: Instant,
    ) -> Vec<Action<C, W>> {
        let pool = self.pools.entry(tenant).or_insert_with(|| Pool::new(ceiling));
        if pool.generation >= generation {
            return Vec::new();
        }
        pool.generation = generation;
        pool.ceiling = ceiling.max(1);
        let mut actions = Vec::new();
        if pool.version != version {
            pool.version = version;
            while let Some(conn) = self.pop_newest_idle(tenant) {
                self.give_up(tenant, conn, &mut actions);
            }
        }
        self.dispatch(now, &mut actions);
        actions
    }

    /// Forgets the tenant's pool if there is nothing in it.
    pub(super) fn forget_if_empty(&mut self, tenant: TenantId) {
        if self.pools.get(&tenant).is_some_and(|p| p.held == 0 && p.waiters.is_empty())
            && self.pools.remove(&tenant).is_some_and(|p| p.in_turn)
        {
            self.turns.retain(|t| *t != tenant);
        }
    }

    /// The tenant is not to be served any more: closes what is idle, and gives its waiters back to be told.
    pub(super) fn retire(&mut self, tenant: TenantId, generation: i64, now: Instant) -> (Vec<W>, Vec<Action<C, W>>) {
        if !self.knows(tenant) {
            return (Vec::new(), Vec::new());
        }
        let mut actions = self.learn(tenant, generation, None, 1, now);
        let retired = self.is_retired(tenant);
        let waiters = self.change(tenant, |pool| if retired { pool.waiters.drain(..).collect() } else { Vec::new() });
        self.dispatch(now, &mut actions);
        self.forget_if_empty(tenant);
        (waiters, actions)
    }

    /// Whether the newest news of the tenant were that it is not to be served.
    pub(super) fn is_retired(&self, tenant: TenantId) -> bool {
        self.pools.get(&tenant).is_some_and(|p| p.generation > i64::MIN && p.version.is_none())
    }

    /// Queues a waiter.
    pub(super) fn wait(&mut self, tenant: TenantId, waiter: W, now: Instant) -> Result<Vec<Action<C, W>>, QueueFull> {
        let max_waiters = self.max_waiters;
        self.change(tenant, |pool| {
            if pool.waiters.len() >= max_waiters {
                pool.waiters.retain(|w| !w.is_gone());
            }
            if pool.waiters.len() >= max_waiters {
                return Err(QueueFull);
            }
            pool.waiters.push_back(waiter);
            Ok(())
        })?;
        self.take_turn(tenant);
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        Ok(actions)
    }

    /// A connection comes back, or is there for the first time (`opened`).
    pub(super) fn checkin(&mut self, tenant: TenantId, conn: C, opened: bool, now: Instant) -> Vec<Action<C, W>> {
        let mut actions = Vec::new();
        if opened {
            self.opening -= 1;
            self.change(tenant, |pool| {
                pool.opening -= 1;
                pool.blocked = false;
            });
        }
        if !self.still_good(tenant, &conn) || self.must_share(tenant) || self.is_over() {
            self.change(tenant, |pool| pool.streak = 0);
            self.give_up(tenant, conn, &mut actions);
        } else if let Some(waiter) = self.next_waiter(tenant) {
            actions.push(Action::Give(tenant, conn, waiter));
        } else {
            self.tick += 1;
            let tick = self.tick;
            self.idle.insert(tick, tenant);
            self.change(tenant, |pool| {
                pool.streak = 0;
                pool.idle.push_back(Idle { conn, tick, since: now });
            });
        }
        self.dispatch(now, &mut actions);
        self.forget_if_empty(tenant);
        actions
    }

    /// An opening failed. If nothing else serves the tenant, its waiters are given back to be told why.
    pub(super) fn open_failed(&mut self, tenant: TenantId, now: Instant) -> (Vec<W>, Vec<Action<C, W>>) {
        self.opening -= 1;
        let waiters = self.change(tenant, |pool| {
            pool.opening -= 1;
            pool.held -= 1;
            pool.blocked = true;
            if pool.held == 0 { pool.waiters.drain(..).collect() } else { Vec::new() }
        });
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        self.forget_if_empty(tenant);
        (waiters, actions)
    }

    /// A permit is back: its socket is closed, and the server has let go of it.
    pub(super) fn release(&mut self, ticket: &Ticket, now: Instant) -> Vec<Action<C, W>> {
        if ticket.0.swap(RELEASED, Ordering::Relaxed) == CLOSING {
            self.closing -= 1;
        }
        self.open -= 1;
        let mut actions = Vec::new();
        self.dispatch(now, &mut actions);
        actions
    }

    /// One more connection for a tenant that nobody waits for: the router's own probe.
    pub(super) fn open_unasked(&mut self, tenant: TenantId) -> Option<Action<C, W>> {
        if self.open >= self.capacity {
            return None;
        }
        Some(self.start_opening(tenant))
    }

    /// Closes connections idle since before `since`.
    pub(super) fn close_idle(&mut self, since: Instant) -> Vec<Action<C, W>> {
        let mut actions = Vec::new();
        while let Some((_, &tenant)) = self.idle.first_key_value() {
            let old = self.pools.get(&tenant).and_then(|p| p.idle.front()).is_some_and(|idle| idle.since <= since);
            if !old {
                break;
            }
            if let Some(conn) = self.pop_oldest_idle(tenant) {
                self.give_up(tenant, conn, &mut actions);
                self.forget_if_empty(tenant);
            }
        }
        actions
    }

    /// Whether anything serves, or is about to serve, the tenant.
    pub(super) fn is_served(&self, tenant: TenantId) -> bool {
        self.pools.get(&tenant).is_some_and(|p| p.held > 0)
    }

    /// Whether the tenant has a pool at all.
    pub(super) fn knows(&self, tenant: TenantId) -> bool {
        self.pools.contains_key(&tenant)
    }

    /// Tenants with a pool.
    pub(super) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.pools.keys().copied()
    }

    /// Sets how many permits there are; 0 for now none. Idle connections above that are given up.
    pub(super) fn set_capacity(&mut self, capacity: usize, now: Instant) -> Vec<Action<C, W>> {
        self.capacity = capacity;
        let mut actions = Vec::new();
        while self.is_over() {
            let Some((_, &tenant)) = self.idle.first_key_value() else { break };
            let Some(conn) = self.pop_oldest_idle(tenant) else { break };
            self.give_up(tenant, conn, &mut actions);
            self.forget_if_empty(tenant);
        }
        self.dispatch(now, &mut actions);
        actions
    }

    /// Whether no permit is free.
    pub(super) fn is_full(&self) -> bool {
        self.open >= self.capacity
    }

    /// Whether more permits are out than there are, those that are on their way back aside.
    fn is_over(&self) -> bool {
        self.open - self.closing > self.capacity
    }

    pub(super) fn is_unused(&self) -> bool {
        self.open == 0 && self.pools.is_empty()
    }

    pub(super) fn counts(&self) -> ClusterCounts {
        ClusterCounts {
            capacity: self.capacity,
            open: self.open,
            closing: self.closing,
            opening: self.opening,
            idle: self.idle.len(),
            waiting_tenants: self.waiting,
        }
    }

    pub(super) fn pool_counts(&self, tenant: TenantId) -> Option<PoolCounts> {
        self.pools.get(&tenant).map(|pool| PoolCounts {
            idle: pool.idle.len(),
            busy: pool.held - pool.opening - pool.idle.len(),
            opening: pool.opening,
            waiting: pool.waiters.len(),
            ceiling: pool.ceiling,
        })
    }

    fn still_good(&self, tenant: TenantId, conn: &C) -> bool {
        conn.is_reusable() && self.pools.get(&tenant).is_some_and(|p| p.version == Some(conn.version()))
    }

    /// Rule 2: whether a returned connection must make room for a tenant that has none.
    fn must_share(&self, tenant: TenantId) -> bool {
        self.open >= self.capacity
            && self.closing < self.starving
            && self.pools.get(&tenant).is_some_and(|p| p.held > 1 || p.streak >= QUANTUM)
    }

    fn next_waiter(&mut self, tenant: TenantId) -> Option<W> {
        self.change(tenant, |pool| {
            while let Some(waiter) = pool.waiters.pop_front() {
                if !waiter.is_gone() {
                    pool.streak += 1;
                    return Some(waiter);
                }
            }
            None
        })
    }

    /// Changes a pool, and keeps the counts of waiting and starving tenants true.
    fn change<R>(&mut self, tenant: TenantId, change: impl FnOnce(&mut Pool<C, W>) -> R) -> R {
        let pool = self.pools.entry(tenant).or_insert_with(|| Pool::new(1));
        let (starved, waited) = (usize::from(pool.is_starving()), usize::from(!pool.waiters.is_empty()));
        let result = change(pool);
        self.starving = self.starving + usize::from(pool.is_starving()) - starved;
        self.waiting = self.waiting + usize::from(!pool.waiters.is_empty()) - waited;
        result
    }

    fn take_turn(&mut self, tenant: TenantId) {
        if let Some(pool) = self.pools.get_mut(&tenant)
            && !pool.in_turn
        {
            pool.in_turn = true;
            self.turns.push_back(tenant);
        }
    }

    fn pop_newest_idle(&mut self, tenant: TenantId) -> Option<C> {
        let idle = self.pools.get_mut(&tenant)?.idle.pop_back()?;
        self.idle.remove(&idle.tick);
        Some(idle.conn)
    }

    fn pop_oldest_idle(&mut self, tenant: TenantId) -> Option<C> {
        let idle = self.pools.get_mut(&tenant)?.idle.pop_front()?;
        self.idle.remove(&idle.tick);
        Some(idle.conn)
    }

    /// The tenant holds this connection no longer; its permit is out until the socket is closed.
    fn give_up(&mut self, tenant: TenantId, conn: C, actions: &mut Vec<Action<C, W>>) {
        self.change(tenant, |pool| pool.held -= 1);
        let live = conn.ticket().0.compare_exchange(LIVE, CLOSING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        self.closing += usize::from(live);
        actions.push(Action::Close(conn));
    }

    fn start_opening(&mut self, tenant: TenantId) -> Action<C, W> {
        self.open += 1;
        self.opening += 1;
        self.change(tenant, |pool| {
            pool.opening += 1;
            pool.held += 1;
        });
        Action::Open(tenant, Ticket::default())
    }

    fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action<C, W>>) {
        self.open_in_turn(actions);
        self.make_room(now, actions);
    }

    /// Gives free permits to waiting tenants, one each in turn.
    fn open_in_turn(&mut self, actions: &mut Vec<Action<C, W>>) {
        let mut left = self.turns.len();
        while left > 0 && self.open < self.capacity && self.opening < self.max_openings {
            let Some(tenant) = self.turns.pop_front() else { break };
            left -= 1;
            let wants = self.change(tenant, |pool| {
                while pool.waiters.front().is_some_and(Waiter::is_gone) {
                    pool.waiters.pop_front();
                }
                pool.in_turn = !pool.waiters.is_empty();
                pool.wants()
            });
            if self.pools.get(&tenant).is_some_and(|p| p.in_turn) {
                self.turns.push_back(tenant);
            } else {
                self.forget_if_empty(tenant);
            }
            if wants > 0 {
                actions.push(self.start_opening(tenant));
                left = self.turns.len();
            }
        }
    }

    /// Rule 4: closes idle connections for waiting tenants, no more than they need.
    fn make_room(&mut self, now: Instant, actions: &mut Vec<Action<C, W>>) {
        if self.open < self.capacity || self.idle.is_empty() || self.waiting == 0 {
            return;
        }
        let wanted: usize = self.turns.iter().filter_map(|t| self.pools.get(t)).map(Pool::wants).sum();
        while self.closing < wanted {
            let Some((_, &victim)) = self.idle.first_key_value() else { break };
            let settled = self
                .pools
                .get(&victim)
                .and_then(|p| p.idle.front())
                .is_some_and(|idle| now.saturating_duration_since(idle.since) >= SETTLED);
            if self.closing >= self.starving && !settled {
                break;
            }
            let Some(conn) = self.pop_oldest_idle(victim) else { break };
            self.give_up(victim, conn, actions);
            self.forget_if_empty(victim);
        }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
