//! THE HEART: from a verified token to a connection of its tenant's own database.
//!
//! Uses `kernel` only; knows no feature, and no HTTP server beyond its extractor. Embedders get all of it with
//! `--no-default-features`. The way of a request: [`Router::authenticate`] (`resolver.rs`: token → tenant) →
//! [`TenantDb`] (`db.rs`) → a connection (`pools/`, `connect.rs`).

#![warn(missing_docs)]

pub mod access;
mod admin_row;
pub mod conn;
pub mod connect;
pub mod control_plane;
pub mod db;
mod doorbell;
pub mod error;
pub mod extractor;
mod hold;
mod kept;
mod listener;
pub mod main_db;
pub mod migrate;
pub mod pools;
pub mod registry;
mod resolver;
pub mod rollout;
mod schema_keeper;
mod signs;
mod slices;
mod snapshot;
mod socket;
pub mod stamp;
mod target;
pub mod tenant;
pub mod tenant_conn;
mod tenant_row;
mod tls;
pub mod token;
mod work;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use url::{Host, Url};

pub use access::{Access, Admission, AppBearer, ClaimsOnly, ForeignBearer, KeyHolder, Rate};
pub use conn::{AdminConn, MainConn};
pub use connect::{ConnectError, ConnectFailure, ConnectOptions, Target, TlsMode, TlsPolicy, UrlError};
pub use control_plane::ControlPlaneRegistry;
pub use db::TenantDb;
pub use doorbell::{Doorbell, Waiting};
pub use error::{Error, Result};
pub use main_db::MainDb;
pub use pools::report::{ClusterReport, MOST_TENANTS, PoolsReport, TenantReport, TopBy};
pub use pools::usage::UsageCounts;
pub use pools::{PoolSettings, PoolSnapshot, TenantPoolManager};
pub use registry::{Changes, Installation, Registry};
pub use resolver::TenantHints;
pub use schema_keeper::SchemaKeeper;
#[cfg(feature = "server")]
pub(crate) use slices::floor::Room;
pub use slices::{NodeId, Pulse, SliceClaim, SliceGrant};
pub use snapshot::SnapshotSettings;
pub use tenant::{ClusterRef, Registration, Tenant, TenantKind, TenantStatus};
pub use tenant_conn::{TenantConn, TenantTx};
pub use token::{AccessClaims, KeyAlgorithm, KeyId, SigningKey, VerificationKey};
pub use work::{Rework, Work};

use crate::kernel::opaque::OpaqueToken;
use crate::kernel::{Clock, Slug, TenantId};
use doorbell::Bell;
use hold::Holds;
use pools::meters;
use registry::RegistryCache;
use resolver::Resolver;
use rollout::Rollout;
use schema_keeper::Upgrades;
use snapshot::jittered;

/// How often the registry is asked for changes: the guarantee behind the announcements.
const POLL_EVERY: Duration = Duration::from_millis(1000);

/// Settings of the router.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Base of issuers, without a trailing slash.
    pub public_url: String,
    /// The clock.
    pub clock: Clock,
    /// How far clocks may differ when times in a token are checked.
    pub clock_leeway: Duration,
    /// Connections to tenant databases of one cluster, where the cluster itself says nothing.
    pub cluster_budget: u32,
    /// Connections of one tenant, where the tenant itself says nothing.
    pub tenant_max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a connection that must not be used any more may still be in use.
    pub drain_timeout: Duration,
    /// How long a request waits for a tenant that is held, before it is refused.
    pub hold_timeout: Duration,
    /// Bound on opening a connection.
    pub connect_timeout: Duration,
    /// Bound on one statement.
    pub statement_timeout: Duration,
    /// How long this node's slices of the connection budgets are kept for it when it is not heard of.
    pub slice_ttl: Duration,
    /// The guards; all on.
    pub guards: Guards,
}

/// The issuer of a tenant's tokens at an installation's public URL: `<public url>/t/<slug>`.
#[must_use]
pub fn issuer(public_url: &str, slug: &Slug) -> String {
    format!("{public_url}/t/{slug}")
}

