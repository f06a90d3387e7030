//! One budget, several nodes: what each may use, and what becomes of it when a node goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use futures_util::join;
use tenantry::control::clusters::ClusterChanges;
use tenantry::router::{
    ClaimsOnly, ControlPlaneRegistry, Error, NodeId, Registry as _, Result, Router, RouterConfig, SliceClaim, Target,
    TenantConn, TenantHints,
};
use tenantry::testing::{Tenant, TestApp};

use crate::support::binary::run_with;
use crate::support::servers::Server;
use crate::support::{binary, db, eventually, seconds};

const BUDGET: u32 = 8;
const TTL: (&str, &str) = ("TENANTRY_ROUTER__SLICE_TTL", "1500ms");
/// Of a node that lives to the end of its test, however busy the machine is.
const LONG: (&str, &str) = ("TENANTRY_ROUTER__SLICE_TTL", "5m");

/// What pg_stat_activity sees of the nodes' connections to these tenants' databases.
fn open_connections(tenants: &[Tenant]) -> String {
    let databases: Vec<_> = tenants.iter().map(|tenant| format!("'{}'", tenant.database().database)).collect();
    format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity \
         WHERE application_name LIKE 'tenantry/%' AND datname IN ({})",
        databases.join(", ")
    )
}

/// Looks until it is dropped, and remembers the most it saw.
pub(super) struct Observer {
    done: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
}

