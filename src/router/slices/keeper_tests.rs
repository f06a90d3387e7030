//! The keeper against a control plane that falls silent, and a cluster on which it cannot show itself.

use std::sync::atomic::{AtomicU32, AtomicUsize};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::*;
use crate::kernel::{InstallationId, Slug, TenantId};
use crate::router::caught::Caught;
use crate::router::connect::{Target, TlsMode, TlsPolicy};
use crate::router::error::{Error, Result};
use crate::router::pools::{Mode, PoolSettings, TenantPoolManager};
use crate::router::registry::{Changes, Installation};
use crate::router::slices::Pulse;
use crate::router::slices::anchor::stay_visible;
use crate::router::tenant::{ClusterRef, Registration, TenantKind, TenantStatus};

pub(in crate::router::slices) const SLICE: u32 = 6;
pub(in crate::router::slices) const BUDGET: u32 = 12;

pub(in crate::router::slices) struct Plane {
    up: AtomicBool,
    others: AtomicU32,
    /// The lease is said to have run out, and no claim is answered.
    lapsed: AtomicBool,
    /// The next claim panics.
    brittle: AtomicBool,
    refused: AtomicUsize,
    looks: Mutex<Vec<ClusterId>>,
    /// Ends two looks once both have begun.
    both: Barrier,
    /// A cluster that cannot be looked at.
    away: ClusterId,
    /// Announcements without end, and how many there were.
    restless: AtomicBool,
    announced: AtomicUsize,
}

impl Plane {
    pub(in crate::router::slices) fn new(up: bool, others: u32) -> Arc<Self> {
        Arc::new(Self {
            up: up.into(),
            others: others.into(),
            lapsed: false.into(),
            brittle: false.into(),
            refused: AtomicUsize::new(0),
            looks: Mutex::default(),
            both: Barrier::new(2),
            away: ClusterId::generate(),
            restless: false.into(),
            announced: AtomicUsize::new(0),
        })
    }