impl RouterConfig {
    /// The defaults for a public URL.
    pub fn new(public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into().trim_end_matches('/').to_owned(),
            clock: Clock::system(),
            clock_leeway: Duration::from_secs(5),
            cluster_budget: 80,
            tenant_max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            hold_timeout: Duration::from_secs(40),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            slice_ttl: Duration::from_secs(15),
            guards: Guards::default(),
        }
    }

    /// The issuer of a tenant's tokens: `<public url>/t/<slug>`.
    #[must_use]
    pub fn issuer(&self, slug: &Slug) -> String {
        issuer(&self.public_url, slug)
    }

    /// The part of a host name in front of the public URL's own host: a tenant's subdomain. An address has none.
    fn subdomain(&self, host: &str) -> Option<String> {
        let base = Url::parse(&self.public_url).ok()?;
        let Some(Host::Domain(base)) = base.host() else { return None };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let name = host.strip_suffix(base)?.strip_suffix('.')?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// The independent guards against misrouting. They exist as switches so that a test can turn each one off and see the
/// attacks get through: outside of tests there is no way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    pub(crate) check_stamp: bool,
    pub(crate) bind_key: bool,
    pub(crate) confirm_hints: bool,
    pub(crate) check_typ: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { check_stamp: true, bind_key: true, confirm_hints: true, check_typ: true }
    }
}

#[cfg(feature = "testing")]
impl Guards {
    /// All guards but one: `stamp`, `key`, `hints` or `typ`.
    ///
    /// # Panics
    /// If there is no such guard.
    #[must_use]
    pub fn all_but(guard: &str) -> Self {
        let all = Self::default();
        match guard {
            "stamp" => Self { check_stamp: false, ..all },
            "key" => Self { bind_key: false, ..all },
            "hints" => Self { confirm_hints: false, ..all },
            "typ" => Self { check_typ: false, ..all },
            other => panic!("there is no guard '{other}'"),
        }
    }
}

