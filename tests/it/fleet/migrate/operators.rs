//! The same over REST.

use diesel_async::SimpleAsyncConnection as _;
use serde_json::json;
use tenantry::testing::TestApp;

use super::ground::Ground;
use crate::support::binary::run;
use crate::support::openapi::OpenApi;
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn an_operator_has_the_fleet_migrated_as_a_job() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let operator = app.operator();
    let body = json!({"canary": 1, "lockTimeout": "500ms", "only": ["nobody-here"]});
    operator.post("/api/v1/admin/fleet/migrations", body).await.refused(404, "not_found");
    let body = json!({"lockTimeout": "soon"});
    operator.post("/api/v1/admin/fleet/migrations", body).await.refused(422, "validation_failed");
    let answer = operator.post("/api/v1/admin/fleet/migrations", json!({"canary": 1})).await.expect(202);
    let job = answer.header("location").expect("where its progress is seen").to_owned();
    operator.post("/api/v1/admin/fleet/migrations", json!({})).await.refused(409, "conflict");
    let worker = app.fleet();
    eventually(seconds(20), "a worker has done it", async || {
        worker.work().await.expect("work");
        operator.get(&job).await.expect(200).data()["state"] == "done"
    })
    .await;
    let done = operator.get(&job).await.expect(200);
    assert_eq!((&done.data()["result"]["total"], &done.data()["result"]["state"]), (&json!(1), &json!("done")));
    let status = operator.get("/api/v1/admin/fleet/status").await.expect(200);
    assert_eq!((&status.data()["atHead"], &status.data()["total"]), (&json!(1), &json!(1)));
    app.anonymous().get("/api/v1/admin/fleet/status").await.refused(401, "unauthenticated");
}

