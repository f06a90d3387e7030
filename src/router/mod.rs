//! THE HEART: from a verified token to a connection of its tenant's own database.
//!
//! Uses `kernel` only; knows no feature, and no HTTP server beyond its extractor. Embedders get all of it with
//! `--no-default-features`. The way of a request: [`Router::authenticate`] (`authenticate.rs`, `resolver.rs`: token →
//! tenant) → [`TenantDb`] (`db.rs`) → a connection (`pools/`, `connect.rs`).

#![warn(missing_docs)]

mod access;
mod admin_row;
mod authenticate;
mod caught;
mod conn;
pub(crate) mod connect;
mod control_plane;
mod db;
#[cfg(feature = "server")]
mod doorbell;
mod error;
pub(crate) mod extractor;
mod failure;
mod follow;
mod hold;
mod kept;
mod link;
mod listener;
mod main_db;
pub mod migrate;
mod passing;
pub(crate) mod pools;
mod registry;
mod resolver;
pub mod rollout;
#[cfg(feature = "server")]
mod schema_keeper;
mod settings;
mod signs;
mod silence;
mod slices;
mod snapshot;
mod socket;
pub(crate) mod stamp;
mod start;
mod target;
pub(crate) mod tenant;
mod tenant_conn;
mod tenant_row;
mod tls;
pub mod token;
mod words;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use access::{Access, Admission, AppBearer, ClaimsOnly, ForeignBearer, KeyHolder, Rate};
pub use authenticate::Authenticated;
#[cfg(feature = "server")]
pub use conn::AdminConn;
pub use conn::MainConn;
pub use connect::{ConnectError, ConnectFailure, ConnectOptions, Rights, Target, TlsMode, TlsPolicy, UrlError};
pub use control_plane::ControlPlaneRegistry;
pub use db::TenantDb;
#[cfg(feature = "server")]
pub(crate) use doorbell::{Doorbell, Waiting};
pub use error::{Error, Result};
pub use main_db::MainDb;
pub use passing::Passing;
pub use pools::report::{ClusterReport, MOST_TENANTS, PoolsReport, TenantReport, TopBy};
pub use pools::usage::UsageCounts;
pub use pools::{ClusterCounts, PoolCounts, PoolSnapshot, TenantPoolManager};
pub use registry::{Changes, Installation, Registry};
pub use resolver::TenantHints;
#[cfg(feature = "server")]
pub(crate) use schema_keeper::SchemaKeeper;
pub use settings::{Guards, RouterConfig, issuer};
#[cfg(feature = "server")]
pub(crate) use slices::floor::Room;
pub use slices::{NodeId, Pulse, SliceClaim, SliceGrant};
pub use snapshot::SnapshotSettings;
pub use stamp::Stamp;
pub use tenant::{ClusterRef, Registration, Tenant, TenantKind, TenantStatus};
pub use tenant_conn::{TenantConn, TenantTx};
#[cfg(feature = "server")]
pub(crate) use tls::system_authorities;
pub use token::{AccessClaims, KeyAlgorithm, KeyId, SigningKey, VerificationKey};
pub use work::{Rework, Work};

#[cfg(feature = "server")]
use crate::kernel::crypto::MasterKeys;
use crate::kernel::{Slug, TenantId};
#[cfg(feature = "server")]
use doorbell::Bell;
use hold::Holds;
use registry::RegistryCache;
use resolver::Resolver;
use rollout::Rollout;
#[cfg(feature = "server")]
use schema_keeper::Upgrades;

/// The router. Clones share it.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    config: RouterConfig,
    node: NodeId,
    installation: Installation,
    registry: Arc<RegistryCache>,
    resolver: Resolver,
    admission: Arc<dyn Admission>,
    pools: Arc<TenantPoolManager>,
    holds: Holds,
    rollout: Arc<Rollout>,
    #[cfg(feature = "server")]
    upgrades: Upgrades,
    #[cfg(feature = "server")]
    bell: Bell,
    background: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.background {
            task.abort();
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({})", self.0.config.public_url)
    }
}

