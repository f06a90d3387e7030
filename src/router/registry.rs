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
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::timeout;
use uuid::Uuid;

use super::error::{Error, Result};
use super::rollout::{SeenSide, WatchedRun};
use super::slices::{NodeId, Pulse, SliceClaim, SliceGrant};
use super::tenant::{Tenant, TenantStatus};
use crate::kernel::crypto::MacKey;
use crate::kernel::{ClusterId, InstallationId, Slug, TenantId};

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
    /// A migration that rolls over the fleet now.
    pub rollout: Option<WatchedRun>,
}

/// The registry of tenants. Each call is bounded by a deadline of its own. One that panics has not answered.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The installation's identity and keys.
    async fn installation(&self) -> Result<Installation>;

    /// A tenant by id, in whatever state. An answer for another one counts as a registry that is away.
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>>;

    /// The id behind a slug.
    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>>;

    /// What changed after `generation`. `None` asks for the current generation alone.
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes>;

    /// What this node has seen since it heard of a run: of tenants that have its migrations, and of the rest.
    async fn report_rollout(&self, _node: NodeId, _run: Uuid, _seen: [SeenSide; 2]) -> Result<()> {
        Ok(())
    }

    /// Resolves when a change is announced; an accelerator only. May return early, also at once: it is
    /// asked again a moment later. Errors when it cannot listen.
    async fn announced(&self) -> Result<()>;

    // The connection budget over nodes. A registry without a ledger has one node, which has the whole budget.

    /// Refuses the start of one more node with [`Error::BudgetCannotHold`], where a cluster's budget (`default_budget`, if
    /// it sets none) cannot give a connection to each, or is more than its server has. What does not answer is believed.
    async fn check_budgets(&self, _default_budget: u32) -> Result<()> {
        Ok(())
    }

    /// The node lives, and means to for another `ttl`.
    async fn renew_node(&self, _node: NodeId, _ttl: Duration) -> Result<Pulse> {
        Ok(Pulse::default())
    }

    /// What the node may use of a cluster's budget.
    async fn claim_slice(&self, claim: SliceClaim) -> Result<SliceGrant> {
        Ok(SliceGrant { slice: claim.budget, yield_to: None, budget: claim.budget, others: 0 })
    }

    /// Takes back slices of a cluster whose nodes are gone: their lease has run out, and two looks at the cluster, `gap`
    /// apart, have seen none of their connections; one, where a node is known to have ended. Gives how many were taken back.
    async fn reclaim_slices(&self, _cluster: ClusterId, _gap: Duration) -> Result<usize> {
        Ok(0)
    }

    /// The node ends, and its connections are closed.
    async fn release_slices(&self, _node: NodeId) -> Result<()> {
        Ok(())
    }

    /// Resolves when somebody lacks connections or gave some back; as [`Self::announced`].
    async fn budget_announced(&self) -> Result<()> {
        std::future::pending().await
    }
}

/// Tenants that are kept in memory at once.
const CAPACITY: u64 = 100_000;
/// How long "there is no such tenant" is believed.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// How long what is known of a tenant is believed that may have changed, with the registry away.
const DOUBTED_FOR: Duration = Duration::from_secs(1);
/// How long a caller waits for the registry who could be answered from what is known.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest a caller waits for the registry.
const LOAD_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Slot {
    entry: ArcSwapOption<Entry>,
    /// How often the registry announced a change of this tenant.
    changes: AtomicU64,
    /// How often it announced that any tenant may have changed.
    doubts: AtomicU64,
    /// Single flight: one load at a time, the others wait for it. Has when the last one for something newer began that
    /// was answered, or was not in time.
    loading: tokio::sync::Mutex<Option<Instant>>,
}

struct Entry {
    tenant: Option<Arc<Tenant>>,
    /// `changes` and `doubts` when the load began.
    as_of: (u64, u64),
    loaded: Instant,
    /// How long it is believed at most.
    good_for: Option<Duration>,
}

impl Slot {
    fn as_of(&self) -> (u64, u64) {
        (self.changes.load(Ordering::Acquire), self.doubts.load(Ordering::Acquire))
    }

    /// What is known for certain.
    fn good(&self, as_of: (u64, u64)) -> Option<Result<Arc<Tenant>>> {
        let entry = self.entry.load();
        let entry = entry.as_ref().filter(|entry| entry.as_of == as_of)?;
        let believed = entry.good_for.is_none_or(|long| entry.loaded.elapsed() < long);
        believed.then(|| entry.tenant.clone().ok_or(Error::TenantUnknown))
    }

    /// What was known before any tenant may have changed. None if this one was named: then it may be suspended.
    fn last_known(&self, (changes, _): (u64, u64)) -> Option<Arc<Tenant>> {
        self.entry.load().as_ref().filter(|entry| entry.as_of.0 == changes)?.tenant.clone()
    }
}

