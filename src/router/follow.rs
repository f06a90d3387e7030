//! How a router keeps up with the registry.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::error::Error;
use super::pools::{TenantPoolManager, meters};
use super::registry::RegistryCache;
use super::rollout::Rollout;
use super::snapshot::jittered;
use crate::kernel::{Clock, TenantId};

/// How often the registry is asked for changes: the guarantee behind the announcements.
const POLL_EVERY: Duration = Duration::from_millis(1000);
/// Changed tenants that are read at once.
const READS: usize = 4;

/// Follows the registry. Announcements make it quick; the poll makes it certain.
pub(super) async fn follow(
    registry: Arc<RegistryCache>,
    pools: Arc<TenantPoolManager>,
    rollout: Arc<Rollout>,
    clock: Clock,
    generation: i64,
) {
    let (tell, mut told) = mpsc::unbounded_channel::<Vec<TenantId>>();
    let changed = stream::poll_fn(move |cx: &mut Context<'_>| told.poll_recv(cx)).flat_map(stream::iter);
    // Beside the following: a change of many tenants keeps nobody from hearing of the next. In one task, so that what is read
    // of a tenant comes to its pools in the order of its reading.
    let reading = changed.for_each_concurrent(READS, |id| {
        let (registry, pools, clock) = (registry.clone(), pools.clone(), clock.clone());
        async move {
            if pools.is_known(id) {
                read(&registry, &pools, &clock, id).await;
            }
        }
    });
    tokio::join!(heed(&registry, &rollout, generation, tell), reading);
}

/// Hears of changes, and forgets at once what they are about.
async fn heed(
    registry: &RegistryCache,
    rollout: &Rollout,
    mut generation: i64,
    changed: UnboundedSender<Vec<TenantId>>,
) {
    let source = registry.source();
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
        let mut ids: Vec<TenantId> = changes.tenants.iter().map(|(id, _)| *id).collect();
        for (id, slug) in &changes.tenants {
            registry.changed(*id, slug);
        }
        if changes.reset {
            ids.extend(registry.all_changed());
        }
        // Whoever reads them ends with us.
        let _ = changed.send(ids);
    }
}

/// Reads a changed tenant, and takes it in where it has connections.
async fn read(registry: &RegistryCache, pools: &TenantPoolManager, clock: &Clock, id: TenantId) {
    match registry.get(id).await {
        Ok(tenant) => pools.update(id, Some(&tenant), clock.now()),
        Err(Error::TenantUnknown) => pools.update(id, None, clock.now()),
        Err(error) => tracing::warn!(tenant = %id, %error, "a changed tenant could not be read; it will be on use"),
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
