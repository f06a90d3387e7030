//! `kill -9`, and tenants that come while a run is on.

use std::os::unix::process::ExitStatusExt as _;

use diesel_async::SimpleAsyncConnection as _;
use serde_json::{Value, json};
use tenantry::fleet::migrate::Step;
use tenantry::fleet::{DeleteTenant, Silent};
use tenantry::testing::{Fault, FaultProxy};

use super::ground::{Ground, has};
use crate::support::binary::{program, run_with};
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn a_killed_run_is_gone_on_with_and_everybody_has_it_once() {
    let ground = Ground::new(7).await;
    // A second time it would fail.
    ground.write("V1__once.sql", "SELECT pg_sleep(0.15); CREATE TABLE once (id int);");
    let mut run = ground.begin(&["--concurrency", "2"]);
    ground.until("done", 2).await;
    run.kill().await.unwrap();
    assert!(run.wait().await.unwrap().signal().is_some());
    ground.fleet(&["status"]).await.expect(3);
    let report = ground.migrate(&[], 0).await;
    // One whose migration was committed and not yet written down was looked at once more.
    let there = report["migrated"].as_i64().unwrap() + report["skipped"].as_i64().unwrap();
    assert_eq!((there, &report["failed"]), (7, &json!([])));
    assert_eq!(ground.count(&has("once")).await, 7);
    let runs = "SELECT count(DISTINCT run_id)::text AS word FROM migration_tenants";
    assert_eq!(ground.asked(runs).await, ["1"], "the same run");
    let left = "SELECT slug AS word FROM migration_tenants WHERE state <> 'done'";
    assert!(ground.asked(left).await.is_empty());
    let epochs = ground.asked("SELECT DISTINCT epoch::text AS word FROM tenants").await;
    assert_eq!(epochs, ["1"], "each tenant's connections are retired, once");
}

/// Killed while it watches the canary, a run watches it again before anybody else has a turn.
#[actix_web::test]
async fn a_canary_is_watched_by_whoever_goes_on() {
    let ground = Ground::new(3).await;
    ground.write("V1__once.sql", "CREATE TABLE once (id int);");
    // A node that says nothing of what it sees is waited for, for four seconds.
    let silent = "INSERT INTO budget_nodes (id, expires_at) VALUES (gen_random_uuid(), now() + interval '1 hour')";
    db::execute(ground.app.control_database(), silent).await;
    let mut run = ground.begin(&["--canary", "1", "--soak", "60s"]);
    ground.until("done", 1).await;
    run.kill().await.unwrap();
    run.wait().await.unwrap();
    let begun = "SELECT slug AS word FROM migration_tenants WHERE wave > 0 AND state <> 'pending'";
    assert!(ground.asked(begun).await.is_empty(), "it watched the canary");
    let report = ground.migrate(&["--canary", "1", "--soak", "60s"], 0).await;
    assert_eq!((&report["migrated"], &report["state"]), (&json!(3), &json!("done")), "{report}");
    assert!(report["durationMs"].as_i64().unwrap() >= 4000, "it did not watch the canary: {report}");
    assert_eq!(ground.asked("SELECT DISTINCT run_id::text AS word FROM migration_tenants").await.len(), 1);
}

/// Every connection to the control plane breaks, the one that holds the tenants' locks too, and there is no other for a while.
#[actix_web::test]
async fn a_control_plane_that_is_away_for_a_moment_ends_no_run() {
    let ground = Ground::new(5).await;
    ground.write("V1__calm.sql", "SELECT pg_sleep(0.2); CREATE TABLE calm (id int);");
    let proxy = FaultProxy::start(ground.app.control_database());
    let run = ground.begin_over(&proxy.target(), &["--concurrency", "1", "--canary", "0"]);
    ground.until("done", 1).await;
    proxy.set(Fault::Reset).await;
    let before = proxy.accepted();
    eventually(seconds(20), "it asks again and again", async || proxy.accepted() > before + 3).await;
    proxy.set(Fault::Pass).await;
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.status.code(), &report["state"], &report["reason"]), (Some(0), &json!("done"), &Value::Null));
    assert_eq!((&report["pending"], &report["failed"]), (&json!(0), &json!([])), "{report}");
    assert_eq!(ground.count(&has("calm")).await, 5);
    let ended = ground.asked("SELECT state AS word FROM operations WHERE kind = 'migrate'").await;
    assert_eq!(ended, ["done"]);
}

