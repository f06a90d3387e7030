//! What keeps one work on a tenant from spoiling another.

use serde_json::json;
use tenantry::fleet::{CreateTenant, MigrateFleet, Silent};
use tenantry::kernel::crypto::sha256;
use tenantry::testing::TestApp;

use super::scene::dies;
use crate::support::binary::run;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

/// A move that failed and could not be taken back has the fence of the tenant's database; with the tenant it goes.
#[actix_web::test]
async fn a_move_that_was_not_ended_keeps_others_off_and_goes_with_the_tenant() {
    let app = TestApp::builder().start().await;
    let east = Server::start().await;
    app.cluster("east", &east.target()).await;
    let tenant = app.tenant("moving").await;
    let slug = tenant.slug.as_str();
    dies(&app, &["tenant", "move", slug, "--to", "east"], "copy", false).await;
    let failed = "UPDATE operations SET state = 'failed', finished_at = now() WHERE kind = 'move'; \
                  DELETE FROM tenant_holds";
    db::execute(app.control_database(), failed).await;
    let said = run(&app, &["tenant", "backup", slug]).await.expect(4);
    assert!(said.stderr.contains("move"), "{said:?}");
    let (operator, worker) = (app.operator(), app.fleet());
    let path = |verb: &str| format!("/api/v1/admin/tenants/{slug}/{verb}");
    for verb in ["backups", "rotate-credentials"] {
        operator.post(&path(verb), json!({})).await.refused(409, "conflict");
    }
    let role = format!("SELECT rolname::text AS word FROM pg_roles WHERE rolname = '{}'", tenant.role());
    assert_eq!(db::words(&east.target(), &role).await.len(), 1, "what the move left");

    let job = operator.post(&path("erase"), json!({})).await.expect(202);
    let job = job.header("location").expect("where the job is").to_owned();
    eventually(seconds(30), "it is erased", async || {
        worker.work().await.expect("the control plane answers");
        operator.get(&job).await.expect(200).data()["state"] == "done"
    })
    .await;
    let database = format!("SELECT datname::text AS word FROM pg_database WHERE datname = '{}'", tenant.role());
    for server in [&east.target(), &app.server()] {
        for left in [&role, &database] {
            assert_eq!(db::words(server, left).await, Vec::<String>::new());
        }
    }
}

/// What is refused before its first step has ended: no worker takes it up for ever.
#[actix_web::test]
async fn a_job_that_is_refused_ends() {
    let app = TestApp::builder().start().await;
    let (tenant, operator, worker) = (app.tenant("refused").await, app.operator(), app.fleet());
    let path = format!("/api/v1/admin/tenants/{}/rotate-credentials", tenant.slug);
    let job = operator.post(&path, json!({})).await.expect(202);
    let job = job.header("location").expect("where the job is").to_owned();
    db::execute(app.control_database(), "UPDATE tenants SET status = 'provisioning'").await;
    eventually(seconds(20), "it has ended", async || {
        worker.work().await.expect("the control plane answers");
        let job = operator.get(&job).await.expect(200);
        job.data()["state"] == "failed" && job.data()["error"].is_string() && job.data()["finishedAt"].is_string()
    })
    .await;
    assert_eq!(worker.work().await.expect("the control plane answers"), 0);
    // Nor is one taken in that would be.
    db::execute(app.control_database(), "UPDATE operations SET state = 'done', error = NULL").await;
    operator.post(&path, json!({})).await.refused(409, "conflict");
    let queued = "SELECT count(*)::text AS word FROM operations WHERE state = 'queued'";
    assert_eq!(db::word(app.control_database(), queued).await, "0");
}

/// A registry that was behind learns what a database is at, and every node retires its connections.
#[actix_web::test]
async fn a_version_that_the_registry_did_not_know_retires_connections() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("behind").await;
    let behind = format!(
        "UPDATE tenants SET schema_version = schema_version - 1, migrations_hash = NULL WHERE id = '{}'",
        tenant.id
    );
    db::execute(app.control_database(), &behind).await;
    let known = format!("SELECT schema_version || ' ' || epoch AS word FROM tenants WHERE id = '{}'", tenant.id);
    let read = async || {
        let words = db::word(app.control_database(), &known).await;
        let (version, epoch) = words.split_once(' ').expect("two");
        (version.parse::<i64>().unwrap(), epoch.parse::<i64>().unwrap())
    };
    let before = read().await;
    let wanted = MigrateFleet { only: vec![tenant.slug.clone()], ..MigrateFleet::default() };
    app.fleet().migrate(&wanted, &Default::default(), &Silent).await.expect("migrated");
    assert_eq!(read().await, (before.0 + 1, before.1 + 1));
}

