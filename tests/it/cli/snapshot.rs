//! `tenantry serve` without its control plane: killed, started again, and back to normal by itself.

use std::path::Path;
use std::process::Stdio;

use secrecy::SecretString;
use serde_json::json;
use tenantry::kernel::TenantId;
use tenantry::kernel::crypto::MasterKeys;
use tenantry::router::{ControlPlaneRegistry, MainDb, Registry as _, SnapshotSettings, Target, TenantStatus};
use tenantry::testing::TestApp;
use tokio::process::Child;

use crate::support::binary::{free_port, program, run_with};
use crate::support::dir::Dir;
use crate::support::servers::Server;
use crate::support::{db, eventually, say, seconds};

/// A server of the installation, with its data in a directory.
struct Node {
    url: String,
    log: std::path::PathBuf,
    child: Child,
}

impl Node {
    async fn start(app: &TestApp, dir: &Path) -> Self {
        Self::start_with(app, dir, &[]).await
    }

    async fn start_with(app: &TestApp, dir: &Path, more: &[(&str, &str)]) -> Self {
        let mut environment = app.environment();
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (port, management) = (free_port(), free_port());
        environment.extend([
            ("TENANTRY_LISTEN".into(), format!("127.0.0.1:{port}")),
            ("TENANTRY_MANAGEMENT_LISTEN".into(), format!("127.0.0.1:{management}")),
        ]);
        let log = dir.join("log");
        let mut command = program(&environment, &["serve", "--data-dir", dir.to_str().unwrap()]);
        let stderr = std::fs::File::create(&log).unwrap();
        let child = command
            .env("TENANTRY_LOG__LEVEL", "info,tenantry::router=debug")
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let node = Self { url: format!("http://127.0.0.1:{port}"), log, child };
        let nobody = app.anonymous().at(&node.url);
        let ready = async || {
            let answer = nobody.try_send(reqwest::Method::GET, "/readyz", None).await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        eventually(seconds(30), "it is ready", ready).await;
        node
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// Whoever reads of a failure wants to know what the server said.
impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&self.log());
        }
    }
}

fn keys(app: &TestApp) -> MasterKeys {
    let list = app.environment().into_iter().find(|(name, _)| name == "TENANTRY_MASTER_KEY").unwrap().1;
    MasterKeys::parse(&SecretString::from(list)).unwrap()
}

/// What a node knows of a tenant that has nothing but the file.
async fn on_disk(app: &TestApp, dir: &Path, id: TenantId) -> Option<TenantStatus> {
    let nowhere = Target { host: "127.0.0.1".into(), port: 1, ..app.control_database().clone() };
    let registry = ControlPlaneRegistry::new(MainDb::new(nowhere, 1), keys(app).into())
        .with_snapshot(SnapshotSettings::new(dir.join("registry.redb")));
    registry.installation().await.ok()?;
    registry.tenant_by_id(id).await.ok().flatten().map(|tenant| tenant.status)
}

