//! One lazy pool per tenant, one budget per server: finds the server, and looks at all of them together.
//!
//! From the request's side: `pooled.rs` (join a connection, leave it) → `cluster.rs` (wait for one) → `scheduler/turns.rs`
//! (who is next) → `scheduler/room.rs` (who makes room) → `opening.rs` (how one comes to be).

mod breaker;
mod cluster;
mod doubt;
mod late;
mod lease;
mod leases;
pub(in crate::router) mod meters;
#[cfg(test)]
pub(in crate::router) mod model;
mod opening;
mod permit;
mod pooled;
pub mod report;
mod scheduler;
mod state;
pub mod usage;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::connect::ConnectOptions;
use super::error::{Error, Result};
use super::registry::Registry;
use super::slices::{Keeper, NodeId};
use super::tenant::{Tenant, TenantStatus};
use crate::kernel::{ClusterId, InstallationId, TenantId};
pub(in crate::router) use cluster::ClusterPools;
use cluster::{Reload, SOON, Shared};
pub(in crate::router) use lease::Lease;
use meters::{Board, Looks};
pub(in crate::router) use permit::Permit;
pub(in crate::router) use pooled::Mode;
use report::{ClusterReport, PoolsReport, TopBy};
use scheduler::LOOK_EVERY;
pub use scheduler::{ClusterCounts, PoolCounts};

/// How often connections past their time are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Settings of the pools.
#[derive(Debug, Clone)]
pub(in crate::router) struct PoolSettings {
    /// This node, among those that share the budgets.
    pub(in crate::router) node: NodeId,
    /// How long this node's slices are kept for it when it is not heard of.
    pub(in crate::router) slice_ttl: Duration,
    /// Connections to one server, where the server says nothing.
    pub(in crate::router) cluster_budget: u32,
    /// Connections of one tenant, where the tenant says nothing.
    pub(in crate::router) tenant_max_connections: u32,
    /// How long a request waits for a connection.
    pub(in crate::router) acquire_timeout: Duration,
    /// How long an unused connection is kept.
    pub(in crate::router) idle_timeout: Duration,
    /// How long a connection that must not be used any more may still be in use before what runs on it is cancelled.
    pub(in crate::router) drain_timeout: Duration,
    /// What a new connection is told.
    pub(in crate::router) connect: ConnectOptions,
    /// Whether the database's stamp is checked. Only a test of that very check turns it off.
    pub(in crate::router) check_stamp: bool,
}

/// What a tenant's pool looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct PoolSnapshot {
    /// Counts.
    #[cfg_attr(feature = "server", serde(flatten))]
    pub counts: PoolCounts,
    /// Why connections are refused at the moment, as a word.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub breaker: Option<&'static str>,
}

/// The pools of all tenants.
pub struct TenantPoolManager {
    shared: Shared,
    /// Read by every request, changed when a server comes or goes.
    clusters: ArcSwap<HashMap<ClusterId, Arc<ClusterPools>>>,
    /// Held while a server's pools are made.
    making: Mutex<()>,
    /// None are made any more: nobody would close them. Set while none is being made.
    closed: AtomicBool,
    keeper: Arc<Keeper>,
}

impl fmt::Debug for TenantPoolManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantPoolManager")
    }
}

/// An idle connection holds on to its pools by its permit, and they to it: so it does not go by itself.
impl Drop for TenantPoolManager {
    fn drop(&mut self) {
        self.end();
    }
}

impl TenantPoolManager {
    /// A manager without any pool. Must be called within a Tokio runtime, which then drives the connections. The
    /// registry says what this node may use of each server's budget.
    #[must_use]
    pub(in crate::router) fn new(
        settings: PoolSettings,
        installation: InstallationId,
        registry: Arc<dyn Registry>,
    ) -> Self {
        let (node, ttl, connect) = (settings.node, settings.slice_ttl, settings.connect.clone());
        let keeper = Arc::new(Keeper::new(registry, node, ttl, settings.cluster_budget, connect));
        let shared = Shared {
            settings: Arc::new(settings),
            installation,
            runtime: Handle::current(),
            opened: Arc::default(),
            reload: None,
        };
        Self { shared, clusters: ArcSwap::default(), making: Mutex::default(), closed: false.into(), keeper }
    }

    /// How an entry of the registry is read anew when a server refuses what it says.
    pub(super) fn reload_by(mut self, reload: Reload) -> Self {
        self.shared.reload = Some(reload);
        self
    }

    pub(super) async fn acquire(&self, tenant: &Arc<Tenant>, mode: Mode) -> Result<Lease> {
        loop {
            if let Some(lease) = self.cluster(tenant)?.acquire(tenant, mode).await? {
                return Ok(lease);
            }
            // Its pools ended, for want of use, at this very moment.
            tokio::task::yield_now().await;
        }
    }