/// As `runs.rs` and `conflicts.rs` have it.
#[actix_web::test]
async fn the_document_says_what_a_canary_that_fails_does() {
    let document = OpenApi::of(TestApp::shared().await).await.0;
    let canary = &document["components"]["schemas"]["NewMigration"]["properties"]["canary"];
    let said = canary["description"].as_str().expect("a description").replace('\n', " ");
    for part in ["the run stops", "one or two that were not asked for stop nothing", "others go first in their place"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// Two operators ask at the same moment: both have seen that there is no run, and one of them begins it.
#[actix_web::test]
async fn who_asks_at_the_same_moment_is_told_of_the_other() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let operator = app.operator();
    operator.get("/api/v1/admin/fleet/status").await.expect(200);
    let control = app.control_database();
    let mut holder = db::open(control).await;
    holder.batch_execute("BEGIN; LOCK TABLE operations IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    let waits = "SELECT count(*)::text AS word FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE 'insert into%operations%'";
    let ask = async || operator.post("/api/v1/admin/fleet/migrations", json!({})).await;
    let (first, second, ()) = futures_util::join!(ask(), ask(), async {
        eventually(seconds(4), "both are about to begin", async || db::word(control, waits).await == "2").await;
        holder.batch_execute("COMMIT").await.unwrap();
    });
    let (began, other) = if first.status == 202 { (first, second) } else { (second, first) };
    began.expect(202);
    assert!(other.text.contains("Another run is on (job "), "{other:?}");
    other.refused(409, "conflict");
    let runs = "SELECT count(*)::text AS word FROM operations WHERE kind = 'migrate'";
    assert_eq!(db::word(control, runs).await, "1");
}

#[actix_web::test]
async fn an_operator_sees_the_plan_before_anything_is_done() {
    let ground = Ground::new(2).await;
    ground.write("V1__fax.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE faxes (id int);");
    // A node that has the operator's migrations.
    let node = TestApp::builder().beside(&ground.app).set("TENANTRY_TENANT_MIGRATIONS", ground.path()).start().await;
    let operator = node.operator();
    let body = json!({"dryRun": true, "only": ["t01x"], "soak": "1s", "statementTimeout": "1m"});
    let answer = operator.post("/api/v1/admin/fleet/migrations", body).await.expect(200);
    let plan = answer.data();
    assert_eq!((&plan["total"], &plan["skipped"], &plan["head"]["operatorVersion"]), (&json!(1), &json!(0), &json!(1)));
    let lacking = plan["tenants"].as_array().unwrap();
    assert_eq!(lacking.len(), 1, "{plan}");
    assert_eq!((&lacking[0]["slug"], &lacking[0]["migrations"]), (&json!("t01x"), &json!(["V1__fax.sql"])));
    let locks = plan["migrations"][0]["locks"].as_array().unwrap();
    assert!(locks.contains(&json!({"relation": "contacts", "mode": "AccessExclusiveLock"})), "{plan}");
    let told = ground.migrate(&["--dry-run", "--only", "t01x"], 0).await;
    assert_eq!(plan, &told, "as the command says it");
    let jobs = operator.get("/api/v1/admin/jobs?kind=migrate").await.expect(200);
    assert_eq!(jobs.data(), &json!([]), "nothing was asked of a worker");
    let made = "SELECT count(*)::text AS word FROM pg_attribute WHERE attname = 'fax'";
    assert_eq!(ground.count(made).await, 0, "nothing was done");
    let body = json!({"dryRun": true, "soak": "a while"});
    operator.post("/api/v1/admin/fleet/migrations", body).await.refused(422, "validation_failed");
}

/// To PostgreSQL, no time at all is no bound: who waits for a lock would hold up all who come after. And what it cannot
/// count would fail every tenant.
#[actix_web::test]
async fn a_bound_of_no_time_or_of_too_much_is_refused() {
    let app = TestApp::shared().await;
    let operator = app.operator();
    for (option, field) in [("--lock-timeout", "lockTimeout"), ("--statement-timeout", "statementTimeout")] {
        let said = run(app, &["fleet", "migrate", "--only", "nobody-here", option, "0s"]).await.expect(2);
        assert!(said.stderr.contains(option) && said.stderr.contains("1ms"), "{said:?}");
        let body = json!({"dryRun": true, "only": ["nobody-here"], field: "0ms"});
        let refused = operator.post("/api/v1/admin/fleet/migrations", body).await.refused(422, "validation_failed");
        assert_eq!(refused.invalid()[0].0, field);
    }
    let options = [("--lock-timeout", "lockTimeout"), ("--statement-timeout", "statementTimeout"), ("--soak", "soak")];
    for (option, field) in options {
        let said = run(app, &["fleet", "migrate", "--only", "nobody-here", option, "25d"]).await.expect(2);
        assert!(said.stderr.contains(option) && said.stderr.contains("24d"), "{said:?}");
        let body = json!({"dryRun": true, "only": ["nobody-here"], field: "25d"});
        let refused = operator.post("/api/v1/admin/fleet/migrations", body).await.refused(422, "validation_failed");
        assert_eq!(refused.invalid()[0].0, field);
    }
    for hold in ["11m", "25d"] {
        let said =
            run(app, &["tenant", "move", "nobody-here", "--to", "local", "--hold-deadline", hold]).await.expect(2);
        assert!(said.stderr.contains("10m"), "{said:?}");
    }
}

/// While nodes of two releases run, the older leaves alone what was asked of the newer; and what another node has just
/// done, nobody calls failed.
#[actix_web::test]
async fn a_run_of_another_release_is_left_to_it() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    app.operator().post("/api/v1/admin/fleet/migrations", json!({})).await.expect(202);
    let control = app.control_database();
    let state = async || db::word(control, "SELECT state AS word FROM operations WHERE kind = 'migrate'").await;
    let asked_by = async |version: i32| {
        let asked = format!(
            "UPDATE operations SET state = 'queued', finished_at = NULL, \
             input = jsonb_set(input, '{{head,schemaVersion}}', '{version}') WHERE kind = 'migrate'"
        );
        db::execute(control, &asked).await;
    };

    asked_by(10_000).await;
    let older = app.fleet();
    assert_eq!(older.work().await.unwrap(), 1);
    older.finish_work(seconds(20)).await;
    assert_eq!(state().await, "queued");
    // Unless it is to stop, for there may be none.
    let begun = "UPDATE operations SET state = 'running', cancel_requested = true WHERE kind = 'migrate'";
    db::execute(control, begun).await;
    let left = app.fleet();
    assert_eq!(left.work().await.unwrap(), 1);
    left.finish_work(seconds(20)).await;
    assert_eq!(state().await, "cancelled");
    db::execute(control, "UPDATE operations SET cancel_requested = false WHERE kind = 'migrate'").await;

    asked_by(1).await;
    let mut ending = db::open(control).await;
    let end = "BEGIN; UPDATE operations SET state = 'done', finished_at = now() WHERE kind = 'migrate'";
    ending.batch_execute(end).await.unwrap();
    let late = app.fleet();
    assert_eq!(late.work().await.unwrap(), 1);
    let waits = "SELECT count(*)::text AS word FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(seconds(20), "it is about to fail it", async || db::word(control, waits).await == "1").await;
    ending.batch_execute("COMMIT").await.unwrap();
    late.finish_work(seconds(20)).await;
    assert_eq!(state().await, "done");

    // Of an older release nobody is left who could do it.
    asked_by(1).await;
    let newer = app.fleet();
    eventually(seconds(20), "it is given up", async || {
        newer.work().await.unwrap();
        state().await == "failed"
    })
    .await;
}
