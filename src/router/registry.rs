//! Where tenants are known from: the trait, and the cache in front of it.
//!
//! A cached tenant is used until the registry says that it changed; there is no expiry, so known tenants are served
//! while the control plane is down. A change always wins: a load that began before it is never taken for newer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::timeout;

use super::error::{Error, Result};
use super::tenant::Tenant;
use crate::kernel::crypto::MacKey;
use crate::kernel::{InstallationId, Slug, TenantId};

/// What one installation shares among its nodes.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Identity; every tenant database is stamped with it.
    pub id: InstallationId,
    /// Key of routing parts, key ids, cursors and request hashes.
    pub mac: MacKey,
}

/// What has changed since a generation.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The generation these changes lead to.
    pub generation: i64,
    /// The tenants that changed, came or went.
    pub tenants: Vec<(TenantId, Slug)>,
    /// The log does not reach back far enough: forget everything.
    pub reset: bool,
}

/// The registry of tenants. Each call is bounded by a deadline of its own.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The installation's identity and keys.
    async fn installation(&self) -> Result<Installation>;

    /// A tenant by id, in whatever state.
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>>;

    /// The id behind a slug.
    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>>;

    /// What changed after `generation`. `None` asks for the current generation alone.
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes>;

    /// Resolves when a change is announced; an accelerator only. May return early, and errors when it cannot listen.
    async fn announced(&self) -> Result<()>;
}

/// Tenants that are kept in memory at once.
const CAPACITY: u64 = 100_000;
/// How long "there is no such tenant" is believed.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// The longest a caller waits for the registry.
const LOAD_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Slot {
    entry: ArcSwapOption<Entry>,
    /// How often the registry announced a change of this tenant.
    changes: AtomicU64,
    /// Single flight: one load at a time, the others wait for it.
    loading: tokio::sync::Mutex<()>,
}

struct Entry {
    tenant: Option<Arc<Tenant>>,
    /// `changes` when the load began.
    as_of: u64,
    loaded: Instant,
}

impl Entry {
    fn is_good(&self, changes: u64) -> bool {
        self.as_of == changes && (self.tenant.is_some() || self.loaded.elapsed() < UNKNOWN_FOR)
    }
}

/// The cache.
pub(super) struct RegistryCache {
    source: Arc<dyn Registry>,
    slots: Cache<TenantId, Arc<Slot>>,
    slugs: Cache<Slug, TenantId>,
    unknown: Cache<Slug, ()>,
}

impl fmt::Debug for RegistryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCache")
    }
}

impl RegistryCache {
    pub(super) fn new(source: Arc<dyn Registry>) -> Self {
        Self {
            source,
            slots: Cache::builder().max_capacity(CAPACITY).eviction_policy(EvictionPolicy::lru()).build(),
            slugs: Cache::builder().max_capacity(CAPACITY).eviction_policy(EvictionPolicy::lru()).build(),
            unknown: Cache::builder().max_capacity(CAPACITY).time_to_live(UNKNOWN_FOR).build(),
        }
    }

    pub(super) fn source(&self) -> &Arc<dyn Registry> {
        &self.source
    }

    /// A tenant in whatever state.
    pub(super) async fn get(&self, id: TenantId) -> Result<Arc<Tenant>> {
        let slot = self.slots.get(&id).unwrap_or_else(|| self.slots.get_with(id, Arc::default));
        if let Some(entry) = slot.entry.load().as_ref()
            && entry.is_good(slot.changes.load(Ordering::Acquire))
        {
            return entry.tenant.clone().ok_or(Error::TenantUnknown);
        }
        timeout(LOAD_DEADLINE, self.load(id, &slot))
            .await
            .unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline")))
    }

    async fn load(&self, id: TenantId, slot: &Slot) -> Result<Arc<Tenant>> {
        let _flight = slot.loading.lock().await;
        loop {
            let as_of = slot.changes.load(Ordering::Acquire);
            if let Some(entry) = slot.entry.load().as_ref()
                && entry.is_good(as_of)
            {
                return entry.tenant.clone().ok_or(Error::TenantUnknown);
            }
            let tenant = self.source.tenant_by_id(id).await?.map(Arc::new);
            slot.entry.store(Some(Arc::new(Entry { tenant: tenant.clone(), as_of, loaded: Instant::now() })));
            // Changed while it was being read: read it again.
            if slot.changes.load(Ordering::Acquire) == as_of {
                return tenant.ok_or(Error::TenantUnknown);
            }
        }
    }

    /// A tenant by slug, in whatever state.
    pub(super) async fn get_by_slug(&self, slug: &Slug) -> Result<Arc<Tenant>> {
        for _ in 0..2 {
            let id = match self.slugs.get(slug) {
                Some(id) => id,
                None if self.unknown.contains_key(slug) => return Err(Error::TenantUnknown),
                None => {
                    let found = timeout(LOAD_DEADLINE, self.source.id_by_slug(slug))
                        .await
                        .unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline")))?;
                    let Some(id) = found else {
                        self.unknown.insert(slug.clone(), ());
                        return Err(Error::TenantUnknown);
                    };
                    self.slugs.insert(slug.clone(), id);
                    id
                }
            };
            match self.get(id).await {
                Ok(tenant) if tenant.slug == *slug => return Ok(tenant),
                // The slug has passed to another tenant since.
                Ok(_) | Err(Error::TenantUnknown) => self.slugs.invalidate(slug),
                Err(error) => return Err(error),
            }
        }
        Err(Error::TenantUnknown)
    }

    /// The registry announced a change of this tenant. Its slug still leads to it: whoever is found by it is asked for
    /// their name, and a tenant that just changed can be named while the control plane is down.
    pub(super) fn changed(&self, id: TenantId, slug: &Slug) {
        if let Some(slot) = self.slots.get(&id) {
            slot.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.unknown.invalidate(slug);
    }

    /// Any tenant may have changed.
    pub(super) fn all_changed(&self) -> Vec<TenantId> {
        self.unknown.invalidate_all();
        let mut known = Vec::new();
        for (id, slot) in &self.slots {
            slot.changes.fetch_add(1, Ordering::AcqRel);
            known.push(*id);
        }
        known
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