    /// Takes in what the registry says of a tenant now: `None` if it is gone. Costs nothing for a cold tenant. One that is
    /// held lets go of its connections; of one that is being made, its maker has them.
    pub(super) fn update(&self, id: TenantId, tenant: Option<&Arc<Tenant>>, now: DateTime<Utc>) {
        use TenantStatus::{Active, Provisioning};
        let served = tenant.filter(|entry| matches!(entry.status, Provisioning | Active) && !entry.is_held(now));
        for cluster in self.all() {
            match served {
                Some(entry) if self.is_on(entry, &cluster) => cluster.update(entry),
                _ => cluster.retire(id, tenant.map_or(i64::MAX, |t| t.generation)),
            }
        }
    }

    /// Whether any connection or breaker of the tenant exists.
    pub(super) fn is_known(&self, id: TenantId) -> bool {
        self.all().iter().any(|c| c.is_known(id))
    }

    /// Those of whom any exists.
    pub(super) fn known(&self) -> Vec<TenantId> {
        self.all().iter().flat_map(|c| c.known()).collect()
    }

    /// A tenant's pool. `None` while it has none.
    #[must_use]
    pub fn snapshot(&self, tenant: TenantId) -> Option<PoolSnapshot> {
        self.all().iter().find_map(|cluster| cluster.snapshot(tenant))
    }

    /// Counts of every server that has pools, by its name.
    #[must_use]
    pub fn clusters(&self) -> Vec<(String, ClusterCounts)> {
        self.all().iter().map(|c| (c.name().to_owned(), c.counts())).collect()
    }

    /// Every server with pools, and the `limit` tenants that stand out most; at most [`report::MOST_TENANTS`].
    #[must_use]
    pub fn report(&self, by: TopBy, limit: usize) -> PoolsReport {
        let clusters = self.looks().into_iter().map(|(name, look)| ClusterReport {
            name,
            budget: look.budget,
            slice: look.slice,
            counts: look.counts,
            openings_limit: look.openings_limit,
            breakers_open: look.breakers.values().sum(),
        });
        let seen = self.all().iter().flat_map(|cluster| cluster.seen()).collect();
        PoolsReport { clusters: clusters.collect(), tenants: report::top(seen, by, limit, Instant::now()) }
    }

    fn looks(&self) -> Looks {
        let mut looks = Looks::new();
        for cluster in self.all() {
            looks.entry(cluster.name().to_owned()).or_default().add(&cluster.look());
        }
        looks
    }

    /// Physical connections begun so far, failed ones included.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Closes idle connections past their time and shows what the servers look like, for as long as the manager lives.
    pub(super) async fn sweep_forever(self: Arc<Self>) {
        let mut board = Board::default();
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            for cluster in self.all() {
                cluster.sweep();
            }
            let ended: Vec<_> = self.all().into_iter().filter(|cluster| cluster.end_if_unused()).collect();
            if !ended.is_empty() {
                self.clusters.rcu(|known| {
                    let mut all = HashMap::clone(known);
                    all.retain(|_, cluster| !ended.iter().any(|end| Arc::ptr_eq(end, cluster)));
                    all
                });
            }
            board.show(&self.looks());
        }
    }

    /// Looks whether the servers bear what they have, for as long as the manager lives.
    pub(super) async fn watch_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for cluster in self.all() {
                cluster.watch();
            }
        }
    }

    /// Keeps this node's slices of the budgets, for as long as the manager lives.
    pub(super) async fn keep_slices(self: Arc<Self>) {
        let keeper = self.keeper.clone();
        drop(self);
        keeper.run().await;
    }

    /// What this node may use of each server's budget: the server's name, the slice, the budget.
    #[must_use]
    pub fn slices(&self) -> Vec<(String, u32, u32)> {
        self.keeper.slices()
    }

    /// Closes every pool and waits, at most five seconds, until the servers have let go; then gives the slices back.
    pub async fn close(&self) {
        self.end();
        let closed = async {
            while self.all().iter().any(|c| c.counts().open > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(Duration::from_secs(5), closed).await.is_err() {
            // Their permits come back when others see that they are gone.
            tracing::warn!("some database connections did not close in time");
        } else {
            self.keeper.release().await;
        }
    }

    /// Whether nothing is opened any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Closes every pool, and waits for nobody.
    pub(super) fn end(&self) {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Relaxed);
        drop(making);
        for cluster in self.all() {
            cluster.close();
        }
    }

    fn is_on(&self, tenant: &Tenant, cluster: &Arc<ClusterPools>) -> bool {
        self.clusters.load().get(&tenant.cluster.id).is_some_and(|c| Arc::ptr_eq(c, cluster))
    }

    fn all(&self) -> Vec<Arc<ClusterPools>> {
        self.clusters.load().values().cloned().collect()
    }

    fn cluster(&self, tenant: &Tenant) -> Result<Arc<ClusterPools>> {
        let cluster = &tenant.cluster;
        if let Some(known) = self.clusters.load().get(&cluster.id) {
            return Ok(known.clone());
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.clusters.load().get(&cluster.id) {
            return Ok(known.clone());
        }
        if self.is_closed() {
            return Err(Error::TenantUnavailable { retry_after: SOON });
        }
        let new = self.keeper.adopt(tenant, |demand| ClusterPools::new(cluster, self.shared.clone(), demand));
        self.clusters.rcu(|known| {
            let mut all = HashMap::clone(known);
            all.insert(cluster.id, new.clone());
            all
        });
        Ok(new)
    }
}
