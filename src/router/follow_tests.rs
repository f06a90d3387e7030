//! Following a registry that takes its time.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::kernel::{InstallationId, Slug};
use crate::router::connect::ConnectOptions;
use crate::router::error::Result;
use crate::router::pools::{Mode, PoolSettings};
use crate::router::registry::tests::tenant;
use crate::router::registry::{Changes, Installation, Registry};
use crate::router::slices::NodeId;
use crate::router::tenant::{Tenant, TenantStatus};

const READ: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

/// Answers for a tenant only after a while.
#[derive(Default)]
struct Slow {
    suspended: Mutex<HashMap<TenantId, i64>>,
    changes: Mutex<VecDeque<Changes>>,
    news: Notify,
    /// Announcements without end, and how many there were.
    restless: AtomicBool,
    announced: AtomicUsize,
    /// Whether it says what changed, and that it was asked though it does not.
    mute: AtomicBool,
    refused: Notify,
}

impl Slow {
    fn announce(&self, changes: Changes) {
        self.changes.lock().unwrap().push_back(changes);
        self.news.notify_one();
    }
}

#[async_trait]
impl Registry for Slow {
    async fn installation(&self) -> Result<Installation> {
        Err(Error::TenantUnknown)
    }
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        let suspended = self.suspended.lock().unwrap().get(&id).copied();
        tokio::time::sleep(READ).await;
        let status = if suspended.is_some() { TenantStatus::Suspended } else { TenantStatus::Active };
        Ok(Some(Tenant { generation: suspended.unwrap_or(1), ..tenant(id, status) }))
    }
    async fn id_by_slug(&self, _: &Slug) -> Result<Option<TenantId>> {
        Ok(None)
    }
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        if self.mute.load(Ordering::SeqCst) {
            self.refused.notify_one();
            return Err(Error::control_plane("on purpose"));
        }
        let next = self.changes.lock().unwrap().pop_front();
        Ok(next.unwrap_or_else(|| Changes { generation: generation.unwrap_or(0), ..Changes::default() }))
    }
    async fn announced(&self) -> Result<()> {
        let before = self.announced.fetch_add(1, Ordering::SeqCst);
        if !self.restless.load(Ordering::SeqCst) || before >= 1000 {
            self.news.notified().await;
        }
        Ok(())
    }
}

fn pools(registry: Arc<Slow>) -> Arc<TenantPoolManager> {
    let settings = PoolSettings {
        node: NodeId::generate(),
        slice_ttl: LONG,
        cluster_budget: 80,
        tenant_max_connections: 10,
        acquire_timeout: LONG,
        idle_timeout: LONG,
        drain_timeout: LONG,
        connect: ConnectOptions::default(),
        check_stamp: true,
    };
    Arc::new(TenantPoolManager::new(settings, InstallationId::generate(), registry))
}

#[tokio::test]
async fn announcements_without_end_take_nobodys_turn() {
    let source = Arc::new(Slow { restless: true.into(), ..Slow::default() });
    let (registry, pools) = (Arc::new(RegistryCache::new(source.clone())), pools(source.clone()));
    let following = tokio::spawn(follow(registry, pools, Arc::default(), Clock::system(), 1));
    while source.announced.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    assert!(source.announced.load(Ordering::SeqCst) < 1000, "others have their turn in between");
    following.abort();
}

#[tokio::test]
async fn what_does_not_answer_is_asked_at_the_polls_pace_whatever_it_announces() {
    let source = Arc::new(Slow { restless: true.into(), mute: true.into(), ..Slow::default() });
    let (registry, pools) = (Arc::new(RegistryCache::new(source.clone())), pools(source.clone()));
    let following = tokio::spawn(follow(registry, pools, Arc::default(), Clock::system(), 1));
    source.refused.notified().await;
    source.refused.notified().await;
    assert_eq!(source.announced.load(Ordering::SeqCst), 1, "before it was known to be away");
    source.mute.store(false, Ordering::SeqCst);
    while source.announced.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    following.abort();
}

#[tokio::test]
async fn a_suspension_is_heard_of_while_many_tenants_are_read() {
    let source = Arc::new(Slow::default());
    let (registry, pools) = (Arc::new(RegistryCache::new(source.clone())), pools(source.clone()));
    let ids: Vec<_> = (0..100).map(|_| TenantId::generate()).collect();
    futures_util::future::join_all(ids.iter().map(|id| registry.get(*id))).await;
    for id in &ids {
        // Nobody claims a slice: they wait, and so the pools know the tenants.
        let (pools, tenant) = (pools.clone(), Arc::new(tenant(*id, TenantStatus::Active)));
        tokio::spawn(async move { pools.acquire(&tenant, Mode::Shared).await.map(drop) });
    }
    while !ids.iter().all(|id| pools.is_known(*id)) {
        tokio::task::yield_now().await;
    }
    let rollout = Arc::<Rollout>::default();
    let following = tokio::spawn(follow(registry.clone(), pools.clone(), rollout, Clock::system(), 1));
    source.announce(Changes { generation: 2, reset: true, ..Changes::default() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let last = *ids.last().expect("a hundred");
    source.suspended.lock().unwrap().insert(last, 3);
    source.announce(Changes { generation: 3, tenants: vec![(last, "acme".parse().unwrap())], ..Changes::default() });
    // One after another they take five seconds.
    let begun = Instant::now();
    loop {
        let known = registry.get(last).await.unwrap().status;
        if known == TenantStatus::Suspended && !pools.is_known(last) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{known}, and its pool is {:?}", pools.snapshot(last));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    following.abort();
}

#[test]
fn a_changed_tenant_waits_once_to_be_read() {
    let [first, second] = [TenantId::generate(), TenantId::generate()];
    let changed = Changed::default();
    let next = || changed.take(|| unreachable!("none was left out"));
    changed.add([first, second, first].into_iter(), false);
    changed.add([first].into_iter(), false);
    assert_eq!(next(), Some(first));
    // It changed while it was read.
    changed.add([first].into_iter(), false);
    assert_eq!([next(), next(), next()], [Some(second), Some(first), None]);
}

#[test]
fn where_too_many_wait_every_tenant_with_a_pool_is_read() {
    let changed = Changed::default();
    let (many, last): (Vec<_>, _) = ((0..MOST_WAITING).map(|_| TenantId::generate()).collect(), TenantId::generate());
    changed.add(many.iter().copied().chain([last]), false);
    assert_eq!(changed.waiting.lock().unwrap().order.len(), MOST_WAITING);
    let known = [last, many[0]];
    let next = || changed.take(|| known.to_vec());
    for id in many {
        assert_eq!(next(), Some(id));
    }
    assert_eq!([next(), next(), next()], [Some(last), Some(known[1]), None]);
    // The same where nobody can tell which have changed.
    changed.add(std::iter::empty(), true);
    assert_eq!([next(), next(), next()], [Some(last), Some(known[1]), None]);
}