/// Who is asking, and of which tenant: made by the verifier alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authenticated {
    /// The tenant's database.
    pub db: TenantDb,
    /// What the token says.
    pub claims: Arc<AccessClaims>,
    /// What the tenant's database says.
    pub access: Arc<Access>,
    /// The app that the token was given to, if it is not the person's own.
    pub app: Option<AppBearer>,
}

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
    upgrades: Upgrades,
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
    /// Starts a router: reads the installation, then follows the registry's changes in the background of the current
    /// Tokio runtime, which also drives all connections.
    ///
    /// # Errors
    /// [`Error::ControlPlane`] if the registry does not answer, [`Error::BudgetCannotHold`] if a cluster's connection
    /// budget has no room for one more node, or its server none for the budget.
    pub async fn start(
        registry: Arc<dyn Registry>,
        admission: Arc<dyn Admission>,
        config: RouterConfig,
    ) -> Result<Self> {
        meters::describe();
        let installation = registry.installation().await?;
        registry.check_budgets(config.cluster_budget).await?;
        let generation = registry.changes_since(None).await?.generation;
        let node = NodeId::generate();
        let settings = PoolSettings {
            node,
            slice_ttl: config.slice_ttl,
            cluster_budget: config.cluster_budget,
            tenant_max_connections: config.tenant_max_connections,
            acquire_timeout: config.acquire_timeout,
            idle_timeout: config.idle_timeout,
            drain_timeout: config.drain_timeout,
            connect: ConnectOptions {
                application_name: node.application_name(),
                connect_timeout: config.connect_timeout,
                statement_timeout: Some(config.statement_timeout),
                idle_in_transaction_timeout: Some(config.statement_timeout),
                read_only: true,
                ..ConnectOptions::default()
            },
            check_stamp: config.guards.check_stamp,
        };
        let source = registry.clone();
        let registry = Arc::new(RegistryCache::new(registry));
        let reload = {
            let registry = registry.clone();
            Arc::new(move |known: Arc<Tenant>| {
                let registry = registry.clone();
                Box::pin(async move { registry.newer(&known).await }) as BoxFuture<'static, Option<Arc<Tenant>>>
            })
        };
        let pools = Arc::new(TenantPoolManager::new(settings, installation.id, source).reload_by(reload));
        let (rollout, upgrades) = (Arc::<Rollout>::default(), Upgrades::default());
        let background = vec![
            tokio::spawn(follow(registry.clone(), pools.clone(), rollout.clone(), config.clock.clone(), generation)),
            tokio::spawn(rollout.clone().report_forever(registry.source().clone(), node)),
            tokio::spawn(pools.clone().sweep_forever()),
            tokio::spawn(pools.clone().watch_forever()),
            tokio::spawn(pools.clone().keep_slices()),
        ];
        let (resolver, holds) = (Resolver::new(config.guards), Holds::default());
        Ok(Self(Arc::new(Inner {
            config,
            node,
            installation,
            registry,
            resolver,
            admission,
            pools,
            holds,
            rollout,
            upgrades,
            bell: Bell::default(),
            background,
        })))
    }

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
    pub async fn for_maker(&self, id: TenantId) -> Result<TenantDb> {
        Ok(TenantDb::new(self.clone(), self.tenant(id).await?))
    }

    /// A tenant in whatever state, by slug.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    pub async fn tenant_by_slug(&self, slug: &Slug) -> Result<Arc<Tenant>> {
        self.0.registry.get_by_slug(slug).await
    }

    /// Verifies an access token, confirms the hints, then admits the session behind it. A tenant database is opened by
    /// the last step only.
    ///
    /// # Errors
    /// Those of a token, of a tenant that does not serve, and of its database.
    pub async fn authenticate(&self, token: &str, hints: &TenantHints) -> Result<Authenticated> {
        let inner = &self.0;
        let (tenant, claims) =
            inner.resolver.verify(token, hints, &inner.registry, &inner.installation.mac, &inner.config).await?;
        let (db, begun) = (TenantDb::new(self.clone(), tenant), Instant::now());
        let admitted = match claims.client_id {
            None => inner.admission.admit(&db, &claims).await.map(|access| (None, access)),
            Some(_) => inner.admission.admit_app(&db, &claims).await.map(|(app, access)| (Some(app), access)),
        };
        let (app, access) = admitted.inspect_err(|error| {
            // Nobody further on knows whose request it was.
            if error.is_database() {
                inner.rollout.record(db.tenant(), true, begun.elapsed());
            }
        })?;
        Ok(Authenticated { db, claims, access, app })
    }

    /// Finds the tenant of an API key, confirms the hints, then admits the key. A tenant database is opened by the last step
    /// only.
    ///
    /// # Errors
    /// As [`Self::authenticate`]; [`Error::RateLimited`].
    pub async fn authenticate_key(
        &self,
        key: &OpaqueToken,
        from: Option<IpAddr>,
        hints: &TenantHints,
    ) -> Result<(TenantDb, KeyHolder, Arc<Access>)> {
        let db = self.routed(key, hints).await?;
        let (holder, access) = self.0.admission.admit_key(&db, key, from).await?;
        Ok((db, holder, access))
    }

    /// Admits whoever brings a token that was not made here, for the tenant that the request names by header or host: such a
    /// token names none that could be believed.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the token was made here, if no tenant is named, or one that does not serve; else as
    /// [`Self::authenticate`].
    pub async fn authenticate_foreign(
        &self,
        token: &str,
        hints: &TenantHints,
    ) -> Result<(TenantDb, ForeignBearer, Arc<Access>)> {
        let ours =
            token::strict_kid(token, None).is_ok_and(|kid| KeyId::decode(&self.0.installation.mac, &kid).is_some());
        if ours || (hints.header.is_none() && hints.host.is_none()) {
            return Err(Error::TokenInvalid("nobody's"));
        }
        let db = self.named(None, hints).await.map_err(|error| match error {
            Error::TenantUnknown => Error::TokenInvalid("tenant"),
            other => other,
        })?;
        let (bearer, access) = self.0.admission.admit_foreign(&db, token).await?;
        Ok((db, bearer, access))
    }

    /// The tenant named on a route without a token: by the body, `X-Tenant-ID` or the subdomain.
    ///
    /// # Errors
    /// [`Error::TenantRequired`] if none is named, [`Error::TenantMismatch`] if two names differ, and
    /// [`Error::TenantUnknown`] alike for unknown tenants and for those that do not serve.
    pub async fn named(&self, body: Option<&str>, hints: &TenantHints) -> Result<TenantDb> {
        let tenant = resolver::named(body, hints, &self.0.registry).await?;
        Ok(TenantDb::new(self.clone(), tenant))
    }

    /// The tenant of an opaque token (its routing part has been checked).
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the tenant is gone, [`Error::TenantSuspended`], [`Error::TenantMismatch`].
    pub async fn routed(&self, token: &OpaqueToken, hints: &TenantHints) -> Result<TenantDb> {
        let tenant = self.0.registry.get(token.tenant()).await.map_err(|error| match error {
            Error::TenantUnknown => Error::TokenInvalid("tenant"),
            other => other,
        })?;
        resolver::serving(&tenant)?;
        hints.confirm(&tenant)?;
        Ok(TenantDb::new(self.clone(), tenant))
    }

    /// Who brings a tenant up whose schema is older than a request needs. Said once, after the start.
    pub fn keep_schemas_by(&self, keeper: Arc<dyn SchemaKeeper>) {
        self.0.upgrades.keep_by(keeper);
    }

    /// Who is told of work that waits in a tenant's database. Said once, after the start.
    pub fn rings_at(&self, doorbell: Arc<dyn Doorbell>) {
        self.0.bell.set(doorbell);
    }

    /// Tells that the transaction under way leaves work in a tenant's database. To be called before its commit: the word
    /// is out then, whatever becomes of this process.
    pub async fn ring(&self, tenant: TenantId, waiting: Waiting) {
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
    pub async fn at_schema(&self, db: TenantDb, version: i32) -> Result<TenantDb> {
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
            Some(tenant) => Ok(TenantDb::new(self.clone(), tenant)),
            None => Err(Error::SchemaOutdated { retry_after: Duration::from_secs(5) }),
        }
    }

    /// A request of this tenant has been answered; of interest only while a migration rolls over the fleet.
    pub fn answered(&self, tenant: TenantId, failed: bool, elapsed: Duration) {
        if self.0.rollout.is_on()
            && let Some(tenant) = self.0.registry.peek(tenant)
        {
            self.0.rollout.record(&tenant, failed, elapsed);
        }
    }

    /// Reads the registry's change of one tenant now, instead of within a second.
    pub fn forget(&self, id: TenantId, slug: &Slug) {
        self.0.registry.changed(id, slug);
    }

    /// Stops following the registry and closes all pools, waiting at most five seconds for the servers.
    pub async fn shutdown(&self) {
        for task in &self.0.background {
            task.abort();
        }
        self.0.pools.close().await;
    }

    /// Bound on the work with one borrowed connection: the server ends a statement first.
    pub(crate) fn work_deadline(&self) -> Duration {
        self.0.config.statement_timeout + Duration::from_secs(2)
    }
}

