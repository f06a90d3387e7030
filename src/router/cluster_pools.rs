//! All pools of one PostgreSQL server: one budget, and what is done with it.
//!
//! [`ClusterPools`] asks its [`Scheduler`] under one short lock and does what it says outside of it. A [`Lease`] is a
//! borrowed connection; dropping it gives the connection back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::breaker::Breaker;
use super::budget::Permit;
use super::connect::{ConnectError, ConnectFailure, Link, open};
use super::error::{Error, Result};
use super::pools::{PoolSettings, PoolSnapshot};
use super::scheduler::{Action, ClusterCounts, Pooled, Scheduler, Ticket, Waiter};
use super::slices::Demand;
use super::stamp::{self, Stamp};
use super::tenant::{ClusterRef, Tenant};
use crate::kernel::{InstallationId, TenantId};

/// Openings of one server under way at once. More would only make each slower: starting a backend is processor work.
const MAX_OPENINGS: usize = 4;
/// Requests of one tenant that may wait at once.
const MAX_WAITERS: usize = 1024;
/// A probe that nobody asks for is not repeated more often than this many times.
const IDLE_PROBES: u32 = 1;

/// A pooled connection.
struct Pooling {
    link: Link,
    ticket: Ticket,
    version: u64,
}

impl Pooled for Pooling {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
    fn is_reusable(&self) -> bool {
        !self.link.is_gone() && !self.link.in_doubt()
    }
    fn version(&self) -> u64 {
        self.version
    }
}

struct Waiting(oneshot::Sender<Result<Lease>>);

impl Waiter for Waiting {
    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A connection on loan to one request.
pub(crate) struct Lease {
    tenant: TenantId,
    cluster: Arc<ClusterPools>,
    pooling: Option<Pooling>,
}

impl Lease {
    pub(super) fn link(&self) -> &Link {
        &self.pooling.as_ref().expect("present until dropped").link
    }

    pub(super) fn link_mut(&mut self) -> &mut Link {
        &mut self.pooling.as_mut().expect("present until dropped").link
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pooling) = self.pooling.take() {
            self.cluster.give_back(self.tenant, pooling, false);
        }
    }
}

struct State {
    scheduler: Scheduler<Pooling, Waiting>,
    breakers: HashMap<TenantId, Breaker>,
    /// How to open a connection of a tenant with a pool or a breaker.
    entries: HashMap<TenantId, Arc<Tenant>>,
    demand: Arc<Demand>,
}

/// All pools of one server.
pub(crate) struct ClusterPools {
    name: String,
    settings: Arc<PoolSettings>,
    installation: InstallationId,
    runtime: Handle,
    opened: Arc<AtomicU64>,
    state: Mutex<State>,
}

