//! A lock that somebody holds holds up nobody else.

use std::collections::BTreeSet;

use diesel_async::SimpleAsyncConnection as _;
use serde_json::{Value, json};
use tenantry::router::AdminConn;

use super::ground::{Ground, has};
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn who_waits_for_a_lock_is_put_aside_and_comes_back() {
    let ground = Ground::new(5).await;
    ground.write("V1__fax.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE fax (id int);");
    // Everybody's first place, once the canary had its turn.
    let mut holder = db::open(&ground.database("t00x").await).await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM contacts").await.unwrap();
    let run = ground.begin(&["--concurrency", "1", "--canary", "1", "--wave", "2", "--lock-timeout", "200ms"]);
    ground.until("done", 4).await;
    let put_aside = "SELECT slug AS word FROM migration_tenants \
                     WHERE slug = 't00x' AND state = 'running' AND attempts > 1";
    eventually(seconds(20), "it is tried again", async || ground.asked(put_aside).await.len() == 1).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["migrated"]), (Some(0), &json!(5)), "{report}");
    assert_eq!(ground.count(&has("fax")).await, 5);
}

/// Of three one fails and two wait: that is no canary yet, and no reason to stop.
#[actix_web::test]
async fn canaries_that_wait_are_stood_in_for_though_another_failed() {
    let ground = Ground::new(7).await;
    ground.write("V1__fax.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE fax (id int);");
    db::execute(&ground.database("t02x").await, "CREATE TABLE fax ()").await;
    let mut holders = [db::open(&ground.database("t04x").await).await, db::open(&ground.database("t06x").await).await];
    for holder in &mut holders {
        holder.batch_execute("BEGIN; SELECT count(*) FROM contacts").await.unwrap();
    }
    let run = ground.begin(&["--canary", "3", "--soak", "0s", "--lock-timeout", "200ms"]);
    let others = "SELECT slug AS word FROM migration_tenants WHERE state = 'done' ORDER BY slug";
    let done = async || ground.asked(others).await == ["t00x", "t01x", "t03x", "t05x"];
    eventually(seconds(20), "the others are done", done).await;
    for holder in &mut holders {
        holder.batch_execute("ROLLBACK").await.unwrap();
    }
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["migrated"]), (Some(3), &json!(6)), "{report}");
}

/// Put aside it is no canary, and holds up nobody: another one goes first in its place.
#[actix_web::test]
async fn a_canary_that_waits_for_a_lock_is_stood_in_for() {
    let ground = Ground::new(5).await;
    ground.write("V1__fax.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE fax (id int);");
    let mut holder = db::open(&ground.database("t04x").await).await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM contacts").await.unwrap();
    let run = ground.begin(&["--canary", "1", "--soak", "0s", "--lock-timeout", "200ms"]);
    let others = "SELECT slug || ' ' || wave AS word FROM migration_tenants WHERE state = 'done' ORDER BY slug";
    let done = async || ground.asked(others).await == ["t00x 0", "t01x 1", "t02x 1", "t03x 1"];
    eventually(seconds(20), "the others are done", done).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["migrated"]), (Some(0), &json!(5)), "{report}");
}

/// Has a tenant worked on by another operation, until dropped.
async fn work_on(ground: &Ground, slug: &str) -> AdminConn {
    let key =
        "SELECT ('x' || substr(encode(sha256(('tenant operation ' || id)::bytea), 'hex'), 1, 16))::bit(64)::bigint";
    let mut holder = db::open(ground.app.control_database()).await;
    let hold = format!("SELECT pg_advisory_lock(({key} FROM tenants WHERE slug = '{slug}'))");
    holder.batch_execute(&hold).await.unwrap();
    holder
}

/// Another operation works on a tenant: its database is left alone until that ends, however often it is looked at.
#[actix_web::test]
async fn a_tenant_that_is_worked_on_is_left_alone_meanwhile() {
    let ground = Ground::new(2).await;
    ground.write("V1__orders.sql", "CREATE TABLE orders (id int);");
    let holder = work_on(&ground, "t00x").await;
    let run = ground.begin(&[]);
    ground.until("done", 1).await;
    // More often than one is tried that gives way to its traffic.
    let mut looks = BTreeSet::new();
    let next = "SELECT next_try_at::text AS word FROM migration_tenants \
                WHERE slug = 't00x' AND next_try_at IS NOT NULL AND attempts = 0";
    eventually(seconds(60), "it is looked at over and over", async || {
        looks.extend(ground.asked(next).await);
        looks.len() > 11
    })
    .await;
    let status = ground.fleet(&["status"]).await.expect(3).json();
    let why = status["failed"][0]["error"].as_str().unwrap();
    assert!(why.starts_with("another command works on this tenant"), "{status}");
    let there = "SELECT to_regclass('orders')::text AS word";
    assert_eq!(db::word(&ground.database("t00x").await, there).await, "");
    drop(holder);
    let output = run.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(ground.count(&has("orders")).await, 2);
}

/// A tenant that is removed between the plan and its turn is nobody's failure.
#[actix_web::test]
async fn a_tenant_that_is_removed_meanwhile_is_passed_over() {
    let ground = Ground::new(2).await;
    ground.write("V1__orders.sql", "CREATE TABLE orders (id int);");
    let holder = work_on(&ground, "t00x").await;
    let run = ground.begin(&["--max-failures", "1"]);
    ground.until("done", 1).await;
    // What works on it removes it.
    db::execute(ground.app.control_database(), "DELETE FROM tenants WHERE slug = 't00x'").await;
    drop(holder);
    let output = run.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.status.code(), &report["state"], &report["total"]), (Some(0), &json!("done"), &json!(1)));
    assert_eq!((&report["failed"], &report["pending"]), (&json!([]), &json!(0)), "{report}");
    assert_eq!(ground.asked("SELECT state AS word FROM migration_tenants WHERE slug = 't00x'").await, ["skipped"]);
}