impl Observer {
    pub(super) async fn start(server: &Target, tenants: &[Tenant]) -> Self {
        let sql = open_connections(tenants);
        let mut conn = db::open(server).await;
        let observer = Self { done: Arc::default(), most: Arc::default() };
        let (done, most) = (observer.done.clone(), observer.most.clone());
        actix_web::rt::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let seen = db::words_on(&mut conn, &sql).await[0].parse().expect("a count");
                most.fetch_max(seen, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        observer
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

pub(super) fn slice(router: &Router) -> u32 {
    router.pools().slices().iter().map(|(_, slice, _)| *slice).sum()
}

async fn tenants(app: &TestApp, count: usize) -> Vec<Tenant> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(app.tenant("slice").await);
    }
    made
}

async fn burst(tenants: &[Tenant], count: usize) {
    let requests = (0..count).map(|number| {
        let admin = tenants[number % tenants.len()].admin();
        async move { admin.get("/api/v1/contacts").await.expect(200) }
    });
    join_all(requests).await;
}

#[actix_web::test]
async fn alone_a_node_has_all_and_two_share() {
    let budget = i32::try_from(BUDGET).unwrap();
    let one = TestApp::builder().connection_budget(budget).set(TTL.0, TTL.1).start().await;
    let here = tenants(&one, 6).await;
    let observer = Observer::start(&one.server(), &here).await;
    for tenant in &here {
        tenant.admin().signed_in().await;
    }
    burst(&here, 40).await;
    assert_eq!(slice(one.router()), BUDGET, "alone it has all of it");

    let two = TestApp::builder().beside(&one).set(TTL.0, TTL.1).start().await;
    let there: Vec<Tenant> = here.iter().map(|tenant| two.at(tenant)).collect();
    burst(&there[..2], 2).await;
    for tenant in &there {
        tenant.admin().signed_in().await;
    }
    join!(burst(&here, 60), burst(&there, 60));
    let (first, second) = (slice(one.router()), slice(two.router()));
    assert!(first >= 1 && second >= 1 && first + second <= BUDGET, "{first} + {second}");
    let shared = async || {
        join!(burst(&here, 40), burst(&there, 40));
        slice(two.router()) >= 3
    };
    eventually(seconds(20), "the newcomer has its share", shared).await;

    // A node that ends well gives its slice back at once.
    drop(two);
    eventually(seconds(10), "all of it again", async || slice(one.router()) == BUDGET).await;
    assert!(observer.most() > 1 && observer.most() <= BUDGET as usize, "{} were open", observer.most());
}

#[actix_web::test]
async fn a_lowered_budget_is_come_down_to_without_a_broken_request() {
    let budget = i32::try_from(BUDGET).unwrap();
    let app = TestApp::builder().connection_budget(budget).set(TTL.0, TTL.1).start().await;
    let here = tenants(&app, 6).await;
    burst(&here, 60).await;
    let sql = open_connections(&here);
    let changes = ClusterChanges { connection_budget: Some(Some(2)), ..ClusterChanges::default() };
    let fleet = app.fleet();
    let (changed, ()) = join!(fleet.set_cluster("local", changes), burst(&here, 60));
    assert_eq!(changed.unwrap().connection_budget, Some(2));
    eventually(seconds(10), "no more than two", async || {
        slice(app.router()) == 2 && db::word(&app.server(), &sql).await.parse::<u32>().unwrap() <= 2
    })
    .await;
    let observer = Observer::start(&app.server(), &here).await;
    burst(&here, 60).await;
    assert!(observer.most() <= 2, "{} were open", observer.most());
}

/// A router of the test's own, that can vanish without a word.
async fn router(app: &TestApp) -> Router {
    let control = app.control();
    let registry = ControlPlaneRegistry::new(control.db, control.keys);
    let config =
        RouterConfig { slice_ttl: std::time::Duration::from_millis(1500), ..RouterConfig::new("http://tenantry.test") };
    Router::start(Arc::new(registry), Arc::new(ClaimsOnly), config).await.unwrap()
}

pub(super) async fn ask(router: &Router, tenant: &Tenant) -> Result<usize> {
    use diesel_async::RunQueryDsl as _;
    let db = router.named(Some(tenant.slug.as_str()), &TenantHints::default()).await?;
    db.read(async |conn: &mut TenantConn| -> Result<usize> { Ok(diesel::sql_query("SELECT 1").execute(conn).await?) })
        .await
}

#[actix_web::test]
async fn the_slice_of_a_lost_node_returns_when_its_connections_are_gone() {
    let app = TestApp::builder().connection_budget(10).start().await;
    let acme = app.tenant("acme").await;
    let (lost, left) = (router(&app).await, router(&app).await);
    assert_ne!(lost.node(), left.node());
    ask(&lost, &acme).await.unwrap();
    assert_eq!(slice(&lost), 10);
    ask(&left, &acme).await.unwrap();
    eventually(seconds(10), "both have a slice", async || slice(&left) + slice(&lost) == 10).await;

    // It is not heard of any more, but a connection of it stays open, as one does in a long statement.
    let mut stays = db::open(&app.server()).await;
    stays.batch_execute(&format!("SET application_name = '{}'", lost.node().application_name())).await.unwrap();
    let end = format!(
        "SELECT pg_terminate_backend(pid)::text AS word FROM pg_stat_activity WHERE application_name = '{}'",
        lost.node().application_name()
    );
    let row = format!(
        "SELECT s.slice::text AS word FROM budget_slices s JOIN budget_nodes n ON n.id = s.node_id \
         WHERE n.id = '{}'",
        lost.node().uuid()
    );
    drop(lost);
    let over = format!("{row} AND n.expires_at < now() - interval '2 seconds'");
    eventually(seconds(20), "its lease is over", async || !db::word(app.control_database(), &over).await.is_empty())
        .await;
    assert!(slice(&left) < 10, "not while a connection of it is open");
    let held: u32 = db::word(app.control_database(), &row).await.parse().unwrap();
    assert_eq!(slice(&left) + held, 10);
    assert_eq!(db::words(&app.server(), &end).await.len(), 1);
    eventually(seconds(20), "it has all of it", async || slice(&left) == 10).await;
    assert_eq!(db::word(app.control_database(), &row).await, "");
    ask(&left, &acme).await.unwrap();
    left.shutdown().await;
    let nodes = format!("SELECT id::text AS word FROM budget_nodes WHERE id = '{}'", left.node().uuid());
    assert_eq!(db::word(app.control_database(), &nodes).await, "", "gone with its node");
}

/// Two looks must both see nothing of a lost node, and hear nothing of it in between.
#[actix_web::test]
async fn a_node_that_is_heard_of_again_starts_over_with_being_lost() {
    let app = TestApp::builder().connection_budget(10).start().await;
    let acme = app.tenant("acme").await;
    let (control, node, ttl) = (app.control(), NodeId::generate(), seconds(600));
    let registry = ControlPlaneRegistry::new(control.db, control.keys);
    let cluster = app.router().tenant(acme.id).await.unwrap().cluster.id;
    registry.renew_node(node, ttl).await.unwrap();
    let claim =
        SliceClaim { node, cluster, budget: 10, default_budget: 10, in_use: 0, held: 0, wanted: 3, ttl, seq: 1 };
    registry.claim_slice(claim).await.unwrap();
    let of_it = format!("WHERE node_id = '{}'", node.uuid());
    let lapse =
        format!("UPDATE budget_nodes SET expires_at = now() - interval '1 second' WHERE id = '{}'", node.uuid());
    let lapses = async || db::execute(app.control_database(), &lapse).await;

    lapses().await;
    assert_eq!(registry.reclaim_slices(cluster, std::time::Duration::ZERO).await.unwrap(), 0, "one look is none");
    let unseen = format!("SELECT (unseen_since IS NOT NULL)::text AS word FROM budget_slices {of_it}");
    assert_eq!(db::word(app.control_database(), &unseen).await, "true");
    assert!(registry.renew_node(node, ttl).await.unwrap().lapsed);
    lapses().await;
    assert_eq!(registry.reclaim_slices(cluster, std::time::Duration::ZERO).await.unwrap(), 0, "it was heard of since");
    assert_eq!(registry.reclaim_slices(cluster, std::time::Duration::ZERO).await.unwrap(), 1, "nothing for two looks");
}

/// Whoever lets go of a router without ending it keeps no connection by that.
#[actix_web::test]
async fn a_router_that_is_dropped_leaves_no_connection_behind() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let dropped = router(app).await;
    for tenant in [&acme, &globex] {
        ask(&dropped, tenant).await.unwrap();
    }
    let open = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE application_name = '{}'",
        dropped.node().application_name()
    );
    assert_eq!(db::word(&app.server(), &open).await, "2");
    drop(dropped);
    eventually(seconds(5), "its connections are closed", async || db::word(&app.server(), &open).await == "0").await;
}