/// Follows the registry. Announcements make it quick; the poll makes it certain.
async fn follow(
    registry: Arc<RegistryCache>,
    pools: Arc<TenantPoolManager>,
    rollout: Arc<Rollout>,
    clock: Clock,
    mut generation: i64,
) {
    let source = registry.source().clone();
    let (mut lost, mut last_read) = (false, Instant::now());
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(POLL_EVERY)) => {}
            announced = source.announced() => if announced.is_err() {
                tokio::time::sleep(jittered(POLL_EVERY)).await;
            }
        }
        let changes = match source.changes_since(Some(generation)).await {
            Ok(changes) => {
                last_read = Instant::now();
                meters::registry_staleness(Duration::ZERO);
                changes
            }
            Err(error) => {
                meters::registry_staleness(last_read.elapsed());
                if !lost {
                    tracing::warn!(%error, "the registry cannot be followed; known tenants are served from memory");
                }
                lost = true;
                continue;
            }
        };
        if lost {
            tracing::info!(changed = changes.tenants.len(), reset = changes.reset, "the registry is followed again");
            lost = false;
        }
        generation = changes.generation;
        rollout.follow(changes.rollout);
        let mut changed: Vec<TenantId> = changes.tenants.iter().map(|(id, _)| *id).collect();
        for (id, slug) in &changes.tenants {
            registry.changed(*id, slug);
        }
        if changes.reset {
            changed.extend(registry.all_changed());
        }
        for id in changed.into_iter().filter(|id| pools.is_known(*id)) {
            match registry.get(id).await {
                Ok(tenant) => pools.update(id, Some(&tenant), clock.now()),
                Err(Error::TenantUnknown) => pools.update(id, None, clock.now()),
                Err(error) => {
                    tracing::warn!(tenant = %id, %error, "a changed tenant could not be read; it will be on use")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdomains_of_the_public_host_only() {
        let config = RouterConfig::new("https://api.example.com:8443/");
        assert_eq!(config.subdomain("acme.api.example.com").as_deref(), Some("acme"));
        assert_eq!(config.subdomain("ACME.API.example.com.").as_deref(), Some("acme"));
        for other in
            ["api.example.com", "evil-api.example.com", "example.com", "acme.other.com", ".api.example.com", ""]
        {
            assert_eq!(config.subdomain(other), None, "{other}");
        }
        assert_eq!(RouterConfig::new("http://127.0.0.1:8080").subdomain("acme.127.0.0.1"), None);
        assert_eq!(config.issuer(&"acme".parse().unwrap()), "https://api.example.com:8443/t/acme");
    }
}
