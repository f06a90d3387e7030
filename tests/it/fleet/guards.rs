//! What keeps one work on a tenant from spoiling another.

use serde_json::json;
use tenantry::fleet::{MigrateFleet, Silent};
use tenantry::testing::TestApp;

use super::backups::dies;
use crate::support::binary::run;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds};

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
