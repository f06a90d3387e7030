//! How a router keeps up with the registry.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Notify;

use super::error::Error;
use super::pools::{TenantPoolManager, meters};
use super::registry::RegistryCache;
use super::rollout::Rollout;
use super::snapshot::jittered;
use crate::kernel::{Clock, TenantId};

/// How often the registry is asked for changes: the guarantee behind the announcements.
const POLL_EVERY: Duration = Duration::from_millis(1000);
/// The shortest pause between two questions, whatever is announced.
const PAUSE: Duration = Duration::from_millis(10);
/// Changed tenants that are read at once.
const READS: usize = 4;
/// Changed tenants that wait by name to be read. Where there are more, every tenant with a pool is read instead.
const MOST_WAITING: usize = 10_000;

/// Follows the registry. Announcements make it quick; the poll makes it certain.
pub(super) async fn follow(
    registry: Arc<RegistryCache>,
    pools: Arc<TenantPoolManager>,
    rollout: Arc<Rollout>,
    clock: Clock,
    generation: i64,
) {
    let changed = Arc::<Changed>::default();
    let next = stream::unfold((changed.clone(), pools.clone()), |(changed, pools)| async move {
        let id = changed.next(|| pools.known()).await;
        Some((id, (changed, pools)))
    });
    // Beside the following: a change of many tenants keeps nobody from hearing of the next. In one task, so that what is read
    // of a tenant comes to its pools in the order of its reading.
    let reading = next.for_each_concurrent(READS, |id| {
        let (registry, pools, clock) = (registry.clone(), pools.clone(), clock.clone());
        async move {
            if pools.is_known(id) {
                read(&registry, &pools, &clock, id).await;
            }
        }
    });
    tokio::join!(heed(&registry, &rollout, generation, &changed), reading);
}

/// Tenants that changed and wait to be read: each once, in the order in which they were first heard of.
#[derive(Default)]
struct Changed {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<TenantId>,
    listed: HashSet<TenantId>,
    /// Once they are read, every tenant with a pool is: any may have changed.
    all: bool,
}

impl Changed {
    fn add(&self, ids: impl Iterator<Item = TenantId>, all: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.all |= all;
        for id in ids {
            if waiting.listed.contains(&id) {
                continue;
            }
            if waiting.listed.len() < MOST_WAITING {
                waiting.put(id);
            } else {
                waiting.all = true;
            }
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// The next one, as soon as there is any; `known` are those with a pool.
    async fn next(&self, known: impl Fn() -> Vec<TenantId>) -> TenantId {
        loop {
            if let Some(id) = self.take(&known) {
                return id;
            }
            self.news.notified().await;
        }
    }

    fn take(&self, known: impl Fn() -> Vec<TenantId>) -> Option<TenantId> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.order.is_empty() && mem::take(&mut waiting.all) {
            for id in known() {
                waiting.put(id);
            }
        }
        let id = waiting.order.pop_front()?;
        // Should it change again while it is read, it is read again.
        waiting.listed.remove(&id);
        Some(id)
    }
}

impl Waiting {
    fn put(&mut self, id: TenantId) {
        if self.listed.insert(id) {
            self.order.push_back(id);
        }
    }
}

/// Hears of changes, and forgets at once what they are about.
async fn heed(registry: &RegistryCache, rollout: &Rollout, mut generation: i64, changed: &Changed) {
    let source = registry.source();
    let (mut lost, mut last_read) = (false, Instant::now());
    loop {
        // What is announced meanwhile is heard behind it. A registry that announces at once, without end, has no more of
        // the runtime.
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = tokio::time::sleep(jittered(POLL_EVERY)) => {}
            // One that does not answer is asked no sooner for what it announces.
            announced = source.announced(), if !lost => if announced.is_err() {
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
        for (id, slug) in &changes.tenants {
            registry.changed(*id, slug);
        }
        if changes.reset {
            registry.all_changed();
        }
        changed.add(changes.tenants.iter().map(|(id, _)| *id), changes.reset);
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
