//! A run from its plan to its report.

use serde_json::json;

use super::ground::{Ground, has};
use crate::support::db;

#[actix_web::test]
async fn everybody_is_brought_to_the_head_once_and_then_left_alone() {
    let ground = Ground::new(5).await;
    ground.app.fleet().suspend(ground.app.fleet().get("t03x").await.unwrap().id).await.unwrap();
    ground.fleet(&["status"]).await.expect(0);
    ground.write("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY);");
    ground.fleet(&["status"]).await.expect(3);
    ground.write("V2__notes.sql", "CREATE TABLE notes (id uuid PRIMARY KEY) -- the last line");
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["total"], &report["state"]), (&json!(5), &json!(5), &json!("done")));
    assert_eq!((ground.count(&has("orders")).await, ground.count(&has("notes")).await), (5, 5), "suspended ones too");
    let epochs = ground.asked("SELECT DISTINCT epoch::text AS word FROM tenants").await;
    assert_eq!(epochs, ["1"], "their connections are retired");

    // Nobody can be connected to any more, and nobody has to be.
    for database in ground.databases().await {
        let close = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", database.database);
        db::execute(&ground.app.server(), &close).await;
    }
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["skipped"], &report["failed"]), (&json!(0), &json!(5), &json!([])));
    let status = ground.fleet(&["status"]).await.expect(0).json();
    assert_eq!((&status["atHead"], &status["versions"][0]["operatorVersion"]), (&json!(5), &json!(2)));
}

#[actix_web::test]
async fn some_fail_and_are_mended_by_the_next_run() {
    let ground = Ground::new(5).await;
    for slug in ["t01x", "t04x"] {
        db::execute(&ground.database(slug).await, "CREATE TABLE orders ()").await;
    }
    ground.write("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY);");
    let report = ground.migrate(&[], 3).await;
    assert_eq!((&report["migrated"], &report["state"]), (&json!(3), &json!("partial")));
    let failed = report["failed"].as_array().unwrap();
    let slugs: Vec<_> = failed.iter().map(|failed| failed["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["t01x", "t04x"]);
    assert_eq!(failed[0]["migration"], "V1__orders.sql");
    assert!(failed[0]["error"].as_str().unwrap().contains("relation \"orders\" already exists"), "{failed:?}");
    let status = ground.fleet(&["status"]).await.expect(3).json();
    assert_eq!((status["failed"].as_array().unwrap().len(), &status["atHead"]), (2, &json!(3)));

    for slug in ["t01x", "t04x"] {
        db::execute(&ground.database(slug).await, "DROP TABLE orders").await;
    }
    let report = ground.migrate(&[], 0).await;
    assert_eq!((&report["migrated"], &report["skipped"]), (&json!(2), &json!(3)));
    assert_eq!(ground.count(&has("orders")).await, 5);
    ground.fleet(&["status"]).await.expect(0);
}

#[actix_web::test]
async fn too_many_failures_stop_the_run() {
    let ground = Ground::new(6).await;
    ground.write("V1__broken.sql", "SELECT 1 / 0;");
    let report = ground.migrate(&["--max-failures", "2", "--concurrency", "1", "--canary", "0"], 3).await;
    assert_eq!(report["state"], "stopped");
    assert!(report["reason"].as_str().unwrap().contains("2 tenants failed"), "{report}");
    assert_eq!((report["failed"].as_array().unwrap().len(), &report["pending"]), (2, &json!(4)));
}

/// One that was asked for speaks for all; where it is everybody, there is nobody to be spared.
#[actix_web::test]
async fn a_canary_that_fails_stops_the_run() {
    let ground = Ground::new(5).await;
    ground.write("V1__broken.sql", "SELECT 1 / 0;");
    let report = ground.migrate(&["--canary", "1"], 3).await;
    assert_eq!((&report["state"], &report["pending"]), (&json!("stopped"), &json!(4)));
    let (failed, reason) = (report["failed"].as_array().unwrap(), report["reason"].as_str().unwrap());
    assert!(
        failed.len() == 1 && reason.starts_with("every tenant of the canary that had its turn failed (1)"),
        "{report}"
    );
    let report = ground.migrate(&["--canary", "5"], 3).await;
    assert_eq!((&report["state"], &report["pending"]), (&json!("partial"), &json!(0)), "{report}");
}

#[actix_web::test]
async fn only_those_that_are_named() {
    let ground = Ground::new(3).await;
    ground.write("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY);");
    let report = ground.migrate(&["--only", "t00x,t02x"], 0).await;
    assert_eq!((&report["migrated"], &report["total"]), (&json!(2), &json!(2)));
    let made = "SELECT count(*)::text AS word FROM pg_tables WHERE tablename = 'orders'";
    assert_eq!(ground.count(made).await, 2);
    ground.fleet(&["migrate", "--only", "nobody-here"]).await.expect(4);
    ground.write("notes.sql", "SELECT 1");
    ground.fleet(&["migrate"]).await.expect(4);
}

#[actix_web::test]
async fn the_plan_says_what_is_lacking_and_what_is_locked() {
    let ground = Ground::new(2).await;
    ground.write("V1__phone.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE faxes (id int);");
    ground.write("V2__index.sql", "-- tenantry: no-transaction\nCREATE INDEX CONCURRENTLY by_fax ON contacts (fax);");
    let plan = ground.migrate(&["--dry-run"], 0).await;
    let migrations = plan["migrations"].as_array().unwrap();
    assert_eq!(migrations.len(), 2, "{plan}");
    let locks = migrations[0]["locks"].as_array().unwrap();
    assert!(locks.contains(&json!({"relation": "contacts", "mode": "AccessExclusiveLock"})), "{plan}");
    assert!(locks.iter().all(|lock| lock["relation"] != "faxes"), "what it makes itself is nobody's: {plan}");
    assert_eq!((&migrations[0]["transaction"], &migrations[1]["transaction"]), (&json!(true), &json!(false)));
    let tenant = json!({"slug": "t00x", "schemaVersion": plan["head"]["schemaVersion"], "operatorVersion": 0,
        "migrations": ["V1__phone.sql", "V2__index.sql"]});
    assert_eq!(plan["tenants"][0], tenant);
    let made = "SELECT count(*)::text AS word FROM pg_attribute WHERE attname = 'fax'";
    assert_eq!(ground.count(made).await, 0, "nothing was done");
    let left = "SELECT datname AS word FROM pg_database WHERE datname LIKE 'tenantry_trial%'";
    assert!(db::words(&ground.app.server(), left).await.is_empty());
    ground.write("V3__broken.sql", "SELECT nothing_of_the_kind;");
    let plan = ground.migrate(&["--dry-run"], 3).await;
    assert!(plan["migrations"][2]["error"].as_str().unwrap().contains("nothing_of_the_kind"), "{plan}");
}