#[actix_web::test]
async fn killed_and_started_again_without_the_control_plane_it_serves_and_comes_back_to_normal() {
    let mut plane = Server::start().await;
    let app = TestApp::builder().control_database(plane.target()).start().await;
    let (acme, globex, initech) = (app.tenant("acme").await, app.tenant("globex").await, app.tenant("initech").await);
    let dir = Dir::new();
    let first = Node::start(&app, dir.path()).await;
    acme.at(&first.url).admin().get("/api/v1/contacts").await.expect(200);
    let suspended = initech.at(&first.url).admin();
    suspended.get("/api/v1/contacts").await.expect(200);
    initech.suspend().await;
    let written = async || on_disk(&app, dir.path(), initech.id).await == Some(TenantStatus::Suspended);
    eventually(seconds(30), "the suspension is on disk", written).await;
    let written = async || on_disk(&app, dir.path(), globex.id).await == Some(TenantStatus::Active);
    eventually(seconds(30), "the one nobody asked for is on disk", written).await;
    let token = suspended.signed_in().await["accessToken"].as_str().unwrap().to_owned();
    first.kill().await;
    plane.stop().await;

    let node = Node::start(&app, dir.path()).await;
    assert!(node.log().contains("started from the snapshot"), "{}", node.log());
    let nobody = app.anonymous().at(&node.url);
    let ready = nobody.get("/readyz").await.expect(200);
    assert_eq!(ready.data()["controlPlane"], "unavailable", "{ready:?}");
    for known in [&acme, &globex] {
        let admin = known.at(&node.url).admin();
        admin.contact("Still here").await;
        admin.get("/api/v1/contacts").await.expect(200);
    }
    nobody.bearing(&token).get("/api/v1/contacts").await.refused(403, "tenant_suspended");
    let unknown = json!({"tenant": "never-heard-of", "email": "a@example.com", "password": "x"});
    let refused = nobody.post("/api/v1/auth/login", unknown.clone()).await.refused(503, "control_plane_unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let operator = json!({"email": "nobody@example.com", "password": "a wrong guess at it"});
    let at_the_door = nobody.post("/api/v1/admin/auth/login", operator.clone()).await;
    at_the_door.refused(503, "control_plane_unavailable");

    plane.restart().await;
    let back = async || nobody.post("/api/v1/admin/auth/login", operator.clone()).await.status == 401;
    eventually(seconds(45), "operators are known again", back).await;
    let there = app.operator().at(&node.url);
    there.get("/api/v1/admin/tenants").await.expect(200);
    let back = async || nobody.post("/api/v1/auth/login", unknown.clone()).await.status == 401;
    eventually(seconds(45), "who is unknown is known again", back).await;
    initech.resume().await;
    globex.suspend().await;
    let resumed = async || nobody.bearing(&token).get("/api/v1/contacts").await.status == 200;
    eventually(seconds(20), "resumed", resumed).await;
    let admin = globex.at(&node.url);
    let held = async || admin.log_in_as(admin.email(), admin.password()).await.status == 401;
    eventually(seconds(20), "suspended", held).await;
    let hooli = app.tenant("hooli").await;
    hooli.at(&node.url).admin().get("/api/v1/contacts").await.expect(200);
    node.kill().await;
}

/// Whoever has the file knows that the node before has ended: it holds nothing back until its lease runs out.
#[actix_web::test]
async fn a_node_that_was_killed_is_followed_at_once_by_the_next_in_its_directory() {
    // As many as nodes, the test's own among them: one that is known to have ended is not counted.
    let app = TestApp::builder().connection_budget(3).start().await;
    let acme = app.tenant("acme").await;
    let (dir, elsewhere) = (Dir::new(), Dir::new());
    // Nobody waits for it to run out here.
    let lease = [("TENANTRY_ROUTER__SLICE_TTL", "5m")];
    let first = Node::start_with(&app, dir.path(), &lease).await;
    let asks = async |node: &Node| acme.at(&node.url).log_in_as(acme.email(), acme.password()).await;
    asks(&first).await.expect(200);
    let held = "SELECT coalesce(sum(slice), 0)::text AS word FROM budget_slices";
    assert_eq!(db::word(app.control_database(), held).await, "3", "one node has all of it");
    first.kill().await;
    // Who knows nothing of it has to wait for its lease.
    let stranger = Node::start_with(&app, elsewhere.path(), &lease).await;
    asks(&stranger).await.refused(503, "tenant_pool_exhausted");
    stranger.kill().await;
    let next = Node::start_with(&app, dir.path(), &lease).await;
    asks(&next).await.expect(200);
    next.kill().await;
}

#[actix_web::test]
async fn killed_while_it_writes_it_loses_nothing_that_was_written() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    // Registered alone: what is killed here is the writing.
    let many = "INSERT INTO tenants (id, slug, name, status, kind, cluster_id, database_name, role_name, password_sealed) \
        SELECT gen_random_uuid(), 'many-' || n, 'Many', 'suspended', 'shared', t.cluster_id, 'm_' || n, 'm_' || n, \
            t.password_sealed FROM tenants t, generate_series(1, 1500) n";
    db::execute(app.control_database(), many).await;
    let dir = Dir::new();
    for round in 1..=3 {
        let node = Node::start(&app, dir.path()).await;
        let id = acme.id;
        eventually(seconds(30), "on disk", async || on_disk(&app, dir.path(), id).await.is_some()).await;
        let all = format!("UPDATE tenants SET name = 'Round {round}' WHERE slug LIKE 'many-%'");
        db::execute(app.control_database(), &all).await;
        // Killed as soon as the file changes under it.
        let changed = || std::fs::metadata(dir.path().join("registry.redb")).unwrap().modified().unwrap();
        let before = changed();
        eventually(seconds(30), "it writes", async || changed() != before).await;
        node.kill().await;
        assert_eq!(on_disk(&app, dir.path(), id).await, Some(TenantStatus::Active), "round {round}");
    }
}

#[actix_web::test]
async fn without_snapshot_and_control_plane_it_says_so_in_one_line() {
    let app = TestApp::shared().await;
    let dir = Dir::new();
    let mut environment = app.environment();
    environment.retain(|(name, _)| name != "TENANTRY_DATABASE_URL");
    environment.extend([
        ("TENANTRY_DATABASE_URL".into(), "postgres://u:p@127.0.0.1:1/d".into()),
        ("TENANTRY_LISTEN".into(), format!("127.0.0.1:{}", free_port())),
        ("TENANTRY_MANAGEMENT_LISTEN".into(), format!("127.0.0.1:{}", free_port())),
    ]);
    let said = run_with(&environment, &["serve", "--data-dir", dir.path().to_str().unwrap()]).await.expect(4);
    let line = said.stderr.lines().last().unwrap_or_default();
    assert!(line.contains("no snapshot to start from") && line.contains("TENANTRY_DATABASE_URL"), "{said:#?}");
}
