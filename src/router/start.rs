//! What a router is made of, and what it does in the background.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::access::Admission;
use super::caught::Caught;
use super::connect::ConnectOptions;
#[cfg(feature = "server")]
use super::doorbell::Bell;
use super::error::Result;
use super::follow::follow;
use super::hold::Holds;
use super::pools::{PoolSettings, TenantPoolManager, meters};
use super::registry::{Registry, RegistryCache};
use super::resolver::Resolver;
use super::rollout::Rollout;
#[cfg(feature = "server")]
use super::schema_keeper::Upgrades;
use super::settings::RouterConfig;
use super::slices::NodeId;
use super::tenant::Tenant;
use super::{Inner, Router};

impl Router {
    /// Starts a router: reads the installation, then follows the registry's changes in the background of the current
    /// Tokio runtime, which also drives all connections.
    ///
    /// # Errors
    /// [`Config`](super::Error::Config) for a setting that would break every request,
    /// [`ControlPlane`](super::Error::ControlPlane) if the registry does not answer,
    /// [`BudgetCannotHold`](super::Error::BudgetCannotHold) if a cluster's connection budget has no room for one more node,
    /// or its server none for the budget.
    pub async fn start(
        registry: Arc<dyn Registry>,
        admission: Arc<dyn Admission>,
        config: RouterConfig,
    ) -> Result<Self> {
        config.check()?;
        meters::describe();
        let registry: Arc<dyn Registry> = Arc::new(Caught(registry));
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
        let rollout = Arc::<Rollout>::default();
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
            #[cfg(feature = "server")]
            upgrades: Upgrades::default(),
            #[cfg(feature = "server")]
            bell: Bell::default(),
            background,
        })))
    }
}
