//! All pools of one PostgreSQL server: one budget, and what is done with it.
//!
//! A warm request joins a connection of its tenant and leaves it, and meets no other request on the way. All else goes
//! through the [`Scheduler`], which is asked under one short lock; what it says is done outside of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::PoolSettings;
use super::lease::{Lease, Waiting};
use super::leases::Left;
use super::meters::Meters;
use super::permit::Ticket;
use super::pooled::{Directory, Mode, Pooled, TenantPool};
use super::scheduler::{Action, ClusterCounts, QueueFull, Recovery, Scheduler};
use super::state::{Actions, State};
use super::usage::Usage;
use crate::kernel::{InstallationId, TenantId};
use crate::router::connect::Link;
use crate::router::error::{Error, Result};
use crate::router::slices::Demand;
use crate::router::tenant::{ClusterRef, Tenant};

/// Requests of one tenant that may wait at once.
const MAX_WAITERS: usize = 1024;
/// How long an abandoned connection may take to be in order again.
const RECOVER_WITHIN: Duration = Duration::from_secs(5);
/// What somebody is told who comes while a tenant is being moved or suspended, or this node ends.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Reads the registry's entry of a tenant anew: `None` if there is nothing newer, or it cannot be read.
pub(in crate::router) type Reload = Arc<dyn Fn(Arc<Tenant>) -> BoxFuture<'static, Option<Arc<Tenant>>> + Send + Sync>;

/// What all servers of a node share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: Arc<PoolSettings>,
    pub(super) installation: InstallationId,
    pub(super) runtime: Handle,
    /// Physical connections begun.
    pub(super) opened: Arc<AtomicU64>,
    pub(super) reload: Option<Reload>,
}