impl ClusterPools {
    /// The pools of a server, none yet, and no capacity yet. `opened` counts physical connections begun.
    pub(super) fn new(
        cluster: &ClusterRef,
        settings: Arc<PoolSettings>,
        installation: InstallationId,
        runtime: Handle,
        opened: Arc<AtomicU64>,
        demand: Arc<Demand>,
    ) -> Self {
        let state = Mutex::new(State {
            scheduler: Scheduler::new(0, MAX_OPENINGS, MAX_WAITERS),
            breakers: HashMap::new(),
            entries: HashMap::new(),
            demand,
        });
        Self { name: cluster.name.clone(), settings, installation, runtime, opened, state }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn counts(&self) -> ClusterCounts {
        self.lock().scheduler.counts()
    }

    /// The most connections that may be open from now on: this node's slice of the budget. Idle ones above it are
    /// closed at once, busy ones when they come back.
    pub(super) fn set_capacity(self: &Arc<Self>, capacity: usize) {
        let actions = self.lock().scheduler.set_capacity(capacity, Instant::now());
        self.perform(actions);
    }

    /// Whether any connection, waiter or breaker of the tenant exists.
    pub(super) fn is_known(&self, tenant: TenantId) -> bool {
        self.lock().is_known(tenant)
    }

    /// Whether nothing is left here.
    pub(super) fn is_unused(&self) -> bool {
        let state = self.lock();
        state.scheduler.is_unused() && state.breakers.is_empty()
    }

    /// The tenant's pool. `None` while it has none.
    pub(super) fn snapshot(&self, tenant: TenantId) -> Option<PoolSnapshot> {
        let state = self.lock();
        state.is_known(tenant).then(|| PoolSnapshot {
            counts: state.scheduler.pool_counts(tenant).unwrap_or_default(),
            breaker: state.breakers.get(&tenant).map(|b| b.kind().as_str()),
        })
    }

    /// Retires every tenant.
    pub(super) fn close(self: &Arc<Self>) {
        let tenants: Vec<_> = self.lock().scheduler.tenants().collect();
        for tenant in tenants {
            self.retire(tenant, i64::MAX);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The lock is held for pure bookkeeping only; a panic there is a bug that must not stop the other tenants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn acquire(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<Lease> {
        let waiting = match self.try_acquire(tenant, Instant::now())? {
            Ok(lease) => return Ok(lease),
            Err(waiting) => waiting,
        };
        let began = Instant::now();
        let got = timeout(self.settings.acquire_timeout, waiting).await;
        metrics::histogram!("db.client.connection.wait_time", "cluster" => self.name.clone())
            .record(began.elapsed().as_secs_f64());
        match got {
            Ok(Ok(result)) => result,
            // The sender is dropped when the pools close.
            Ok(Err(_)) => Err(Error::TenantUnavailable { retry_after: Duration::from_secs(1) }),
            Err(_) => {
                metrics::counter!("db.client.connection.timeouts", "cluster" => self.name.clone()).increment(1);
                Err(Error::PoolExhausted { retry_after: Duration::from_secs(1) })
            }
        }
    }

    /// An idle connection at once, or a place in the queue.
    fn try_acquire(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        now: Instant,
    ) -> Result<std::result::Result<Lease, oneshot::Receiver<Result<Lease>>>> {
        let mut state = self.lock();
        let mut actions = state.learn(tenant, &self.settings, now);
        if state.scheduler.is_retired(tenant.id) {
            // Suspended or moved while this request was on its way.
            return Err(Error::TenantUnavailable { retry_after: Duration::from_secs(1) });
        }
        let (idle, more) = state.scheduler.checkout(tenant.id, now);
        actions.extend(more);
        let outcome = match idle {
            Some(pooling) => Ok(Ok(self.lend(tenant.id, pooling))),
            None => match state.refusal(tenant.id, now) {
                Some(error) => {
                    let probe = state.wants_probe(tenant.id);
                    state.tidy(tenant.id);
                    drop(state);
                    self.perform(actions);
                    if probe {
                        self.probe(tenant.id);
                    }
                    return Err(error);
                }
                None => {
                    let (sender, receiver) = oneshot::channel();
                    match state.scheduler.wait(tenant.id, Waiting(sender), now) {
                        Ok(more) => {
                            actions.extend(more);
                            if state.scheduler.is_full() {
                                state.demand.unmet();
                            }
                            Ok(Err(receiver))
                        }
                        Err(_) => Err(Error::PoolExhausted { retry_after: Duration::from_secs(1) }),
                    }
                }
            },
        };
        drop(state);
        self.perform(actions);
        outcome
    }

    fn lend(self: &Arc<Self>, tenant: TenantId, pooling: Pooling) -> Lease {
        Lease { tenant, cluster: self.clone(), pooling: Some(pooling) }
    }

    fn give_back(self: &Arc<Self>, tenant: TenantId, pooling: Pooling, opened: bool) {
        let mut state = self.lock();
        if opened && state.breakers.remove(&tenant).is_some() {
            tracing::info!(tenant = %tenant, "the tenant's database answers again");
        }
        let actions = state.scheduler.checkin(tenant, pooling, opened, Instant::now());
        state.tidy(tenant);
        drop(state);
        self.perform(actions);
    }

    pub(super) fn release(self: &Arc<Self>, ticket: &Ticket) {
        let actions = self.lock().scheduler.release(ticket, Instant::now());
        self.perform(actions);
    }

    /// Does what the scheduler said. Called without the lock.
    fn perform(self: &Arc<Self>, actions: Vec<Action<Pooling, Waiting>>) {
        for action in actions {
            match action {
                Action::Close(pooling) => drop(pooling),
                Action::Give(tenant, pooling, waiting) => {
                    // If the waiter has gone, the lease comes straight back and drops: it is checked in again.
                    let _ = waiting.0.send(Ok(self.lend(tenant, pooling)));
                }
                Action::Open(tenant, ticket) => {
                    self.opened.fetch_add(1, Ordering::Relaxed);
                    let permit = Permit::new(self.clone(), ticket.clone());
                    let entry = self.lock().entries.get(&tenant).cloned();
                    let cluster = self.clone();
                    self.runtime.spawn(async move {
                        let opened = match entry {
                            Some(entry) => {
                                cluster.open(&entry, permit).await.map(|link| (link, entry.connection_version()))
                            }
                            None => Err(ConnectError::new(ConnectFailure::Other, "the tenant is gone")),
                        };
                        match opened {
                            Ok((link, version)) => cluster.give_back(tenant, Pooling { link, ticket, version }, true),
                            Err(error) => cluster.open_failed(tenant, error),
                        }
                    });
                }
            }
        }
    }

    async fn open(&self, tenant: &Tenant, permit: Permit) -> std::result::Result<Link, ConnectError> {
        let began = Instant::now();
        let mut link = open(&Arc::new(tenant.target.clone()), &self.settings.connect, Some(permit)).await?;
        if self.settings.check_stamp {
            let expected = Stamp { tenant_id: tenant.id, installation_id: self.installation };
            link.begin();
            timeout(self.settings.connect.connect_timeout, stamp::check(&mut link.conn, expected))
                .await
                .map_err(|_| ConnectError::new(ConnectFailure::Unreachable, "no answer to the stamp check"))??;
            link.finish();
        }
        metrics::counter!("db.client.connection.created", "cluster" => self.name.clone()).increment(1);
        metrics::histogram!("db.client.connection.create_time", "cluster" => self.name.clone())
            .record(began.elapsed().as_secs_f64());
        Ok(link)
    }

    fn open_failed(self: &Arc<Self>, tenant: TenantId, error: ConnectError) {
        let now = Instant::now();
        let error = Arc::new(error);
        metrics::counter!("db.client.connection.failures", "cluster" => self.name.clone(), "kind" => error.kind.as_str())
            .increment(1);
        if error.kind == ConnectFailure::StampMismatch {
            // The alarm: a database answers for somebody else. Nothing was read from it but the stamp.
            tracing::error!(tenant = %tenant, cause = %error.source, "STAMP MISMATCH: connection refused");
            metrics::counter!("tenantry.stamp.failures", "cluster" => self.name.clone()).increment(1);
        } else {
            tracing::warn!(tenant = %tenant, kind = error.kind.as_str(), cause = %error.source, "cannot connect");
        }
        let mut state = self.lock();
        let breaker = Breaker::trip(state.breakers.get(&tenant), error.clone(), now);
        let retry_after = breaker.retry_after(now);
        state.breakers.insert(tenant, breaker);
        let (waiters, actions) = state.scheduler.open_failed(tenant, now);
        state.tidy(tenant);
        drop(state);
        self.perform(actions);
        for waiting in waiters {
            let _ = waiting.0.send(Err(Error::DatabaseUnavailable { retry_after, source: Some(error.clone()) }));
        }
        self.probe(tenant);
    }

    /// The router's own half-open probe: no request waits for it.
    fn probe(self: &Arc<Self>, tenant: TenantId) {
        {
            let mut state = self.lock();
            match state.breakers.get_mut(&tenant) {
                Some(breaker) if !breaker.probing => breaker.probing = true,
                _ => return,
            }
        }
        let cluster = self.clone();
        self.runtime.spawn(async move { cluster.probe_until_well(tenant).await });
    }

    async fn probe_until_well(self: Arc<Self>, tenant: TenantId) {
        let mut unasked = 0;
        loop {
            let Some(until) = self.lock().breakers.get(&tenant).map(Breaker::until) else { return };
            tokio::time::sleep_until(until.into()).await;
            let action = {
                let mut state = self.lock();
                let Some(breaker) = state.breakers.get_mut(&tenant) else { return };
                // Nothing periodic touches a database that nobody asks for.
                unasked = if breaker.wanted { 0 } else { unasked + 1 };
                breaker.wanted = false;
                if unasked > IDLE_PROBES {
                    breaker.probing = false;
                    state.tidy(tenant);
                    return;
                }
                let Some(entry) = state.entries.get(&tenant).cloned() else {
                    state.breakers.remove(&tenant);
                    return;
                };
                let learned = state.learn(&entry, &self.settings, Instant::now());
                debug_assert!(learned.is_empty() || state.scheduler.knows(tenant));
                state.scheduler.open_unasked(tenant)
            };
            let Some(action) = action else {
                // Every permit is out: one of them will be back soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            self.perform(vec![action]);
            // Either the breaker is gone, or its time has moved on.
            let deadline = Instant::now() + self.settings.connect.connect_timeout * 3;
            loop {
                let same = self.lock().breakers.get(&tenant).is_some_and(|b| b.until() == until);
                if !same || Instant::now() > deadline {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Takes in what the registry says now of a tenant that has a pool or a breaker.
    pub(super) fn update(self: &Arc<Self>, tenant: &Arc<Tenant>) {
        let mut state = self.lock();
        if !state.is_known(tenant.id) {
            return;
        }
        let changed =
            state.entries.get(&tenant.id).is_some_and(|old| old.connection_version() != tenant.connection_version());
        if changed {
            // Another target: what was learnt about the old one says nothing.
            state.breakers.remove(&tenant.id);
        }
        let actions = state.learn(tenant, &self.settings, Instant::now());
        state.tidy(tenant.id);
        drop(state);
        self.perform(actions);
    }

    /// Closes whatever a tenant holds here: idle connections now, busy ones when they come back.
    pub(super) fn retire(self: &Arc<Self>, tenant: TenantId, generation: i64) {
        let mut state = self.lock();
        if !state.is_known(tenant) {
            return;
        }
        state.breakers.remove(&tenant);
        let (waiters, actions) = state.scheduler.retire(tenant, generation, Instant::now());
        state.tidy(tenant);
        drop(state);
        self.perform(actions);
        for waiting in waiters {
            let _ = waiting.0.send(Err(Error::TenantUnavailable { retry_after: Duration::from_secs(1) }));
        }
    }

    pub(super) fn sweep(self: &Arc<Self>) {
        let Some(since) = Instant::now().checked_sub(self.settings.idle_timeout) else { return };
        let mut state = self.lock();
        let actions = state.scheduler.close_idle(since);
        let counts = state.scheduler.counts();
        let gone: Vec<_> = state.entries.keys().copied().filter(|t| !state.is_known(*t)).collect();
        for tenant in gone {
            state.entries.remove(&tenant);
        }
        let breakers = state.breakers.len();
        drop(state);
        self.perform(actions);
        // A failed opening gives its permit back a moment before it is counted out.
        let busy = counts.open.saturating_sub(counts.idle + counts.opening + counts.closing);
        for (word, value) in
            [("idle", counts.idle), ("used", busy), ("opening", counts.opening), ("closing", counts.closing)]
        {
            metrics::gauge!("db.client.connection.count", "cluster" => self.name.clone(), "state" => word)
                .set(value as f64);
        }
        metrics::gauge!("db.client.connection.max", "cluster" => self.name.clone()).set(counts.capacity as f64);
        metrics::gauge!("tenantry.breakers.open", "cluster" => self.name.clone()).set(breakers as f64);
    }
}

impl State {
    fn learn(&mut self, tenant: &Arc<Tenant>, settings: &PoolSettings, now: Instant) -> Vec<Action<Pooling, Waiting>> {
        let newer = self.entries.get(&tenant.id).is_none_or(|old| old.generation < tenant.generation);
        if newer {
            self.entries.insert(tenant.id, tenant.clone());
            self.demand.learn(tenant.cluster.connection_budget.unwrap_or(settings.cluster_budget));
        }
        if !newer && self.scheduler.knows(tenant.id) {
            return Vec::new();
        }
        let entry = self.entries.get(&tenant.id).unwrap_or(tenant);
        let ceiling = entry.max_connections.unwrap_or(settings.tenant_max_connections) as usize;
        self.scheduler.learn(entry.id, entry.generation, Some(entry.connection_version()), ceiling, now)
    }

    /// The breaker's answer to somebody who would have to wait for an opening.
    fn refusal(&mut self, tenant: TenantId, now: Instant) -> Option<Error> {
        let served = self.scheduler.is_served(tenant);
        let breaker = self.breakers.get_mut(&tenant)?;
        breaker.wanted = true;
        (!served).then(|| Error::DatabaseUnavailable {
            retry_after: breaker.retry_after(now),
            source: Some(breaker.cause().clone()),
        })
    }

    fn wants_probe(&self, tenant: TenantId) -> bool {
        self.breakers.get(&tenant).is_some_and(|b| !b.probing)
    }

    fn is_known(&self, tenant: TenantId) -> bool {
        self.scheduler.knows(tenant) || self.breakers.contains_key(&tenant)
    }

    /// Forgets what is not needed any more: a cold tenant costs nothing here.
    fn tidy(&mut self, tenant: TenantId) {
        self.scheduler.forget_if_empty(tenant);
        if !self.is_known(tenant) {
            self.entries.remove(&tenant);
        }
    }
}
