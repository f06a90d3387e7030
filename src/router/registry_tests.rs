//! The cache against a registry that answers when it is told to.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use super::*;
use crate::kernel::crypto::random;
use crate::router::connect::{Target, TlsMode, TlsPolicy};
#[cfg(feature = "server")]
use crate::router::hold::Asker;
use crate::router::tenant::{ClusterRef, Registration, TenantKind};
use crate::router::{ClaimsOnly, Router, RouterConfig, TenantConn};

struct Source {
    status: Mutex<Option<TenantStatus>>,
    loads: AtomicUsize,
    gate: Semaphore,
    down: std::sync::atomic::AtomicBool,
    /// Whom it speaks of, whoever is asked for.
    another: Mutex<Option<TenantId>>,
    /// Whether its tenants have another schema by now.
    migrated: std::sync::atomic::AtomicBool,
    /// Until when they are held.
    held: Mutex<Option<chrono::DateTime<chrono::Utc>>>,
}

pub(in crate::router) fn tenant(id: TenantId, status: TenantStatus) -> Tenant {
    let target = Target {
        host: "localhost".into(),
        port: 5432,
        database: "d".into(),
        user: "u".into(),
        password: String::new().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    };
    let target = Arc::new(target);
    Tenant {
        id,
        slug: "acme".parse().unwrap(),
        name: "Acme".into(),
        status,
        kind: TenantKind::Shared,
        registration: Registration::Closed,
        cluster: ClusterRef { id: uuid::Uuid::nil().into(), name: "c".into(), connection_budget: None },
        target: target.clone(),
        direct: target,
        max_connections: None,
        weight: 1,
        plan: None,
        schema_version: 1,
        migrations_hash: None,
        epoch: 1,
        generation: 1,
        created_at: chrono::DateTime::default(),
        held_until: None,
        verification_keys: vec![],
        signing_keys: Vec::new(),
    }
}

#[async_trait]
impl Registry for Source {
    async fn installation(&self) -> Result<Installation> {
        Ok(Installation { id: InstallationId::generate(), mac: MacKey::new(&random::<32>()) })
    }
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let read = *self.status.lock().unwrap();
        let down = self.down.load(Ordering::SeqCst);
        let _turn = self.gate.acquire().await.map_err(Error::control_plane)?;
        if down {
            return Err(Error::control_plane("down"));
        }
        let another = *self.another.lock().unwrap();
        let migrated = self.migrated.load(Ordering::SeqCst);
        let schema_version = 1 + i32::from(migrated);
        // Another is newer than what is known, if it were believed.
        let generation = 1 + i64::from(another.is_some() || migrated);
        let held_until = *self.held.lock().unwrap();
        let told = |status| Tenant { generation, schema_version, held_until, ..tenant(another.unwrap_or(id), status) };
        Ok(read.map(told))
    }
    async fn id_by_slug(&self, _: &Slug) -> Result<Option<TenantId>> {
        Ok(None)
    }
    async fn changes_since(&self, _: Option<i64>) -> Result<Changes> {
        Ok(Changes::default())
    }
    async fn announced(&self) -> Result<()> {
        std::future::pending().await
    }
}

fn source(permits: usize) -> Arc<Source> {
    Arc::new(Source {
        status: Mutex::new(Some(TenantStatus::Active)),
        loads: AtomicUsize::new(0),
        gate: Semaphore::new(permits),
        down: false.into(),
        another: Mutex::default(),
        migrated: false.into(),
        held: Mutex::default(),
    })
}

#[tokio::test]
async fn a_slow_load_never_hides_a_newer_change() {
    let source = source(0);
    let cache = Arc::new(RegistryCache::new(source.clone()));
    let id = TenantId::generate();
    let slow = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(id).await }
    });
    while source.loads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The load has read "active" and hangs; now the tenant is suspended, and the change is announced.
    *source.status.lock().unwrap() = Some(TenantStatus::Suspended);
    cache.changed(id, &"acme".parse().unwrap());
    source.gate.add_permits(10);
    assert_eq!(slow.await.unwrap().unwrap().status, TenantStatus::Suspended);
    assert_eq!(cache.get(id).await.unwrap().status, TenantStatus::Suspended);
}

#[tokio::test]
async fn one_load_serves_all_and_known_tenants_outlive_the_source() {
    let source = source(10);
    let cache = RegistryCache::new(source.clone());
    let id = TenantId::generate();
    let all = futures_util::future::join_all((0..20).map(|_| cache.get(id))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(source.loads.load(Ordering::SeqCst), 1, "single flight");
    source.down.store(true, Ordering::SeqCst);
    assert!(cache.get(id).await.is_ok(), "served from memory");
    cache.changed(id, &"acme".parse().unwrap());
    assert!(matches!(cache.get(id).await, Err(Error::ControlPlane(_))), "a known change fails closed");
}

#[tokio::test]
async fn an_answer_for_another_tenant_is_none() {
    let source = source(10);
    let cache = RegistryCache::new(source.clone());
    let known = cache.get(TenantId::generate()).await.unwrap();
    *source.another.lock().unwrap() = Some(TenantId::generate());
    assert!(cache.newer(&known).await.is_none());
    assert_eq!(cache.peek(known.id).unwrap().id, known.id);
    assert!(matches!(cache.get(TenantId::generate()).await, Err(Error::ControlPlane(_))));
    cache.changed(known.id, &known.slug);
    assert!(matches!(cache.get(known.id).await, Err(Error::ControlPlane(_))), "a known change fails closed");
}

#[tokio::test]
async fn many_who_ask_for_something_newer_share_a_read() {
    let source = source(1);
    let cache = RegistryCache::new(source.clone());
    let known = cache.get(TenantId::generate()).await.unwrap();
    source.gate.forget_permits(1);
    let all = futures_util::future::join_all((0..100).map(|_| cache.newer(&known)));
    let answer = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        source.gate.add_permits(1);
    };
    let (found, ()) = tokio::join!(all, answer);
    assert!(found.iter().all(Option::is_none));
    // The one that was under way when most of them came may have begun before a change that they know of.
    let reads = source.loads.load(Ordering::SeqCst) - 1;
    assert!(reads <= 2, "{reads} reads");
}