/// The cache.
pub(super) struct RegistryCache {
    source: Arc<dyn Registry>,
    slots: Cache<TenantId, Arc<Slot>>,
    slugs: Cache<Slug, TenantId>,
    unknown: Cache<Slug, ()>,
    /// Told of every change that is heard of.
    news: Notify,
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
            news: Notify::new(),
        }
    }

    /// Resolves when the registry next says that something changed.
    pub(super) fn heard(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Whoever waits for that looks again, though nothing changed.
    pub(super) fn wake(&self) {
        self.news.notify_waiters();
    }

    pub(super) fn source(&self) -> &Arc<dyn Registry> {
        &self.source
    }

    /// A tenant in whatever state.
    pub(super) async fn get(&self, id: TenantId) -> Result<Arc<Tenant>> {
        let slot = self.slots.get(&id).unwrap_or_else(|| self.slots.get_with(id, Arc::default));
        if let Some(known) = slot.good(slot.as_of()) {
            return known;
        }
        timeout(LOAD_DEADLINE, self.load(id, &slot))
            .await
            .unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline")))
    }

    async fn load(&self, id: TenantId, slot: &Slot) -> Result<Arc<Tenant>> {
        let _flight = slot.loading.lock().await;
        loop {
            let as_of = slot.as_of();
            if let Some(known) = slot.good(as_of) {
                return known;
            }
            let (tenant, good_for) = self.ask(id, slot.last_known(as_of)).await?;
            let entry = Entry { tenant: tenant.clone(), as_of, loaded: Instant::now(), good_for };
            slot.entry.store(Some(Arc::new(entry)));
            // Changed while it was being read: read it again.
            if slot.as_of() == as_of {
                return tenant.ok_or(Error::TenantUnknown);
            }
        }
    }

    /// The tenant as the registry has it, or as last known while the registry is away; and how long to believe that.
    async fn ask(
        &self,
        id: TenantId,
        last_known: Option<Arc<Tenant>>,
    ) -> Result<(Option<Arc<Tenant>>, Option<Duration>)> {
        let patience = if last_known.is_some() { PATIENCE } else { LOAD_DEADLINE };
        let answer = timeout(patience, self.source.tenant_by_id(id)).await;
        let answer = match answer.unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline"))) {
            Ok(Some(tenant)) if tenant.id != id => Err(Error::control_plane("an answer for another tenant")),
            answer => answer,
        };
        match (answer, last_known) {
            (Ok(Some(tenant)), _) => Ok((Some(Arc::new(tenant)), None)),
            (Ok(None), _) => Ok((None, Some(UNKNOWN_FOR))),
            (Err(Error::ControlPlane(_)), Some(tenant)) => Ok((Some(tenant), Some(DOUBTED_FOR))),
            (Err(error), _) => Err(error),
        }
    }

    /// The tenant as the registry has it now, if that is newer than `known`: read once for all who ask meanwhile. `None`
    /// also if the registry is away.
    pub(super) async fn newer(&self, known: &Tenant) -> Option<Arc<Tenant>> {
        let slot = self.slots.get(&known.id)?;
        let asked = Instant::now();
        let mut flight = timeout(LOAD_DEADLINE, slot.loading.lock()).await.ok()?;
        let cached = slot.entry.load().as_ref().and_then(|entry| entry.tenant.clone());
        let has = cached.as_ref().map_or(i64::MIN, |cached| cached.generation);
        if has > known.generation {
            return cached;
        }
        // What was read since is in the cache, if there was anything newer.
        if flight.is_some_and(|began| began >= asked) {
            return None;
        }
        let (began, as_of) = (Instant::now(), slot.as_of());
        let read = timeout(LOAD_DEADLINE, self.source.tenant_by_id(known.id)).await;
        *flight = Some(began);
        let tenant = Arc::new(read.ok()?.ok()?.filter(|tenant| tenant.id == known.id)?);
        if tenant.generation > has {
            let entry = Entry { tenant: Some(tenant.clone()), as_of, loaded: Instant::now(), good_for: None };
            slot.entry.store(Some(Arc::new(entry)));
        }
        (tenant.generation > known.generation).then_some(tenant)
    }

    /// What is known by now of a tenant that was `known` before. Asks the registry if it has named the tenant since, or if
    /// nothing is kept of it here any more: it may have been suspended.
    pub(super) async fn latest(&self, known: &Arc<Tenant>) -> Result<Arc<Tenant>> {
        let slot = self.slots.get(&known.id);
        let latest = match slot.as_ref().and_then(|slot| slot.last_known(slot.as_of())) {
            Some(tenant) => tenant,
            // It may be made in a transaction under way, which nobody but its maker has heard of.
            None if slot.is_none() && known.status == TenantStatus::Provisioning => return Ok(known.clone()),
            None => self.get(known.id).await?,
        };
        Ok(if latest.generation > known.generation { latest } else { known.clone() })
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

    /// A tenant as it was last known here, without asking anybody.
    pub(super) fn peek(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.slots.get(&id)?.entry.load().as_ref()?.tenant.clone()
    }

    /// The registry announced a change of this tenant. Its slug still leads to it: whoever is found by it is asked for
    /// their name, and a tenant that just changed can be named while the control plane is down.
    pub(super) fn changed(&self, id: TenantId, slug: &Slug) {
        if let Some(slot) = self.slots.get(&id) {
            slot.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.unknown.invalidate(slug);
        self.news.notify_waiters();
    }

    /// Any tenant may have changed.
    pub(super) fn all_changed(&self) {
        self.unknown.invalidate_all();
        for (_, slot) in &self.slots {
            slot.doubts.fetch_add(1, Ordering::AcqRel);
        }
        self.news.notify_waiters();
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
pub(super) mod tests;