async fn open() -> TestApp {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "open").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    app.start().await
}

fn sign_up(slug: &str) -> serde_json::Value {
    let admin = json!({"email": format!("founder@{slug}.test"), "password": "a password of some length"});
    json!({"name": slug, "slug": slug, "admin": admin})
}

/// Whoever goes away while a tenant is made finds the answer under its key.
#[actix_web::test]
async fn an_answer_is_kept_though_its_caller_is_gone() {
    let app = open().await;
    let (slug, other) = (unique("away"), unique("away"));
    let callers = [
        (&slug, app.operator(), "/api/v1/admin/tenants", json!({"slug": slug})),
        (&other, app.anonymous(), "/api/v1/tenants", sign_up(&other)),
    ];
    for (slug, who, path, body) in callers {
        let once = who.with("idempotency-key", &unique("key"));
        let begun = format!("SELECT slug AS word FROM tenants WHERE slug = '{slug}'");
        let control = app.control_database();
        tokio::select! {
            early = once.post(path, body.clone()) => panic!("it was to be given up: {early:?}"),
            () = eventually(seconds(20), "it is begun", async || !db::words(control, &begun).await.is_empty()) => {}
        }
        let unanswered = "SELECT count(*)::text AS word FROM request_records WHERE status IS NULL";
        eventually(seconds(20), "the answer is kept", async || db::word(control, unanswered).await == "0").await;
        let again = once.post(path, body).await.expect(201);
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{path}");
    }
}

/// What a server that is away has left half done is gone on with under its key; what nobody asks for again is swept.
#[actix_web::test]
async fn a_sign_up_whose_server_was_away_goes_on_once_it_is_back() {
    let app = open().await;
    let mut server = Server::start().await;
    app.cluster("own", &server.target()).await;
    run(&app, &["cluster", "drain", "local", "--no-move"]).await.expect(0);
    let (slug, once) = (unique("late"), app.anonymous().with("idempotency-key", &unique("key")));
    let never = unique("never");
    server.stop().await;
    for (who, slug) in [(&once, &slug), (&app.anonymous(), &never)] {
        let away = who.post("/api/v1/tenants", sign_up(slug)).await;
        assert!(away.status >= 500, "{away:?}");
    }
    server.restart().await;
    once.post("/api/v1/tenants", sign_up(&slug)).await.expect(201);
    app.anonymous().post("/api/v1/tenants", sign_up(&never)).await.refused(409, "already_exists");
    db::execute(app.control_database(), "UPDATE operations SET started_at = now() - interval '1 hour'").await;
    app.fleet().sweep_sign_ups().await.unwrap();
    let left = "SELECT slug AS word FROM tenants ORDER BY 1";
    assert_eq!(db::words(app.control_database(), left).await, [slug]);
}

/// Whoever has just made a ready tenant gives its lock back a moment after it can be taken.
#[actix_web::test]
async fn a_ready_tenant_whose_maker_is_not_quite_gone_is_waited_for() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(1, None);
    fleet.keep_stock().await.unwrap();
    let control = app.control_database();
    let id = db::word(control, "SELECT id::text AS word FROM ready_tenants").await;
    let digest = sha256(format!("tenant operation {id}").as_bytes());
    let key = i64::from_be_bytes(digest[..8].try_into().unwrap());
    let mut maker = db::open(control).await;
    db::words_on(&mut maker, &format!("SELECT pg_advisory_lock({key})::text AS word")).await;
    let waits = "SELECT pid::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'tenantry-provision' AND query LIKE '%pg_try_advisory_lock%'";
    let wanted = CreateTenant::named(unique("taken").parse().unwrap());
    let options = Default::default();
    let (made, ()) = tokio::join!(fleet.create(&wanted, &options, &Silent), async {
        eventually(seconds(20), "it is waited for", async || !db::words(control, waits).await.is_empty()).await;
        db::words_on(&mut maker, &format!("SELECT pg_advisory_unlock({key})::text AS word")).await;
    });
    assert_eq!(made.expect("made").tenant.id.to_string(), id);
}