/// Away for longer, it leaves the run open for the same command.
#[actix_web::test]
async fn a_control_plane_that_stays_away_leaves_the_run_open() {
    let ground = Ground::new(3).await;
    ground.write("V1__calm.sql", "SELECT pg_sleep(0.5); CREATE TABLE calm (id int);");
    let proxy = FaultProxy::start(ground.app.control_database());
    let run = ground.begin_over(&proxy.target(), &["--concurrency", "1", "--canary", "0"]);
    ground.until("done", 1).await;
    proxy.set(Fault::Reset).await;
    let output = run.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("goes on") && !said.contains("cancelled"), "{said}");
    let left = ground.asked("SELECT state AS word FROM operations WHERE kind = 'migrate'").await;
    assert_eq!(left, ["running"]);
    ground.migrate(&[], 0).await;
    assert_eq!(ground.count(&has("calm")).await, 3);
    assert_eq!(ground.asked("SELECT DISTINCT run_id::text AS word FROM migration_tenants").await.len(), 1);
}

/// The registry says less than the database has: what is there is neither done again nor taken for a failure.
#[actix_web::test]
async fn who_had_it_after_all_is_found_out() {
    let ground = Ground::new(2).await;
    let known = ground.asked("SELECT migrations_hash AS word FROM tenants WHERE slug = 't00x'").await.remove(0);
    assert!(!known.is_empty(), "a tenant that was just made is known by its digest");
    ground.write("V1__once.sql", "CREATE TABLE once (id int);");
    ground.migrate(&["--only", "t00x"], 0).await;
    let forget = format!("UPDATE tenants SET operator_version = 0, migrations_hash = '{known}' WHERE slug = 't00x'");
    db::execute(ground.app.control_database(), &forget).await;
    ground.write("V2__then.sql", "CREATE TABLE \"then\" (id int);");
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["failed"]), (&json!(2), &json!([])), "{report}");
    assert_eq!((ground.count(&has("once")).await, ground.count(&has("then")).await), (2, 2));
    db::execute(ground.app.control_database(), &forget).await;
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["skipped"]), (&json!(0), &json!(2)), "{report}");
    // Of one that was changed since the registry knows nothing.
    db::execute(ground.app.control_database(), &forget).await;
    ground.write("V1__once.sql", "CREATE TABLE once (id bigint);");
    let report = ground.migrate(&["--only", "t00x"], 3).await;
    let why = report["failed"][0]["error"].as_str().unwrap();
    assert!(why.contains("V1__once.sql was changed after it was applied"), "{report}");
}

/// The registry says more than the database has, as after a failover to a server that was behind: what is lost is applied
/// again, before what is new.
#[actix_web::test]
async fn who_lost_it_gets_it_again() {
    let ground = Ground::new(2).await;
    ground.write("V1__once.sql", "CREATE TABLE once (id int);");
    ground.write("V2__lost.sql", "CREATE TABLE lost (id int);");
    ground.migrate(&[], 0).await;
    let lose = "DROP TABLE lost; DELETE FROM tenantry.operator_history WHERE version = 2";
    db::execute(&ground.database("t00x").await, lose).await;
    ground.write("V3__then.sql", "CREATE TABLE \"then\" (id int);");
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["failed"]), (&json!(2), &json!([])), "{report}");
    for table in ["once", "lost", "then"] {
        assert_eq!(ground.count(&has(table)).await, 2, "{table}");
    }
    ground.fleet(&["status"]).await.expect(0);
}