    fn answer<T>(&self, answer: T) -> Result<T> {
        if self.up.load(Ordering::SeqCst) {
            return Ok(answer);
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(Error::control_plane("down"))
    }
}

#[async_trait]
impl Registry for Plane {
    async fn installation(&self) -> Result<Installation> {
        Err(Error::TenantUnknown)
    }
    async fn tenant_by_id(&self, _: TenantId) -> Result<Option<Tenant>> {
        Ok(None)
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
    async fn renew_node(&self, _: NodeId, _: Duration) -> Result<Pulse> {
        let (lapsed, others) = (self.lapsed.load(Ordering::SeqCst), self.others.load(Ordering::SeqCst));
        self.answer(Pulse { lapsed, others, ..Pulse::default() })
    }
    async fn claim_slice(&self, claim: SliceClaim) -> Result<SliceGrant> {
        assert!(claim.in_use <= claim.held);
        assert!(!self.brittle.swap(false, Ordering::SeqCst), "on purpose");
        if self.lapsed.load(Ordering::SeqCst) {
            return Err(Error::control_plane("no claim is answered"));
        }
        let (slice, budget) = (SLICE.min(claim.budget), BUDGET.min(claim.budget));
        self.answer(SliceGrant { slice, yield_to: None, budget, others: 1 })
    }
    async fn reclaim_slices(&self, cluster: ClusterId, gap: Duration) -> Result<usize> {
        self.looks.lock().unwrap().push(cluster);
        self.both.wait().await;
        if cluster == self.away { Err(Error::DatabaseUnavailable { retry_after: gap, source: None }) } else { Ok(0) }
    }
    async fn budget_announced(&self) -> Result<()> {
        let before = self.announced.fetch_add(1, Ordering::SeqCst);
        if self.restless.load(Ordering::SeqCst) && before < 1000 { Ok(()) } else { std::future::pending().await }
    }
}

/// A tenant of a cluster that nobody listens at.
fn tenant() -> Arc<Tenant> {
    tenant_at("c", 1)
}

/// A tenant of a cluster of this name, at this port here.
pub(in crate::router::slices) fn tenant_at(cluster: &str, port: u16) -> Arc<Tenant> {
    let target = Target {
        host: "127.0.0.1".into(),
        port,
        database: "d".into(),
        user: "u".into(),
        password: String::new().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    };
    Arc::new(Tenant {
        id: TenantId::generate(),
        slug: "acme".parse().unwrap(),
        name: "Acme".into(),
        status: TenantStatus::Active,
        kind: TenantKind::Shared,
        registration: Registration::Closed,
        cluster: ClusterRef { id: ClusterId::generate(), name: cluster.into(), connection_budget: Some(BUDGET) },
        target: Arc::new(target.clone()),
        direct: Arc::new(target),
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
    })
}

/// Pools whose slices are kept.
fn pools(plane: &Arc<Plane>) -> Arc<TenantPoolManager> {
    let settings = PoolSettings {
        node: NodeId::generate(),
        slice_ttl: Duration::from_millis(300),
        cluster_budget: 80,
        tenant_max_connections: 10,
        acquire_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(10),
        connect: ConnectOptions::default(),
        check_stamp: true,
    };
    let manager =
        Arc::new(TenantPoolManager::new(settings, InstallationId::generate(), Arc::new(Caught(plane.clone()))));
    tokio::spawn(manager.clone().keep_slices());
    manager
}

async fn start(up: bool, others: u32) -> (Arc<Plane>, Arc<TenantPoolManager>) {
    let plane = Plane::new(up, others);
    let manager = pools(&plane);
    assert!(manager.acquire(&tenant(), Mode::Shared).await.is_err(), "nobody listens there");
    (plane, manager)
}

fn slice(manager: &TenantPoolManager) -> u32 {
    manager.slices().iter().map(|(_, slice, _)| *slice).sum()
}

pub(in crate::router::slices) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Well past the lease.
async fn long_silence(plane: &Plane) {
    let (from, begun) = (plane.refused.load(Ordering::SeqCst), Instant::now());
    plane.up.store(false, Ordering::SeqCst);
    until("asked in vain", || {
        plane.refused.load(Ordering::SeqCst) > from + 5 && begun.elapsed() > Duration::from_millis(900)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_cannot_be_seen_opens_nothing_while_others_live() {
    let (plane, manager) = start(true, 1).await;
    until("a slice", || slice(&manager) == SLICE).await;
    plane.up.store(false, Ordering::SeqCst);
    until("nothing is opened", || slice(&manager) == 0).await;
    plane.up.store(true, Ordering::SeqCst);
    until("it has its slice again", || slice(&manager) == SLICE).await;
}

#[tokio::test]
async fn a_slice_that_may_have_been_taken_back_is_not_relied_on_without_a_grant() {
    let (plane, manager) = start(true, 1).await;
    until("a slice", || slice(&manager) == SLICE).await;
    plane.lapsed.store(true, Ordering::SeqCst);
    until("nothing is opened", || slice(&manager) == 0).await;
    long_silence(&plane).await;
    assert_eq!(slice(&manager), 0, "silence is no grant");
    plane.lapsed.store(false, Ordering::SeqCst);
    plane.up.store(true, Ordering::SeqCst);
    until("it has its slice again", || slice(&manager) == SLICE).await;
}

#[tokio::test]
async fn a_budget_of_nothing_is_one_connection() {
    let manager = pools(&Plane::new(true, 0));
    let mut tenant = Arc::into_inner(tenant()).unwrap();
    tenant.cluster.connection_budget = Some(0);
    assert!(manager.acquire(&Arc::new(tenant), Mode::Shared).await.is_err(), "nobody listens there");
    until("one", || slice(&manager) == 1).await;
}

#[tokio::test]
async fn a_node_alone_goes_on() {
    let (plane, manager) = start(true, 0).await;
    until("a slice", || slice(&manager) == SLICE).await;
    long_silence(&plane).await;
    assert_eq!(slice(&manager), SLICE);
}

#[tokio::test]
async fn a_node_without_any_slice_serves_with_one_connection() {
    let (plane, manager) = start(false, 0).await;
    until("one", || slice(&manager) == 1).await;
    long_silence(&plane).await;
    assert_eq!(slice(&manager), 1, "not to be told from a cluster where others are");
    plane.up.store(true, Ordering::SeqCst);
    until("a slice", || slice(&manager) == SLICE).await;
}

#[tokio::test]
async fn a_claim_that_panics_is_made_again() {
    let plane = Plane::new(true, 0);
    plane.brittle.store(true, Ordering::SeqCst);
    let manager = pools(&plane);
    assert!(manager.acquire(&tenant(), Mode::Shared).await.is_err(), "nobody listens there");
    until("a slice", || slice(&manager) == SLICE).await;
    assert!(!plane.brittle.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_cluster_that_is_away_keeps_nobody_from_the_others() {
    let plane = Plane::new(true, 1);
    let ttl = Duration::from_secs(600);
    let keeper = Keeper::new(plane.clone(), NodeId::generate(), ttl, BUDGET, ConnectOptions::default());
    let [first, second] = [ClusterId::generate(), ClusterId::generate()];
    for orphaned in [vec![plane.away, first], vec![plane.away, first, second]] {
        keeper.lock().orphaned.extend(orphaned);
        timeout(Duration::from_secs(10), keeper.reclaim_all()).await.expect("two at once, and two in all");
    }
    let looks = plane.looks.lock().unwrap();
    let count = |cluster| looks.iter().filter(|look| **look == cluster).count();
    assert_eq!((count(plane.away), count(first), count(second)), (1, 2, 1), "{looks:?}");
}

#[tokio::test]
async fn clusters_that_hang_keep_no_other_from_its_first_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let manager = pools(&Plane::new(false, 0));
    let ask = |tenant: Arc<Tenant>| {
        let manager = manager.clone();
        tokio::spawn(async move { manager.acquire(&tenant, Mode::Shared).await.map(drop) });
    };
    for number in 0..12 {
        ask(tenant_at(&format!("hangs {number}"), port));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    ask(tenant_at("well", 1));
    let begun = Instant::now();
    let has_one = || manager.slices().iter().any(|(name, slice, _)| name == "well" && *slice >= 1);
    until("a connection", has_one).await;
    // One look that hangs takes three seconds.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn announcements_without_end_take_nobodys_turn() {
    let plane = Plane::new(true, 0);
    plane.restless.store(true, Ordering::SeqCst);
    let _pools = pools(&plane);
    while plane.announced.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    assert!(plane.announced.load(Ordering::SeqCst) < 1000, "others have their turn in between");
}

#[test]
fn a_grant_that_the_end_of_the_lease_has_overtaken_is_not_relied_on() {
    let ttl = Duration::from_secs(600);
    let keeper = Keeper::new(Plane::new(true, 1), NodeId::generate(), ttl, BUDGET, ConnectOptions::default());
    let tenant = tenant();
    let mut entry = Entry::new(&tenant, BUDGET, Arc::new(Demand::new(BUDGET, Arc::default())));
    (entry.slice, entry.others) = (Some(SLICE), 1);
    let id = tenant.cluster.id;
    keeper.lock().entries.insert(id, entry);
    let begin = || {
        let mut state = keeper.lock();
        let entry = state.entries.get_mut(&id).unwrap();
        keeper.begin(id, entry, Instant::now())
    };
    let grant = SliceGrant { slice: SLICE, yield_to: None, budget: BUDGET, others: 1 };
    for (overtaken, allowed) in [(true, 0), (false, SLICE)] {
        begin();
        if overtaken {
            let mut state = keeper.lock();
            let entry = state.entries.get_mut(&id).unwrap();
            (entry.lost_sight, entry.failed) = (true, true);
            entry.lapsed(true, ttl);
        }
        keeper.take(id, grant);
        let state = keeper.lock();
        assert!(!state.entries[&id].failed, "it was answered: it is claimed again at once");
        assert_eq!((state.entries[&id].allowed(), state.entries[&id].claiming), (allowed, false));
    }
}

#[test]
fn to_be_seen_again_does_not_make_up_for_a_while_unseen() {
    let (gap, begun) = (Duration::from_secs(60), Instant::now());
    let mut entry = Entry::new(&tenant(), BUDGET, Arc::new(Demand::new(BUDGET, Arc::default())));
    // Of one connection none is kept to be seen: it is taken to be.
    entry.slice = Some(1);
    for (later, unseen) in [(gap, false), (gap * 3, true), (gap * 3, true)] {
        stay_visible(&mut entry, begun + later, gap);
        assert_eq!((entry.seen, entry.lost_sight), (begun + later, unseen));
    }
    entry.lapsed(false, gap);
    assert!(entry.confirm && !entry.fenced, "nobody else was there to take it back");
    entry.lapsed(true, gap);
    assert_eq!(entry.allowed(), 0);
}
