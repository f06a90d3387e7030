//! One lazy pool per tenant, one budget per server: finds the server, and looks at all of them together.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::cluster_pools::{ClusterPools, Lease};
use super::connect::ConnectOptions;
use super::error::Result;
use super::registry::Registry;
pub use super::scheduler::{ClusterCounts, PoolCounts};
use super::slices::{Keeper, NodeId};
use super::tenant::{Tenant, TenantStatus};
use crate::kernel::{ClusterId, InstallationId, TenantId};

/// How often connections past their time are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Settings of the pools.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// This node, among those that share the budgets.
    pub node: NodeId,
    /// How long this node's slices are kept for it when it is not heard of.
    pub slice_ttl: Duration,
    /// Connections to one server, where the server says nothing.
    pub cluster_budget: u32,
    /// Connections of one tenant, where the tenant says nothing.
    pub tenant_max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// What a new connection is told.
    pub connect: ConnectOptions,
    /// Whether the database's stamp is checked. Only a test of that very check turns it off.
    pub check_stamp: bool,
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
    settings: Arc<PoolSettings>,
    installation: InstallationId,
    runtime: Handle,
    opened: Arc<AtomicU64>,
    clusters: RwLock<HashMap<ClusterId, Arc<ClusterPools>>>,
    keeper: Arc<Keeper>,
}

impl fmt::Debug for TenantPoolManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantPoolManager")
    }
}

impl TenantPoolManager {
    /// A manager without any pool. Must be called within a Tokio runtime, which then drives the connections. The
    /// registry says what this node may use of each server's budget.
    #[must_use]
    pub fn new(settings: PoolSettings, installation: InstallationId, registry: Arc<dyn Registry>) -> Self {
        let (node, ttl, connect) = (settings.node, settings.slice_ttl, settings.connect.clone());
        Self {
            keeper: Arc::new(Keeper::new(registry, node, ttl, settings.cluster_budget, connect)),
            settings: Arc::new(settings),
            installation,
            runtime: Handle::current(),
            opened: Arc::default(),
            clusters: RwLock::default(),
        }
    }

    pub(super) async fn acquire(&self, tenant: &Arc<Tenant>) -> Result<Lease> {
        self.cluster(tenant).acquire(tenant).await
    }

    /// Takes in what the registry says of a tenant now: `None` if it is gone. Costs nothing for a cold tenant.
    pub(super) fn update(&self, id: TenantId, tenant: Option<&Arc<Tenant>>) {
        for cluster in self.all() {
            match tenant {
                Some(entry) if entry.status == TenantStatus::Active && self.is_on(entry, &cluster) => {
                    cluster.update(entry)
                }
                _ => cluster.retire(id, tenant.map_or(i64::MAX, |t| t.generation)),
            }
        }
    }

    /// Whether any connection or breaker of the tenant exists.
    pub(super) fn is_known(&self, id: TenantId) -> bool {
        self.all().iter().any(|c| c.is_known(id))
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

    /// Physical connections begun so far, failed ones included.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Closes idle connections past their time, for as long as the manager lives.
    pub(super) async fn sweep_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            for cluster in self.all() {
                cluster.sweep();
            }
            self.clusters
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, c| Arc::strong_count(c) > 1 || !c.is_unused());
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
        for cluster in self.all() {
            cluster.close();
        }
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

    fn is_on(&self, tenant: &Tenant, cluster: &Arc<ClusterPools>) -> bool {
        self.clusters
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant.cluster.id)
            .is_some_and(|c| Arc::ptr_eq(c, cluster))
    }

    fn all(&self) -> Vec<Arc<ClusterPools>> {
        self.clusters.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn cluster(&self, tenant: &Tenant) -> Arc<ClusterPools> {
        let cluster = &tenant.cluster;
        let known = self.clusters.read().unwrap_or_else(PoisonError::into_inner).get(&cluster.id).cloned();
        known.unwrap_or_else(|| {
            let (settings, runtime, opened) = (self.settings.clone(), self.runtime.clone(), self.opened.clone());
            let new = |demand| ClusterPools::new(cluster, settings, self.installation, runtime, opened, demand);
            let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
            clusters.entry(cluster.id).or_insert_with(|| self.keeper.adopt(tenant, new)).clone()
        })
    }
}
