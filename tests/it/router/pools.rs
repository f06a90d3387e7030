//! What a request is told when no connection is to be had.

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;
use tenantry::router::{ClaimsOnly, ControlPlaneRegistry, Error, Router, RouterConfig, TenantConn, TenantHints};
use tenantry::testing::TestApp;

use crate::support::{db, eventually, seconds, shared};

/// All connections of a tenant wait for a table that somebody holds; whoever comes next is answered at the deadline.
#[actix_web::test]
async fn a_full_pool_answers_503_at_the_deadline_and_others_are_served() {
    let home = TestApp::shared().await;
    let app = TestApp::builder()
        .beside(home)
        .set("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "2")
        .set("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", "500ms")
        .start()
        .await;
    let (acme, globex) = (app.at(&home.tenant("acme").await), app.at(&home.tenant("globex").await));
    let (admin, other) = (acme.admin(), globex.admin());
    admin.signed_in().await;
    other.signed_in().await;
    // Warm, so that the session is remembered and no connection is needed for it.
    admin.get("/api/v1/contacts").await.expect(200);

    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // Those that come at once share a connection; who comes after finds that it is held up, and gets the other one; and
    // who finds both held up waits.
    let stuck = RefCell::new(Vec::new());
    let full = async || {
        let admin = admin.clone();
        stuck.borrow_mut().push(actix_web::rt::spawn(async move { admin.get("/api/v1/contacts").await.status }));
        let pool = app.router().pools().snapshot(acme.id).expect("a pool");
        pool.counts.busy == 2 && pool.counts.waiting > 0
    };
    eventually(seconds(5), "both connections are held up", full).await;
    let begun = Instant::now();
    let refused = admin.get("/api/v1/contacts").await.refused(503, "tenant_pool_exhausted");
    assert!(begun.elapsed() < shared(seconds(3)), "{:?}", begun.elapsed());
    assert!(
        refused.header("retry-after").and_then(|text| text.parse::<u64>().ok()).is_some_and(|wait| wait > 0),
        "{refused:?}"
    );
    other.get("/api/v1/contacts").await.expect(200);
    holder.batch_execute("ROLLBACK").await.unwrap();
    for answer in join_all(stuck.into_inner()).await {
        // Some came while both were held up, and had their deadline.
        assert!(matches!(answer.unwrap(), 200 | 503));
    }
    admin.get("/api/v1/contacts").await.expect(200);
}

#[actix_web::test]
async fn a_migration_retires_the_connections_of_before() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    let pids = format!(
        "SELECT pid::text AS word FROM pg_stat_activity WHERE usename = '{}' AND application_name LIKE 'tenantry/%'",
        acme.role()
    );
    let before = db::words(&app.server(), &pids).await;
    assert!(!before.is_empty());
    db::execute(app.control_database(), &format!("UPDATE tenants SET epoch = epoch + 1 WHERE id = '{}'", acme.id))
        .await;
    let retired = async || db::words(&app.server(), &pids).await.iter().all(|pid| !before.contains(pid));
    eventually(seconds(3), "the old connections are closed", retired).await;
    admin.get("/api/v1/contacts").await.expect(200);
}

/// Nobody would close what is opened then, and the slices have been given back.
#[actix_web::test]
async fn after_the_shutdown_no_server_gets_its_first_connection() {
    let app = TestApp::shared().await;
    let (acme, control) = (app.tenant("acme").await, app.control());
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig::new("http://tenantry.test");
    let router = Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router");
    let db = router.named(Some(acme.slug.as_str()), &TenantHints::default()).await.expect("an active tenant");
    router.shutdown().await;
    let read =
        db.read(async |conn: &mut TenantConn| -> Result<(), Error> { Ok(conn.batch_execute("SELECT 1").await?) });
    let refused = read.await.unwrap_err();
    assert!(matches!(refused, Error::TenantUnavailable { .. }), "{refused:?}");
    assert!(router.pools().slices().is_empty() && router.pools().opened() == 0);
}
