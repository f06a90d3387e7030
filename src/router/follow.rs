//! How a router keeps up with the registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::pools::{TenantPoolManager, meters};
use super::registry::RegistryCache;
use super::rollout::Rollout;
use super::snapshot::jittered;
use crate::kernel::{Clock, TenantId};

/// How often the registry is asked for changes: the guarantee behind the announcements.
const POLL_EVERY: Duration = Duration::from_millis(1000);

/// Follows the registry. Announcements make it quick; the poll makes it certain.
pub(super) async fn follow(
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
