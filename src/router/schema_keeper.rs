//! A request that needs a newer schema than its tenant has: the tenant jumps the queue and is migrated at once, and the
//! request waits for it, though not for long.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::error::{Error, Result};
use crate::kernel::TenantId;

/// How long a request waits for the schema that it needs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A tenant that could not be migrated is left alone for so long, whoever asks.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Tenants that this node migrates at the same time because somebody waits.
const AT_ONCE: usize = 4;
/// How long a tenant keeps one of those places at most. Its migration is broken off then; a later try goes on from
/// there.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// Tenants that may wait for their turn; more than that are refused.
const MOST: usize = 1_000;

/// Brings a tenant's database to the head of the migrations.
#[async_trait]
pub trait SchemaKeeper: Send + Sync + 'static {
    /// Brings it there, and says so in the registry.
    ///
    /// # Errors
    /// Whatever keeps it from that, for the log.
    async fn bring_up(&self, tenant: TenantId) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Upgrades(Arc<Inner>);

struct Inner {
    keeper: OnceLock<Arc<dyn SchemaKeeper>>,
    /// Each tells when it is over. It stays for a while if it failed.
    under_way: Mutex<HashMap<TenantId, watch::Receiver<bool>>>,
    places: Semaphore,
    longest: Duration,
}

impl Inner {
    fn new(longest: Duration) -> Self {
        Self { keeper: OnceLock::new(), under_way: Mutex::default(), places: Semaphore::new(AT_ONCE), longest }
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self::new(LONGEST)
    }
}

impl fmt::Debug for Upgrades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrades")
    }
}

impl Upgrades {
    /// Who migrates. Said once.
    pub(super) fn keep_by(&self, keeper: Arc<dyn SchemaKeeper>) {
        // Said a second time, the first one stays.
        let _ = self.0.keeper.set(keeper);
    }

    /// Has the tenant migrated, and waits until that is over, well or not.
    ///
    /// # Errors
    /// [`Error::SchemaOutdated`] if nobody can, or it takes too long.
    pub(super) async fn wait_for(&self, tenant: TenantId) -> Result<()> {
        let outdated = || Error::SchemaOutdated { retry_after: AGAIN_AFTER };
        let mut over = self.begin(tenant).ok_or_else(outdated)?;
        match timeout(PATIENCE, over.wait_for(|over| *over)).await {
            // Its sender is gone without a word: the task was stopped.
            Ok(Ok(_) | Err(_)) => Ok(()),
            Err(_) => Err(outdated()),
        }
    }

    fn begin(&self, tenant: TenantId) -> Option<watch::Receiver<bool>> {
        let keeper = self.0.keeper.get()?.clone();
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over) = under_way.get(&tenant) {
            return Some(over.clone());
        }
        if under_way.len() >= MOST {
            return None;
        }
        let (tell, over) = watch::channel(false);
        under_way.insert(tenant, over.clone());
        drop(under_way);
        let entry = Entry { upgrades: self.clone(), tenant };
        tokio::spawn(async move {
            let upgrades = &entry.upgrades.0;
            let place = upgrades.places.acquire().await;
            let done = timeout(upgrades.longest, keeper.bring_up(tenant)).await;
            drop(place);
            tell.send_replace(true);
            if let Err(cause) = done.unwrap_or_else(|_| Err("it took too long and was broken off".into())) {
                tracing::warn!(%tenant, %cause, "a tenant that somebody waits for could not be migrated");
                sleep(AGAIN_AFTER).await;
            }
            drop(entry);
        });
        Some(over)
    }
}

/// A tenant's entry among those under way. It goes however the migration ends, by a panic too.
struct Entry {
    upgrades: Upgrades,
    tenant: TenantId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.upgrades.0.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;
    use std::future::pending;

    use super::*;

    /// Hangs with some tenants, and breaks with one.
    struct Frail {
        hanging: Vec<TenantId>,
        broken: TenantId,
    }

    #[async_trait]
    impl SchemaKeeper for Frail {
        async fn bring_up(&self, tenant: TenantId) -> std::result::Result<(), Box<dyn StdError + Send + Sync>> {
            assert_ne!(tenant, self.broken, "as it shall");
            if self.hanging.contains(&tenant) { pending().await } else { Ok(()) }
        }
    }

    fn upgrades(keeper: Frail) -> Upgrades {
        let upgrades = Upgrades(Arc::new(Inner::new(Duration::from_millis(50))));
        upgrades.keep_by(Arc::new(keeper));
        upgrades
    }

    #[tokio::test]
    async fn who_hangs_gives_the_place_back() {
        let hanging: Vec<_> = (0..AT_ONCE).map(|_| TenantId::generate()).collect();
        let upgrades = upgrades(Frail { hanging: hanging.clone(), broken: TenantId::generate() });
        for tenant in hanging {
            upgrades.begin(tenant).unwrap();
        }
        upgrades.wait_for(TenantId::generate()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_leaves_no_entry_behind() {
        let broken = TenantId::generate();
        let upgrades = upgrades(Frail { hanging: Vec::new(), broken });
        upgrades.wait_for(broken).await.unwrap();
        assert!(upgrades.0.under_way.lock().unwrap().is_empty());
    }
}
