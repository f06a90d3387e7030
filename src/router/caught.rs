//! A registry of an application's own may panic. That is one more way not to answer: who asked in the background asks
//! again, and keeps the lease, the anchor and the fence until then.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::error::{Error, Result};
use super::registry::{Changes, Installation, Registry};
use super::rollout::SeenSide;
use super::slices::{NodeId, Pulse, SliceClaim, SliceGrant};
use super::tenant::Tenant;
use crate::kernel::{ClusterId, Slug, TenantId};

/// A registry whose panics are errors.
pub(super) struct Caught(pub(super) Arc<dyn Registry>);

async fn caught<T>(call: &'static str, answer: impl Future<Output = Result<T>> + Send) -> Result<T> {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(call, "the registry panicked");
        Err(Error::control_plane("the registry panicked"))
    })
}

#[async_trait]
impl Registry for Caught {
    async fn installation(&self) -> Result<Installation> {
        caught("installation", async { self.0.installation().await }).await
    }
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        caught("tenant_by_id", async { self.0.tenant_by_id(id).await }).await
    }
    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>> {
        caught("id_by_slug", async { self.0.id_by_slug(slug).await }).await
    }
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        caught("changes_since", async { self.0.changes_since(generation).await }).await
    }
    async fn report_rollout(&self, node: NodeId, run: Uuid, seen: [SeenSide; 2]) -> Result<()> {
        caught("report_rollout", async { self.0.report_rollout(node, run, seen).await }).await
    }
    async fn announced(&self) -> Result<()> {
        caught("announced", async { self.0.announced().await }).await
    }
    async fn check_budgets(&self, default_budget: u32) -> Result<()> {
        caught("check_budgets", async { self.0.check_budgets(default_budget).await }).await
    }
    async fn renew_node(&self, node: NodeId, ttl: Duration) -> Result<Pulse> {
        caught("renew_node", async { self.0.renew_node(node, ttl).await }).await
    }
    async fn claim_slice(&self, claim: SliceClaim) -> Result<SliceGrant> {
        caught("claim_slice", async { self.0.claim_slice(claim).await }).await
    }
    async fn reclaim_slices(&self, cluster: ClusterId, gap: Duration) -> Result<usize> {
        caught("reclaim_slices", async { self.0.reclaim_slices(cluster, gap).await }).await
    }
    async fn release_slices(&self, node: NodeId) -> Result<()> {
        caught("release_slices", async { self.0.release_slices(node).await }).await
    }
    async fn budget_announced(&self) -> Result<()> {
        caught("budget_announced", async { self.0.budget_announced().await }).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::kernel::InstallationId;
    use crate::kernel::crypto::{MacKey, random};
    use crate::router::{ClaimsOnly, Router, RouterConfig};

    /// Panics whenever it is asked in the background.
    struct Brittle {
        follows: Semaphore,
        renewals: Semaphore,
    }

    #[async_trait]
    impl Registry for Brittle {
        async fn installation(&self) -> Result<Installation> {
            Ok(Installation { id: InstallationId::generate(), mac: MacKey::new(&random::<32>()) })
        }
        async fn tenant_by_id(&self, _: TenantId) -> Result<Option<Tenant>> {
            panic!("on purpose")
        }
        async fn id_by_slug(&self, _: &Slug) -> Result<Option<TenantId>> {
            panic!("on purpose")
        }
        async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
            if generation.is_some() {
                self.follows.add_permits(1);
                panic!("on purpose");
            }
            Ok(Changes::default())
        }
        async fn announced(&self) -> Result<()> {
            Ok(())
        }
        async fn renew_node(&self, _: NodeId, _: Duration) -> Result<Pulse> {
            self.renewals.add_permits(1);
            panic!("on purpose")
        }
    }

    #[tokio::test]
    async fn a_registry_that_panics_is_asked_again() {
        let registry = Arc::new(Brittle { follows: Semaphore::new(0), renewals: Semaphore::new(0) });
        let config = RouterConfig { slice_ttl: Duration::from_millis(300), ..RouterConfig::new("http://localhost") };
        let router = Router::start(registry.clone(), Arc::new(ClaimsOnly), config).await.unwrap();
        let asked = async {
            let follows = registry.follows.acquire_many(3).await.map(drop);
            let renewals = registry.renewals.acquire_many(3).await.map(drop);
            follows.and(renewals)
        };
        timeout(Duration::from_secs(20), asked).await.expect("again and again").expect("nobody closes them");
        assert!(matches!(router.tenant(TenantId::generate()).await, Err(Error::ControlPlane(_))));
        router.shutdown().await;
    }
}