impl Router {
    /// This node, among those of the installation.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &RouterConfig {
        &self.0.config
    }

    /// The installation it belongs to.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.0.installation
    }

    /// The issuer of a tenant's tokens.
    #[must_use]
    pub fn issuer(&self, slug: &Slug) -> String {
        self.0.config.issuer(slug)
    }

    /// The pools, to look at.
    #[must_use]
    pub fn pools(&self) -> &TenantPoolManager {
        &self.0.pools
    }

    /// A tenant in whatever state.
    ///
    /// # Errors
    /// [`Error::TenantUnknown`]; [`Error::ControlPlane`] if it is not known here and cannot be asked for.
    pub async fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>> {
        self.0.registry.get(id).await
    }

    /// The database of a tenant in whatever state, for who makes it: no request gets it here.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    #[cfg(feature = "server")]
    pub(crate) async fn for_maker(&self, id: TenantId) -> Result<TenantDb> {
        Ok(TenantDb::new(self.clone(), self.tenant(id).await?))
    }

    /// The same of a tenant that a transaction under way has just made. Nobody else gets to know of it here: should the
    /// transaction come to nothing, what was opened lies idle until it is closed.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    #[cfg(feature = "server")]
    pub(crate) async fn for_maker_in(&self, conn: &mut MainConn, keys: &MasterKeys, id: TenantId) -> Result<TenantDb> {
        let row = tenant_row::TenantRow::find_in(conn, id).await?.ok_or(Error::TenantUnknown)?;
        Ok(TenantDb::new(self.clone(), Arc::new(row.read(keys, &self.installation().mac)?)))
    }

    /// A tenant in whatever state, by slug.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    pub async fn tenant_by_slug(&self, slug: &Slug) -> Result<Arc<Tenant>> {
        self.0.registry.get_by_slug(slug).await
    }

    /// Who brings a tenant up whose schema is older than a request needs. Said once, after the start.
    #[cfg(feature = "server")]
    pub(crate) fn keep_schemas_by(&self, keeper: Arc<dyn SchemaKeeper>) {
        self.0.upgrades.keep_by(keeper);
    }

    /// Who is told of work that waits in a tenant's database. Said once, after the start.
    #[cfg(feature = "server")]
    pub(crate) fn rings_at(&self, doorbell: Arc<dyn Doorbell>) {
        self.0.bell.set(doorbell);
    }

    /// Tells that the transaction under way leaves work in a tenant's database. To be called before its commit: the word
    /// is out then, whatever becomes of this process.
    #[cfg(feature = "server")]
    pub(crate) async fn ring(&self, tenant: TenantId, waiting: Waiting) {
        // A transaction ends by the deadline of its work, or is ended by the server, which waits no longer than that for
        // the next statement of a process that stands still.
        let settles = 2 * self.work_deadline();
        self.0.bell.ring(tenant, waiting, self.0.config.clock.now() + settles).await;
    }

    /// The same tenant's database with this version of the built-in schema, or a newer one. A tenant that is behind is
    /// migrated at once, and waited for. One that is ahead of this program is served as it is.
    ///
    /// # Errors
    /// [`Error::SchemaOutdated`] if it is not there in time.
    #[cfg(feature = "server")]
    pub(crate) async fn at_schema(&self, db: TenantDb, version: i32) -> Result<TenantDb> {
        if db.tenant().schema_version >= version {
            return Ok(db);
        }
        // It may have been brought there since this node last heard of it.
        let mut newer = self.0.registry.newer(db.tenant()).await;
        if newer.as_ref().is_none_or(|tenant| tenant.schema_version < version) {
            self.0.upgrades.wait_for(db.tenant().id).await?;
            newer = self.0.registry.newer(db.tenant()).await;
        }
        match newer.filter(|tenant| tenant.schema_version >= version) {
            Some(tenant) => Ok(db.at(tenant)),
            None => Err(Error::SchemaOutdated { retry_after: Duration::from_secs(5) }),
        }
    }

    /// A request of this tenant has been answered; of interest only while a migration rolls over the fleet. What
    /// [`Registry::report_rollout`] tells is made of it.
    pub fn answered(&self, tenant: TenantId, failed: bool, elapsed: Duration) {
        if self.0.rollout.is_on()
            && let Some(tenant) = self.0.registry.peek(tenant)
        {
            self.0.rollout.record(&tenant, failed, elapsed);
        }
    }

    /// Reads the registry's change of one tenant now, instead of within a second.
    #[cfg(feature = "server")]
    pub(crate) fn forget(&self, id: TenantId, slug: &Slug) {
        self.0.registry.changed(id, slug);
    }

    /// Stops following the registry and closes all pools, waiting at most five seconds for the servers. Nothing is opened
    /// after: whoever comes, or waits for a tenant that is held, is refused with [`Error::TenantUnavailable`].
    pub async fn shutdown(&self) {
        for task in &self.0.background {
            task.abort();
        }
        self.0.pools.end();
        self.0.registry.wake();
        self.0.pools.close().await;
    }

    /// Bound on the work with one borrowed connection: the server ends a statement first.
    pub(crate) fn work_deadline(&self) -> Duration {
        self.0.config.statement_timeout + Duration::from_secs(2)
    }
}