/// Its journal calls the migrations done: those that the program before the upgrade knew.
#[actix_web::test]
async fn who_was_half_made_before_the_upgrade_has_what_came_with_it() {
    let ground = Ground::new(0).await;
    let create = ["tenant", "create", "half"];
    // The first one journals nothing but the end.
    for _ in 0..2 {
        let arguments = [&create[..], &["--halt-after", "verify"]].concat();
        let died = program(&ground.environment(), &arguments).output().await.unwrap();
        assert!(died.status.signal().is_some(), "{died:?}");
    }
    let done = "SELECT name AS word FROM operation_steps WHERE name = 'operator_migrations' AND state = 'done'";
    assert_eq!(ground.asked(done).await.len(), 1);
    ground.write("V1__came.sql", "CREATE TABLE came (id int);");
    run_with(&ground.environment(), &create).await.expect(0);
    assert_eq!(ground.count(&has("came")).await, 1);
    ground.fleet(&["status"]).await.expect(0);
}

#[actix_web::test]
async fn after_a_crash_at_any_step_the_same_command_resumes() {
    let ground = Ground::new(2).await;
    for (number, step) in Step::ALL.iter().enumerate() {
        for (second, how) in [&[][..], &["--halt-before-journal"]].into_iter().enumerate() {
            let table = format!("t{number}{second}");
            ground.write(&format!("V{}__{table}.sql", number * 2 + second + 1), &format!("CREATE TABLE {table} ();"));
            let arguments: Vec<_> = ["--halt-after", step.as_str()].iter().chain(how).copied().collect();
            let died = ground.begin(&arguments).wait_with_output().await.unwrap();
            assert!(died.status.signal().is_some(), "{step}: {died:?}");
            ground.migrate(&[], 0).await;
            assert_eq!(ground.count(&has(&table)).await, 2, "{step} {how:?}");
            ground.fleet(&["status"]).await.expect(0);
        }
    }
}

/// One that an interrupted run still had to do, and that is removed before it goes on, is not waited for.
#[actix_web::test]
async fn who_goes_meanwhile_is_left_out() {
    let ground = Ground::new(3).await;
    ground.write("V1__once.sql", "CREATE TABLE once (id int);");
    let died = ground.begin(&["--halt-after", "plan"]).wait_with_output().await.unwrap();
    assert!(died.status.signal().is_some(), "{died:?}");
    let gone = ground.app.fleet().get("t01x").await.unwrap().id;
    let now = DeleteTenant { now: true, ..DeleteTenant::default() };
    assert!(ground.app.fleet().delete(gone, now, &Silent).await.unwrap().gone);
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["state"], &report["migrated"], &report["pending"]), (&json!("done"), &json!(2), &json!(0)));
    assert_eq!(ground.asked("SELECT DISTINCT run_id::text AS word FROM migration_tenants").await.len(), 1);
    ground.fleet(&["status"]).await.expect(0);
}

#[actix_web::test]
async fn who_comes_meanwhile_lands_right() {
    let ground = Ground::new(3).await;
    ground.write("V1__slow.sql", "ALTER TABLE contacts ADD COLUMN slow text; CREATE TABLE slow (id int);");
    // It does not end before somebody came.
    let mut holder = db::open(&ground.database("t00x").await).await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM contacts").await.unwrap();
    let run = ground.begin(&["--concurrency", "1"]);
    ground.until("done", 2).await;
    // Made by a program that does not know of the migration.
    ground.provision("later").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["migrated"], &report["total"]), (Some(0), &json!(4), &json!(4)));
    assert_eq!(db::word(&ground.database("later").await, &has("slow")).await, "true");
    ground.fleet(&["status"]).await.expect(0);
}

#[actix_web::test]
async fn there_is_one_run_at_a_time() {
    let ground = Ground::new(1).await;
    ground.write("V1__slow.sql", "SELECT pg_sleep(5);");
    let mut run = ground.begin(&[]);
    ground.until("running", 1).await;
    ground.fleet(&["migrate"]).await.expect(4);
    run.kill().await.unwrap();
}
