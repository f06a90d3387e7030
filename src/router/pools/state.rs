//! What is known of one PostgreSQL server and its tenants, behind the lock of its pools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PoolSettings;
use super::breaker::Breaker;
use super::doubt::Doubt;
use super::late::{LateOpenings, Way};
use super::lease::Waiting;
use super::permit::Ticket;
use super::scheduler::{Action, News, Scheduler};
use crate::kernel::TenantId;
use crate::router::connect::{ConnectError, Link};
use crate::router::error::Error;
use crate::router::slices::Demand;
use crate::router::tenant::Tenant;

/// What the scheduler wants done.
pub(super) type Actions = Vec<Action<Link, Waiting>>;

/// To be asked and changed for pure bookkeeping only.
pub(super) struct State {
    pub(super) scheduler: Scheduler<Link, Waiting>,
    pub(super) breakers: HashMap<TenantId, Breaker>,
    /// Tenants of which an opening failed and is tried once more before anybody is told, and when it failed.
    pub(super) tried_again: HashMap<TenantId, Instant>,
    /// Tenants whose password was refused, and may be right in a moment.
    pub(super) doubts: HashMap<TenantId, Doubt>,
    /// Openings that were given up, and may still become connections.
    pub(super) late: LateOpenings,
    /// The server has no room for us.
    pub(super) full: Option<Breaker>,
    /// How to open a connection of a tenant with a pool or a breaker.
    pub(super) entries: HashMap<TenantId, Arc<Tenant>>,
    /// Where unmet demand is told.
    pub(super) demand: Arc<Demand>,
    /// Nothing begins here any more: whoever comes looks for the server's pools again.
    pub(super) ended: bool,
    /// The manager is gone: nothing is opened any more.
    pub(super) closed: bool,
}

impl State {
    /// Nothing known yet, and no capacity.
    pub(super) fn new(scheduler: Scheduler<Link, Waiting>, demand: Arc<Demand>) -> Self {
        Self {
            scheduler,
            breakers: HashMap::new(),
            tried_again: HashMap::new(),
            doubts: HashMap::new(),
            late: LateOpenings::default(),
            full: None,
            entries: HashMap::new(),
            demand,
            ended: false,
            closed: false,
        }
    }

    pub(super) fn learn(&mut self, tenant: &Arc<Tenant>, settings: &PoolSettings, now: Instant) -> Actions {
        let newer = self.entries.get(&tenant.id).is_none_or(|old| old.generation < tenant.generation);
        if newer {
            let old = self.entries.insert(tenant.id, tenant.clone());
            if old.is_some_and(|old| old.connection_version() != tenant.connection_version()) {
                // Another target: what was learnt about the old one says nothing.
                self.breakers.remove(&tenant.id);
                self.doubts.remove(&tenant.id);
            }
            self.late.learn(tenant.id, &Way::of(tenant));
            self.demand.learn(tenant.cluster.connection_budget.unwrap_or(settings.cluster_budget));
        }
        if !newer && self.scheduler.knows(tenant.id) {
            return Vec::new();
        }
        let entry = self.entries.get(&tenant.id).unwrap_or(tenant);
        let news = News {
            generation: entry.generation,
            version: Some(entry.connection_version()),
            ceiling: entry.max_connections.unwrap_or(settings.tenant_max_connections) as usize,
            weight: entry.weight,
        };
        self.scheduler.learn(entry.id, news, now)
    }

    /// An opening was given up that the server has not answered; by now the tenant's database may be reached another way.
    pub(super) fn hangs(&mut self, tenant: &Tenant, ticket: &Ticket) {
        self.late.note(ticket, Way::of(tenant));
        if let Some(now) = self.entries.get(&tenant.id) {
            self.late.learn(now.id, &Way::of(now));
        }
    }

    /// What somebody is told who would have to wait for an opening that is not going to succeed.
    pub(super) fn refusal(&mut self, tenant: TenantId, now: Instant) -> Option<Error> {
        let served = self.scheduler.serves(tenant, now);
        let breaker = match self.breakers.get_mut(&tenant) {
            Some(breaker) => breaker,
            None => self.full.as_mut().filter(|_| self.scheduler.has_no_room())?,
        };
        breaker.wanted = true;
        (!served).then(|| unavailable(breaker.retry_after(now), breaker.cause().clone()))
    }

    /// Whether the registry says something else by now of where the tenant's database is, and how to get in.
    pub(super) fn is_outdated(&self, tenant: &Tenant) -> bool {
        self.entries.get(&tenant.id).is_some_and(|entry| entry.connection_version() != tenant.connection_version())
    }

    pub(super) fn wants_probe(&self, tenant: TenantId) -> bool {
        self.breakers.get(&tenant).is_some_and(|b| !b.probing)
    }

    pub(super) fn is_known(&self, tenant: TenantId) -> bool {
        self.scheduler.knows(tenant) || self.breakers.contains_key(&tenant)
    }

    /// Forgets what is not needed any more: a cold tenant costs nothing here.
    pub(super) fn tidy(&mut self, tenant: TenantId) {
        self.scheduler.forget_if_empty(tenant);
        if !self.is_known(tenant) {
            self.tried_again.remove(&tenant);
            self.doubts.remove(&tenant);
            self.entries.remove(&tenant);
        }
    }
}

pub(super) fn unavailable(retry_after: Duration, cause: Arc<ConnectError>) -> Error {
    Error::DatabaseUnavailable { retry_after, source: Some(cause) }
}