#[actix_web::test]
async fn without_the_control_plane_a_node_keeps_its_slice_and_stays_visible() {
    let mut plane = Server::start().await;
    let one = TestApp::builder()
        .control_database(plane.target())
        .connection_budget(10)
        .set(TTL.0, TTL.1)
        .set("TENANTRY_ROUTER__IDLE_TIMEOUT", "200ms")
        .start()
        .await;
    let two =
        TestApp::builder().beside(&one).set(TTL.0, TTL.1).set("TENANTRY_ROUTER__IDLE_TIMEOUT", "200ms").start().await;
    let here = tenants(&one, 3).await;
    let there: Vec<Tenant> = here.iter().map(|tenant| two.at(tenant)).collect();
    join!(burst(&here, 12), burst(&there, 12));
    eventually(seconds(10), "both have some to spare", async || slice(one.router()) >= 2 && slice(two.router()) >= 2)
        .await;
    let (first, second) = (slice(one.router()), slice(two.router()));
    plane.stop().await;

    // Well past the lease each is still to be seen, though nobody asks and nothing idle is kept.
    let names = [one.router().node().application_name(), two.router().node().application_name()];
    let anchors = async |name: &str| {
        let sql = format!("SELECT count(*)::text AS word FROM pg_stat_activity WHERE application_name = '{name}'");
        db::word(&one.server(), &sql).await
    };
    let begun = std::time::Instant::now();
    eventually(seconds(20), "an anchor each", async || {
        begun.elapsed() > seconds(3) && anchors(&names[0]).await == "1" && anchors(&names[1]).await == "1"
    })
    .await;
    assert_eq!((slice(one.router()), slice(two.router())), (first, second), "nobody took anything");
    let observer = Observer::start(&one.server(), &here).await;
    join!(burst(&here, 30), burst(&there, 30));
    assert!(observer.most() <= 10, "{} were open", observer.most());
    drop(observer);

    plane.restart().await;
    eventually(seconds(20), "no anchor is needed any more", async || {
        anchors(&names[0]).await == "0" && anchors(&names[1]).await == "0"
    })
    .await;
    join!(burst(&here, 12), burst(&there, 12));
    assert!(slice(one.router()) + slice(two.router()) <= 10);
}

#[actix_web::test]
async fn the_nodes_clocks_do_not_count() {
    let one = TestApp::builder().connection_budget(8).set(TTL.0, TTL.1).start().await;
    let two = TestApp::builder().beside(&one).set(TTL.0, TTL.1).start().await;
    let acme = one.tenant("acme").await;
    acme.admin().get("/api/v1/contacts").await.expect(200);
    two.at(&acme).admin().get("/api/v1/contacts").await.expect(200);
    let live = "SELECT count(*)::text AS word FROM budget_nodes WHERE expires_at > now()";
    assert_eq!(db::word(one.control_database(), live).await, "2");
    two.clock().advance(chrono::TimeDelta::days(2));
    let renewed = "SELECT count(*)::text AS word FROM budget_nodes WHERE expires_at > joined_at + interval '5 seconds'";
    eventually(seconds(20), "both renew", async || db::word(one.control_database(), renewed).await == "2").await;
    assert_eq!(db::word(one.control_database(), live).await, "2");
    let far = "SELECT count(*)::text AS word FROM budget_nodes WHERE expires_at > now() + interval '1 minute'";
    assert_eq!(db::word(one.control_database(), far).await, "0");
    eventually(seconds(10), "together all of it", async || slice(one.router()) + slice(two.router()) == 8).await;
}