/// All pools of one server.
pub(crate) struct ClusterPools {
    pub(super) name: String,
    pub(super) shared: Shared,
    pub(super) meters: Meters,
    directory: Arc<Directory<Link>>,
    hungry: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// A place in the queue.
struct Queued {
    usage: Arc<Usage>,
    /// The tenant had no connection at all, and this is the first who asks for one.
    cold: bool,
    waiting: oneshot::Receiver<Result<Lease>>,
}

impl ClusterPools {
    /// The pools of a server, none yet, and no capacity yet.
    pub(super) fn new(cluster: &ClusterRef, shared: Shared, demand: Arc<Demand>) -> Self {
        let directory = Arc::new(Directory::new());
        let scheduler = Scheduler::new(0, MAX_WAITERS, directory.clone());
        let hungry = scheduler.hungry.clone();
        Self {
            name: cluster.name.clone(),
            shared,
            meters: Meters::new(&cluster.name),
            directory,
            hungry,
            state: Mutex::new(State::new(scheduler, demand)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::router) fn counts(&self) -> ClusterCounts {
        self.lock().scheduler.counts()
    }

    /// The most connections that may be open from now on: this node's slice of the budget. Idle ones above it are closed
    /// at once, busy ones when they are left.
    pub(in crate::router) fn set_capacity(self: &Arc<Self>, capacity: usize) {
        self.ask(|state, now| {
            let capacity = if state.closed { 0 } else { capacity };
            ((), state.scheduler.set_capacity(capacity, now))
        });
    }

    /// Whether any connection, waiter or breaker of the tenant exists.
    pub(super) fn is_known(&self, tenant: TenantId) -> bool {
        self.lock().is_known(tenant)
    }

    /// Those of whom any exists.
    pub(super) fn known(&self) -> Vec<TenantId> {
        let state = self.lock();
        state.entries.keys().copied().filter(|tenant| state.is_known(*tenant)).collect()
    }

    /// Ends these pools if nothing is left here.
    pub(super) fn end_if_unused(&self) -> bool {
        let mut state = self.lock();
        state.ended = state.scheduler.is_unused() && state.breakers.is_empty() && state.full.is_none();
        state.ended
    }

    /// Retires every tenant, for good.
    pub(super) fn close(self: &Arc<Self>) {
        let tenants: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.breakers.clear();
            state.doubts.clear();
            state.full = None;
            state.scheduler.tenants().collect()
        };
        self.set_capacity(0);
        for tenant in tenants {
            self.retire(tenant, i64::MAX);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The lock is held for pure bookkeeping only; a panic there is a bug that must not stop the other tenants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the scheduler, and does what it says.
    pub(super) fn ask<R>(self: &Arc<Self>, what: impl FnOnce(&mut State, Instant) -> (R, Actions)) -> R {
        let (answer, actions, (steals, evictions)) = {
            let mut state = self.lock();
            let (answer, actions) = what(&mut state, Instant::now());
            (answer, actions, state.scheduler.taken())
        };
        self.meters.steals.increment(steals);
        self.meters.evictions.increment(evictions);
        self.perform(actions);
        answer
    }

    /// A connection of the tenant: at once if it is warm, else as soon as there is one, within the deadline. `None` if
    /// these pools have ended.
    pub(super) async fn acquire(self: &Arc<Self>, tenant: &Arc<Tenant>, mode: Mode) -> Result<Option<Lease>> {
        let now = Instant::now();
        let pool = self.directory.get(tenant.id).filter(|p| p.generation.load(Ordering::Acquire) >= tenant.generation);
        if let Some(pool) = &pool {
            pool.usage.asked();
            if let Some(conn) = pool.join(mode, now) {
                if mode == Mode::Shared && pool.is_crowded(&conn, now) {
                    self.ask(|state, now| ((), state.scheduler.crowded(pool.id, now)));
                }
                self.meters.wait_time.record(0.0);
                return Ok(Some(Lease::new(self.clone(), pool.clone(), conn, mode, now)));
            }
        }
        let Some(Queued { usage, cold, waiting }) = self.queue(tenant, mode, pool.is_none())? else { return Ok(None) };
        let got = timeout(self.shared.settings.acquire_timeout, waiting).await;
        let wait = now.elapsed();
        usage.waited(wait, now + wait);
        self.meters.wait_time.record(wait);
        if cold {
            usage.cold_start();
            self.meters.cold_start.record(wait);
        }
        match got {
            Ok(Ok(result)) => result.map(Some),
            // The sender is dropped when the pools close.
            Ok(Err(_)) => Err(Error::TenantUnavailable { retry_after: SOON }),
            Err(_) => {
                self.meters.timeouts.increment(1);
                let (all, own, room) = {
                    let state = self.lock();
                    (state.scheduler.counts(), state.scheduler.pool_counts(tenant.id), state.scheduler.has_no_room())
                };
                let (id, cluster) = (tenant.id, &self.name);
                tracing::debug!(tenant = %id, cluster, ?all, ?own, server_full = room, "no connection became free in time");
                Err(Error::PoolExhausted { retry_after: SOON })
            }
        }
    }

    fn queue(self: &Arc<Self>, tenant: &Arc<Tenant>, mode: Mode, uncounted: bool) -> Result<Option<Queued>> {
        self.ask(|state, now| {
            if state.closed {
                return (Err(Error::TenantUnavailable { retry_after: SOON }), Vec::new());
            }
            if state.ended {
                return (Ok(None), Vec::new());
            }
            let mut actions = state.learn(tenant, &self.shared.settings, now);
            let usage = state.scheduler.usage(tenant.id).cloned().unwrap_or_else(|| Arc::new(Usage::new(now)));
            if uncounted {
                usage.asked();
            }
            let counts = state.scheduler.pool_counts(tenant.id).unwrap_or_default();
            let cold = counts.connections() == 0 && counts.waiting == 0;
            if state.scheduler.is_retired(tenant.id) {
                // Suspended or moved while this request was on its way.
                return (Err(Error::TenantUnavailable { retry_after: SOON }), actions);
            }
            if let Some(refusal) = state.refusal(tenant.id, now) {
                let probe = state.wants_probe(tenant.id);
                state.tidy(tenant.id);
                if probe {
                    self.probe(state, tenant.id);
                }
                return (Err(refusal), actions);
            }
            let (answer, waiting) = oneshot::channel();
            match state.scheduler.wait(tenant.id, Waiting { mode, answer }, now) {
                Ok(more) => {
                    actions.extend(more);
                    if state.scheduler.is_full() {
                        state.demand.unmet();
                    }
                    (Ok(Some(Queued { usage, cold, waiting })), actions)
                }
                Err(QueueFull) => {
                    self.meters.refused.increment(1);
                    (Err(Error::PoolExhausted { retry_after: SOON }), actions)
                }
            }
        })
    }

    /// A request leaves its connection. If it was in the middle of something, the connection is in doubt: nobody else
    /// comes to it before it is in order again.
    pub(super) fn leave(
        self: &Arc<Self>,
        pool: &Arc<TenantPool<Link>>,
        conn: &Arc<Pooled<Link>>,
        mode: Mode,
        since: Instant,
        finished: bool,
    ) {
        let now = Instant::now();
        let used = now.saturating_duration_since(since);
        pool.usage.worked(used);
        self.meters.use_time.record(used);
        if !finished && !conn.line.is_gone() {
            pool.usage.cancelled();
            self.meters.cancelled.increment(1);
            self.ask(|state, now| ((), state.scheduler.abandoned(pool.id, conn, now)));
            conn.line.cancel(&self.shared.runtime);
        }
        let left = conn.leave(mode, now);
        let tell = left == Left::Drained
            || pool.waiting.load(Ordering::SeqCst)
            || self.hungry.load(Ordering::SeqCst)
            || conn.line.is_gone();
        if tell {
            self.ask(|state, now| {
                let actions = state.scheduler.freed(pool.id, conn, now);
                state.tidy(pool.id);
                ((), actions)
            });
        }
    }

    pub(super) fn all_unfit(self: &Arc<Self>, tenant: TenantId, before: Instant) {
        self.ask(|state, now| ((), state.scheduler.all_unfit(tenant, before, now)));
    }

    pub(super) fn release(self: &Arc<Self>, ticket: &Ticket) {
        self.ask(|state, now| {
            let actions = state.scheduler.release(ticket, now);
            state.late.ended(ticket);
            state.tidy(ticket.tenant);
            ((), actions)
        });
    }

    /// Does what the scheduler said. Called without the lock.
    pub(super) fn perform(self: &Arc<Self>, actions: Actions) {
        for action in actions {
            match action {
                Action::Open(ticket) => self.open(ticket),
                Action::Close(conn) => drop(conn),
                Action::Give(pool, conn, waiting) => {
                    let lease = Lease::new(self.clone(), pool, conn, waiting.mode, Instant::now());
                    // Dropped by a waiter who has gone, or goes before they look: nothing was sent on it.
                    let _ = waiting.answer.send(Ok(lease));
                }
                Action::Cancel(conn) => {
                    self.meters.cancelled.increment(1);
                    conn.line.cancel(&self.shared.runtime);
                }
                Action::Recover(recovery) => self.recover(recovery),
            }
        }
    }

    /// Cancels what an abandoned connection still does and rolls back what it left open.
    fn recover(self: &Arc<Self>, recovery: Recovery<Link>) {
        let cluster = self.clone();
        self.shared.runtime.spawn(async move {
            let conn = recovery.conn();
            let well = timeout(RECOVER_WITHIN, conn.line.recover(&cluster.shared.runtime)).await.unwrap_or(false);
            let tenant = conn.ticket.tenant;
            cluster.meters.dropped.increment(u64::from(!well));
            cluster.ask(|state, now| {
                if !well && let Some(usage) = state.scheduler.usage(tenant) {
                    usage.dropped();
                }
                let actions = state.scheduler.recovered(tenant, recovery, well, now);
                state.tidy(tenant);
                ((), actions)
            });
        });
    }

    /// Takes in what the registry says now of a tenant that has a pool or a breaker.
    pub(super) fn update(self: &Arc<Self>, tenant: &Arc<Tenant>) {
        self.ask(|state, now| {
            if !state.is_known(tenant.id) {
                return ((), Vec::new());
            }
            let actions = state.learn(tenant, &self.shared.settings, now);
            state.tidy(tenant.id);
            ((), actions)
        });
    }

    /// Lets go of a tenant: nothing is served any more, idle connections are closed now, busy ones when they are left
    /// or have had their time.
    pub(super) fn retire(self: &Arc<Self>, tenant: TenantId, generation: i64) {
        let waiters = self.ask(|state, now| {
            if !state.is_known(tenant) {
                return (Vec::new(), Vec::new());
            }
            state.breakers.remove(&tenant);
            let told = state.scheduler.retire(tenant, generation, now);
            state.tidy(tenant);
            told
        });
        for waiting in waiters {
            let _ = waiting.answer.send(Err(Error::TenantUnavailable { retry_after: SOON }));
        }
    }

    /// What time brings. Called about once a second.
    pub(super) fn sweep(self: &Arc<Self>) {
        let settings = &self.shared.settings;
        self.ask(|state, now| {
            let actions = state.scheduler.tick(settings.idle_timeout, settings.drain_timeout, 0, now);
            let gone: Vec<_> = state.entries.keys().copied().filter(|t| !state.is_known(*t)).collect();
            for tenant in gone {
                state.entries.remove(&tenant);
            }
            ((), actions)
        });
    }

    /// Looks whether the others feel what some have more than one connection for. Called every few
    /// milliseconds.
    pub(super) fn watch(self: &Arc<Self>) {
        self.ask(|state, now| ((), state.scheduler.watch(now)));
    }
}