#[tokio::test]
async fn when_any_tenant_may_have_changed_known_ones_outlive_the_source_too() {
    let source = source(10);
    let cache = RegistryCache::new(source.clone());
    let id = TenantId::generate();
    cache.get(id).await.unwrap();
    source.down.store(true, Ordering::SeqCst);
    cache.all_changed();
    assert_eq!(cache.get(id).await.unwrap().status, TenantStatus::Active, "as last known");
    let asked = source.loads.load(Ordering::SeqCst);
    cache.get(id).await.unwrap();
    assert_eq!(source.loads.load(Ordering::SeqCst), asked, "nobody else waits for it now");
    // It answers again, and says what had changed.
    *source.status.lock().unwrap() = Some(TenantStatus::Suspended);
    source.down.store(false, Ordering::SeqCst);
    cache.all_changed();
    assert_eq!(cache.get(id).await.unwrap().status, TenantStatus::Suspended);
}

/// Of work that is under way.
#[tokio::test]
async fn a_tenant_that_was_named_is_not_served_unread() {
    let source = source(10);
    let cache = RegistryCache::new(source.clone());
    let (id, slug) = (TenantId::generate(), "acme".parse().unwrap());
    let known = cache.get(id).await.unwrap();
    source.down.store(true, Ordering::SeqCst);
    cache.all_changed();
    assert_eq!(cache.latest(&known).await.unwrap().status, TenantStatus::Active, "any may have changed");
    cache.changed(id, &slug);
    assert!(matches!(cache.latest(&known).await, Err(Error::ControlPlane(_))), "it may have been suspended");
    source.down.store(false, Ordering::SeqCst);
    *source.status.lock().unwrap() = None;
    assert!(matches!(cache.latest(&known).await, Err(Error::TenantUnknown)), "it was erased");
}

#[tokio::test]
async fn a_tenant_that_is_not_kept_any_more_is_not_served_unread() {
    let source = source(10);
    let cache = RegistryCache::new(source.clone());
    let known = cache.get(TenantId::generate()).await.unwrap();
    let making = Arc::new(tenant(TenantId::generate(), TenantStatus::Provisioning));
    cache.slots.invalidate(&known.id);
    source.down.store(true, Ordering::SeqCst);
    assert!(matches!(cache.latest(&known).await, Err(Error::ControlPlane(_))));
    assert_eq!(cache.latest(&making).await.unwrap().id, making.id, "its maker alone has it");
}

/// A [`TenantDb`] that was kept.
#[tokio::test]
async fn a_kept_database_is_refused_like_a_new_one() {
    let source = source(10);
    let config = RouterConfig::new("http://localhost");
    let router = Router::start(source.clone(), Arc::new(ClaimsOnly), config).await.unwrap();
    let id = TenantId::generate();
    let db = router.of_tenant(id).await.unwrap();
    source.down.store(true, Ordering::SeqCst);
    router.0.registry.changed(id, &"acme".parse().unwrap());
    let read = db.read(async |_: &mut TenantConn| -> Result<()> { Ok(()) }).await;
    assert!(matches!(read, Err(Error::ControlPlane(_))), "{read:?}");
    router.shutdown().await;
}

/// Work that no request brings waits no longer for a held tenant since its schema was behind.
#[cfg(feature = "server")]
#[tokio::test]
async fn a_database_whose_schema_was_behind_is_for_the_same_asker() {
    let source = source(10);
    let config = RouterConfig::new("http://localhost");
    let router = Router::start(source.clone(), Arc::new(ClaimsOnly), config).await.unwrap();
    let id = TenantId::generate();
    let db = router.of_tenant(id).await.unwrap();
    source.migrated.store(true, Ordering::SeqCst);
    let newer = router.at_schema(db.clone(), 2).await.unwrap();
    assert_eq!((db.tenant().schema_version, newer.tenant().schema_version), (1, 2));
    assert_eq!((db.asker, newer.asker), (Asker::Background, Asker::Background));
    router.shutdown().await;
}

#[tokio::test]
async fn nobody_waits_for_a_held_tenant_of_a_router_that_has_ended() {
    let source = source(10);
    let long = Duration::from_secs(60);
    let config = RouterConfig { hold_timeout: long, ..RouterConfig::new("http://localhost") };
    *source.held.lock().unwrap() = Some(config.clock.now() + long);
    let router = Router::start(source.clone(), Arc::new(ClaimsOnly), config).await.unwrap();
    let db = router.of_tenant(TenantId::generate()).await.unwrap();
    let read = || db.read(async |_: &mut TenantConn| -> Result<()> { Ok(()) });
    let refused = timeout(Duration::from_secs(20), async {
        let (waiting, ()) = tokio::join!(read(), router.shutdown());
        [waiting, read().await]
    });
    for refused in refused.await.expect("at once") {
        assert!(matches!(refused, Err(Error::TenantUnavailable { .. })), "{refused:?}");
    }
}