/// A node says that it lives a moment after it started.
async fn lives(app: &TestApp) {
    let live = "SELECT count(*)::text AS word FROM budget_nodes WHERE expires_at > now()";
    eventually(seconds(20), "the node lives", async || db::word(app.control_database(), live).await == "1").await;
}

#[actix_web::test]
async fn a_start_that_cannot_hold_is_refused_with_the_arithmetic() {
    let app = TestApp::builder().connection_budget(1).set(LONG.0, LONG.1).start().await;
    app.tenant("acme").await;
    lives(&app).await;
    let mut environment = app.environment();
    environment.extend([
        ("TENANTRY_LISTEN".into(), "127.0.0.1:0".into()),
        ("TENANTRY_MANAGEMENT_LISTEN".into(), "127.0.0.1:0".into()),
    ]);
    let refused = run_with(&environment, &["serve"]).await.expect(4);
    assert!(
        refused.stderr.contains("connection budget of 1, and 1 nodes that live + this one = 2 nodes"),
        "{refused:#?}"
    );
    let refused = binary::run(&app, &["cluster", "set", "local", "--connection-budget", "1000"]).await.expect(4);
    assert!(refused.stderr.contains("max_connections 300 - 3 reserved = 297"), "{refused:#?}");
    db::execute(app.control_database(), "UPDATE clusters SET connection_budget = 1000").await;
    let refused = run_with(&environment, &["serve"]).await.expect(4);
    assert!(refused.stderr.contains("max_connections 300 - 3 reserved = 297"), "{refused:#?}");
}

/// An application with the router in it finds out as the server does.
#[actix_web::test]
async fn an_embedded_start_that_cannot_hold_is_refused_too() {
    let app = TestApp::builder().connection_budget(1).set(LONG.0, LONG.1).start().await;
    app.tenant("acme").await;
    lives(&app).await;
    let start = async || {
        let control = app.control();
        let registry = ControlPlaneRegistry::new(control.db, control.keys);
        Router::start(Arc::new(registry), Arc::new(ClaimsOnly), RouterConfig::new("http://tenantry.test")).await
    };
    let refused = start().await.expect_err("no connection is left for it");
    assert!(matches!(refused, Error::BudgetCannotHold(_)), "{refused:?}");
    assert!(refused.to_string().contains("1 nodes that live + this one = 2 nodes"), "{refused}");
    db::execute(app.control_database(), "UPDATE clusters SET connection_budget = 1000").await;
    let refused = start().await.expect_err("more than the server has").to_string();
    assert!(refused.contains("max_connections 300 - 3 reserved = 297"), "{refused}");
    db::execute(app.control_database(), "UPDATE clusters SET connection_budget = 2").await;
    start().await.expect("one for each").shutdown().await;
}

#[actix_web::test]
async fn a_new_cluster_gets_most_of_what_its_server_has() {
    let app = TestApp::builder().start().await;
    let second = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    std::fs::write(&file, secrecy::ExposeSecret::expose_secret(&second.target().to_url())).unwrap();
    let file = file.to_str().unwrap();
    let add = ["cluster", "add", "second", "--admin-url-file", file, "--tls-mode", "disable", "--output", "json"];
    let added = binary::run(&app, &add).await.expect(0).json();
    assert_eq!(added["connectionBudget"], 45, "(60 - 3) * 80 %");
}

#[actix_web::test]
async fn a_tenant_s_weight_is_set_and_shown() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let slug = acme.slug.as_str();
    assert_eq!(app.router().tenant(acme.id).await.unwrap().weight, 1);
    let set = binary::run(app, &["tenant", "set", slug, "--weight", "7", "--output", "json"]).await.expect(0).json();
    assert_eq!(set["weight"], 7);
    let weight = async || app.router().tenant(acme.id).await.unwrap().weight == 7;
    eventually(seconds(3), "every node knows", weight).await;
    let path = format!("/api/v1/admin/tenants/{slug}");
    let version = app.operator().get(&path).await.expect(200).header("etag").unwrap().to_owned();
    let operator = app.operator().with("if-match", &version);
    let answer = operator.patch(&path, serde_json::json!({"weight": 101})).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let answer = operator.patch(&path, serde_json::json!({"weight": 100})).await.expect(200);
    assert_eq!(answer.data()["weight"], 100);
    binary::run(app, &["tenant", "set", slug, "--weight", "0"]).await.expect(2);
}
