//! One budget, and nodes that start while the control plane is away: none has a slice, and each sees whom it can see.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::join;
use tenantry::control::clusters::ClusterChanges;
use tenantry::router::{
    ClaimsOnly, ControlPlaneRegistry, MainDb, Registry as _, Router, RouterConfig, SnapshotSettings, Target,
};
use tenantry::testing::{Tenant, TestApp};

use super::slices::{Observer, ask, slice};
use crate::support::dir::Dir;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds};

const BUDGET: u32 = 4;
/// How long a slice is leased.
const TTL: Duration = Duration::from_millis(1500);

/// Tenants on a server where nobody else is, and the snapshot that nodes start from.
struct Ground {
    app: TestApp,
    server: Server,
    dir: Dir,
    tenants: Vec<Tenant>,
}

impl Ground {
    async fn new(tenants: usize) -> Self {
        let (app, server, dir) = (TestApp::builder().start().await, Server::start().await, Dir::new());
        app.cluster("apart", &server.target()).await;
        let budget = Some(Some(i32::try_from(BUDGET).unwrap()));
        let changes = ClusterChanges { connection_budget: budget, ..ClusterChanges::default() };
        app.fleet().set_cluster("apart", changes).await.unwrap();
        let mut made = Vec::new();
        for _ in 0..tenants {
            made.push(app.tenant_on("apart", "apart").await);
        }
        // Its own connections would be seen.
        app.router().shutdown().await;
        let ground = Self { app, server, dir, tenants: made };
        let control = ground.app.control();
        let keeper = ControlPlaneRegistry::new(control.db, control.keys).with_snapshot(ground.snapshot());
        keeper.installation().await.unwrap();
        eventually(seconds(10), "on disk", async || ground.is_on_disk().await).await;
        ground
    }

    fn snapshot(&self) -> SnapshotSettings {
        SnapshotSettings::new(self.dir.path().join("registry.redb"))
    }

    fn registry(&self) -> ControlPlaneRegistry {
        let nowhere = Target { host: "127.0.0.1".into(), port: 1, ..self.app.control_database().clone() };
        ControlPlaneRegistry::new(MainDb::new(nowhere, 1), self.app.control().keys).with_snapshot(self.snapshot())
    }

    async fn is_on_disk(&self) -> bool {
        let registry = self.registry();
        if registry.installation().await.is_err() {
            return false;
        }
        for tenant in &self.tenants {
            if registry.tenant_by_id(tenant.id).await.is_err() {
                return false;
            }
        }
        true
    }

    /// A node that has nothing but the snapshot.
    async fn node(&self) -> Router {
        let config = RouterConfig {
            slice_ttl: TTL,
            idle_timeout: Duration::from_millis(200),
            acquire_timeout: seconds(20),
            ..RouterConfig::new("http://tenantry.test")
        };
        Router::start(Arc::new(self.registry()), Arc::new(ClaimsOnly), config).await.unwrap()
    }

    async fn burst(&self, router: &Router) {
        let asked = (0..40).map(|number| ask(router, &self.tenants[number % self.tenants.len()]));
        for answer in join_all(asked).await {
            answer.unwrap();
        }
    }

    async fn words(&self, what: &str, router: &Router) -> Vec<String> {
        let name = router.node().application_name();
        let sql = format!("SELECT ({what})::text AS word FROM pg_stat_activity WHERE application_name = '{name}'");
        db::words(&self.server.target(), &sql).await
    }

    /// Nothing is open but what is there to be seen.
    async fn is_idle(&self, router: &Router) -> bool {
        self.words("pid", router).await.len() == 1
    }
}

#[actix_web::test]
async fn nodes_that_start_together_without_the_control_plane_do_not_each_take_the_budget() {
    let ground = Ground::new(6).await;
    let (one, two) = join!(ground.node(), ground.node());
    let observer = Observer::start(&ground.server.target(), &ground.tenants).await;
    join!(ground.burst(&one), ground.burst(&two));
    let (first, second) = (slice(&one), slice(&two));
    assert!(first == 1 || second == 1, "one of them saw the other: {first}, {second}");
    assert!(first + second <= BUDGET + 1, "{first} + {second}");
    let most = observer.most();
    assert!(most > 1 && most <= BUDGET as usize + 1, "{most} were open");
    // Whoever saw nobody looks again.
    let asked = async || {
        join!(ground.burst(&one), ground.burst(&two));
        slice(&one) + slice(&two) == 2
    };
    eventually(seconds(20), "each has seen the other", asked).await;
}

#[actix_web::test]
async fn a_node_without_the_control_plane_is_seen_by_the_next_one_however_idle_it_is() {
    let ground = Ground::new(6).await;
    let first = ground.node().await;
    let observer = Observer::start(&ground.server.target(), &ground.tenants).await;
    ground.burst(&first).await;
    assert_eq!(slice(&first), BUDGET, "alone it has all of it");
    assert!(observer.most() <= BUDGET as usize, "{} were open, what is there to be seen included", observer.most());
    eventually(seconds(20), "idle, and to be seen", async || ground.is_idle(&first).await).await;

    // What is lost is opened anew.
    let pid = ground.words("pid", &first).await.remove(0);
    assert_eq!(ground.words("pg_terminate_backend(pid)", &first).await, ["true"]);
    let again = async || ground.is_idle(&first).await && ground.words("pid", &first).await != [pid.clone()];
    eventually(seconds(20), "to be seen again", again).await;
    ground.burst(&first).await;
    assert_eq!(slice(&first), BUDGET, "it is still alone");
    eventually(seconds(20), "idle again", async || ground.is_idle(&first).await).await;

    let second = ground.node().await;
    ground.burst(&second).await;
    assert_eq!(slice(&second), 1, "it saw the first");
    assert!(observer.most() <= BUDGET as usize + 1, "{} were open", observer.most());
}

#[actix_web::test]
async fn a_cluster_that_was_away_is_served_in_full_again_without_the_control_plane() {
    let mut ground = Ground::new(2).await;
    let node = ground.node().await;
    ground.burst(&node).await;
    assert_eq!(slice(&node), BUDGET, "alone it has all of it");
    ground.server.stop().await;
    let gone = Instant::now();
    let long = async || ask(&node, &ground.tenants[0]).await.is_err() && gone.elapsed() > 2 * TTL;
    eventually(seconds(60), "away for longer than a slice is leased", long).await;
    ground.server.restart().await;
    let served = async || ask(&node, &ground.tenants[0]).await.is_ok() && slice(&node) == BUDGET;
    eventually(seconds(60), "served, and alone as before", served).await;
}
