//! Databases that neither answer nor refuse: nobody hangs with them.

use std::time::Instant;

use diesel_async::SimpleAsyncConnection as _;
use tenantry::router::{AdminConn, ConnectOptions};
use tenantry::testing::TestApp;
use tokio::time::timeout;

use crate::support::servers::Server;
use crate::support::{eventually, seconds, shared};

#[actix_web::test]
async fn with_the_control_plane_frozen_known_tenants_are_served_and_operators_told() {
    let plane = Server::start().await;
    let app = TestApp::builder().control_database(plane.target()).start().await;
    let acme = app.tenant("acme").await;
    let (admin, operator) = (acme.admin(), app.operator());
    admin.get("/api/v1/contacts").await.expect(200);
    operator.get("/api/v1/admin/tenants").await.expect(200);
    let frozen = plane.freeze();
    let begun = Instant::now();
    let told = operator.get("/api/v1/admin/tenants");
    let served = async {
        for _ in 0..10 {
            let begun = Instant::now();
            admin.get("/api/v1/contacts").await.expect(200);
            assert!(begun.elapsed() < shared(seconds(2)), "{:?}", begun.elapsed());
        }
    };
    let (told, ()) = futures_util::join!(told, served);
    told.refused(503, "control_plane_unavailable");
    assert!(begun.elapsed() < shared(seconds(10)), "{:?}", begun.elapsed());
    drop(frozen);
    let back = async || operator.get("/api/v1/admin/tenants").await.status == 200;
    eventually(seconds(15), "operators are served again", back).await;
}

#[actix_web::test]
async fn a_frozen_tenant_database_holds_nobody_up_for_long() {
    let app = TestApp::builder()
        .set("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "1s")
        .set("TENANTRY_ROUTER__CONNECT_TIMEOUT", "1s")
        .set("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", "1s")
        .start()
        .await;
    let second = Server::start().await;
    app.cluster("second", &second.target()).await;
    let there = app.tenant_on("second", "hooli").await.admin();
    there.get("/api/v1/contacts").await.expect(200);
    let acme = app.tenant("acme").await;
    acme.admin().get("/api/v1/contacts").await.expect(200);

    let frozen = second.freeze();
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = there.get("/api/v1/contacts").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(begun.elapsed() < shared(seconds(8)), "{:?}", begun.elapsed());
        let begun = Instant::now();
        acme.admin().get("/api/v1/contacts").await.expect(200);
        assert!(begun.elapsed() < shared(seconds(2)), "{:?}", begun.elapsed());
    }
    drop(frozen);
    let back = async || there.get("/api/v1/contacts").await.status == 200;
    eventually(seconds(30), "it serves again by itself", back).await;
}

/// The server's own bound on a statement stands still with it, and its kernel acknowledges whatever is sent.
#[actix_web::test]
async fn a_frozen_server_holds_no_administrator() {
    let server = Server::start().await;
    let options = ConnectOptions { statement_timeout: Some(seconds(1)), ..ConnectOptions::default() };
    let mut conn = AdminConn::open(&server.target(), &options).await.expect("it answers");
    let mut idle = AdminConn::open(&server.target(), &options).await.expect("it answers");
    idle.batch_execute("SELECT 1").await.expect("an answer");
    let frozen = server.freeze();
    let said = timeout(shared(seconds(30)), conn.batch_execute("SELECT 1")).await.expect("not for ever");
    said.expect_err("nobody answers");
    drop(frozen);
    idle.batch_execute("SELECT 1").await.expect("whoever waits for nothing is not cut off");
}
