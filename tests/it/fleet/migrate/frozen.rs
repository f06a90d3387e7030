//! A server that stands still in the middle of a migration: its tenants fail, and nobody else waits for them.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::ground::Ground;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, shared};

const SQL: &str = "SELECT pg_sleep(CASE WHEN to_regclass('slow') IS NULL THEN 0 ELSE 600 END); CREATE TABLE came ()";
const ASLEEP: &str = "SELECT pid::text AS word FROM pg_stat_activity \
    WHERE application_name = 'tenantry-migrate' AND wait_event = 'PgSleep'";

#[actix_web::test]
async fn a_run_goes_on_to_its_end() {
    let ground = Ground::new(2).await;
    let second = Server::start().await;
    ground.app.cluster("second", &second.target()).await;
    let there = ground.app.tenant_on("second", "hooli").await;
    db::execute(there.database(), "CREATE TABLE slow ()").await;
    ground.write("V1__came.sql", SQL);
    let run = ground.begin(&["--statement-timeout", "4s"]);
    let asleep = async || !db::words(&second.target(), ASLEEP).await.is_empty();
    eventually(seconds(30), "it migrates", asleep).await;
    let frozen = second.freeze();
    let ended = timeout(shared(seconds(60)), run.wait_with_output()).await.expect("it ends").unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(
        (ended.status.code(), &report["migrated"], &report["total"]),
        (Some(3), &json!(2), &json!(3)),
        "{report}"
    );
    let failed = &report["failed"][0];
    assert_eq!(failed["slug"], json!(there.slug.to_string()), "{report}");
    let why = failed["error"].as_str().unwrap();
    assert!(why.contains("cannot connect (unreachable): no answer"), "{report}");

    drop(frozen);
    db::execute(there.database(), "DROP TABLE slow").await;
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["skipped"]), (&json!(1), &json!(2)), "{report}");
}
