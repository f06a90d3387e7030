//! The registry's generations: in the order of commits, for every kind of change.

use diesel_async::SimpleAsyncConnection;
use tenantry::testing::TestApp;

use crate::support::{db, eventually, seconds};

const HEAD: &str = "SELECT generation::text AS word FROM registry_head";

#[actix_web::test]
async fn every_change_of_an_entry_is_logged() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let control = app.control_database();
    let id = acme.id.to_string();
    let key = format!("UPDATE signing_keys SET retired_at = retired_at WHERE tenant_id = '{id}'");
    let changes = [
        format!("UPDATE tenants SET name = 'Another' WHERE id = '{id}'"),
        format!("UPDATE tenants SET status = 'suspended' WHERE id = '{id}'"),
        format!("UPDATE tenants SET status = 'active' WHERE id = '{id}'"),
        format!("UPDATE tenants SET epoch = epoch + 1 WHERE id = '{id}'"),
        key,
        "UPDATE clusters SET connection_budget = 33".into(),
    ];
    for change in changes {
        let before: i64 = db::word(control, HEAD).await.parse().unwrap();
        db::execute(control, &change).await;
        let after: i64 = db::word(control, HEAD).await.parse().unwrap();
        assert!(after > before, "{change}");
        let logged =
            format!("SELECT coalesce(tenant_id::text, 'all') AS word FROM registry_log WHERE generation > {before}");
        let logged = db::words(control, &logged).await;
        assert!(logged.contains(&id) || logged.contains(&"all".to_owned()), "{change}: {logged:?}");
    }
    // What is no change of an entry is none.
    let before = db::word(control, HEAD).await;
    db::execute(control, "UPDATE clusters SET draining = draining").await;
    assert_eq!(db::word(control, HEAD).await, before);
}

/// Whoever has a greater generation has committed later: a reader that has seen one misses nothing before it.
#[actix_web::test]
async fn generations_come_in_the_order_of_commits() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let control = app.control_database();
    let mut first = db::open(control).await;
    first.batch_execute(&format!("BEGIN; UPDATE tenants SET name = 'First' WHERE id = '{}'", acme.id)).await.unwrap();
    let second = {
        let (control, id) = (control.clone(), globex.id);
        actix_web::rt::spawn(async move {
            db::execute(&control, &format!("UPDATE tenants SET name = 'Second' WHERE id = '{id}'")).await;
        })
    };
    let waits = "SELECT count(*)::text AS word FROM pg_locks WHERE NOT granted";
    eventually(seconds(5), "the second waits for the first", async || db::word(control, waits).await != "0").await;
    first.batch_execute("COMMIT").await.unwrap();
    second.await.unwrap();
    let of = async |id| {
        let sql = format!("SELECT generation::text AS word FROM tenants WHERE id = '{id}'");
        db::word(control, &sql).await.parse::<i64>().unwrap()
    };
    assert!(of(acme.id).await < of(globex.id).await);
}
