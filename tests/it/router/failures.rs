//! Databases that are down: the others do not notice, and nobody waits for long.

use std::time::Instant;

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, shared};

#[actix_web::test]
async fn a_stopped_server_is_answered_quickly_and_comes_back_by_itself() {
    let app = TestApp::builder().start().await;
    let mut second = Server::start().await;
    app.cluster("second", &second.target()).await;
    let hooli = app.tenant_on("second", "hooli").await;
    let there = hooli.admin();
    there.get("/api/v1/contacts").await.expect(200);
    let acme = app.tenant("acme").await;
    acme.admin().get("/api/v1/contacts").await.expect(200);

    second.stop().await;
    let down = async || there.get("/api/v1/contacts").await.status == 503;
    eventually(seconds(5), "it is noticed", down).await;
    for _ in 0..5 {
        let begun = Instant::now();
        let refused = there.get("/api/v1/contacts").await.refused(503, "tenant_database_unavailable");
        assert!(begun.elapsed() < shared(seconds(1)), "the breaker is open: {:?}", begun.elapsed());
        assert!(
            refused.header("retry-after").and_then(|text| text.parse::<u64>().ok()).is_some_and(|wait| wait > 0),
            "{refused:?}"
        );
        assert!(!refused.text.contains("127.0.0.1") && !refused.text.to_lowercase().contains("connection refused"));
        acme.admin().get("/api/v1/contacts").await.expect(200);
    }
    assert!(app.router().pools().snapshot(hooli.id).is_some_and(|pool| pool.breaker.is_some()));

    second.restart().await;
    let back = async || there.get("/api/v1/contacts").await.status == 200;
    eventually(seconds(30), "it serves again by itself", back).await;
    assert!(app.router().pools().snapshot(hooli.id).is_some_and(|pool| pool.breaker.is_none()));
}

#[actix_web::test]
async fn known_tenants_are_served_without_the_control_plane() {
    let mut plane = Server::start().await;
    let app = TestApp::builder().control_database(plane.target()).start().await;
    let acme = app.tenant("acme").await;
    let (admin, operator) = (acme.admin(), app.operator());
    admin.get("/api/v1/contacts").await.expect(200);
    operator.get("/api/v1/admin/tenants").await.expect(200);
    plane.stop().await;
    for _ in 0..3 {
        admin.get("/api/v1/contacts").await.expect(200);
        admin.contact("Still here").await;
        acme.log_in_as(acme.email(), acme.password()).await.expect(200);
    }
    app.anonymous().get("/livez").await.expect(200);
    let begun = Instant::now();
    let refused = operator.get("/api/v1/admin/tenants").await.refused(503, "control_plane_unavailable");
    assert!(begun.elapsed() < shared(seconds(10)), "{:?}", begun.elapsed());
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let body = json!({"tenant": "never-heard-of", "email": "a@example.com", "password": "x"});
    let unknown = app.anonymous().post("/api/v1/auth/login", body).await;
    assert!([401, 503].contains(&unknown.status), "{unknown:?}");

    plane.restart().await;
    let back = async || operator.get("/api/v1/admin/tenants").await.status == 200;
    eventually(seconds(15), "operators are served again", back).await;
    // And changes are followed again.
    acme.suspend().await;
    eventually(seconds(5), "followed", async || admin.get("/api/v1/contacts").await.status == 403).await;
}

#[actix_web::test]
async fn a_wrong_password_is_that_tenant_s_trouble_alone() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    // Somebody changed the role's password on the server, and its connections are gone.
    db::execute(&app.server(), &format!("ALTER ROLE {} PASSWORD 'another'", acme.role())).await;
    let kill = format!(
        "SELECT pg_terminate_backend(pid)::text AS word FROM pg_stat_activity WHERE usename = '{}'",
        acme.role()
    );
    db::words(&app.server(), &kill).await;
    let refused = async || admin.get("/api/v1/contacts").await.status == 503;
    eventually(seconds(5), "refused", refused).await;
    let answer = admin.get("/api/v1/contacts").await.refused(503, "tenant_database_unavailable");
    assert!(!answer.text.contains(acme.role()) && !answer.text.contains("password"), "{answer:?}");
    globex.admin().get("/api/v1/contacts").await.expect(200);
    let breaker = app.router().pools().snapshot(acme.id).and_then(|pool| pool.breaker);
    assert_eq!(breaker, Some("authentication"));
}

/// A tenant's role is let into no other database.
#[actix_web::test]
async fn a_role_is_refused_by_every_other_database() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let databases =
        [globex.role().to_owned(), "postgres".into(), "template1".into(), app.control_database().database.clone()];
    for database in databases {
        let may = format!("SELECT has_database_privilege('{}', '{database}', 'CONNECT')::text AS word", acme.role());
        assert_eq!(db::word(&app.server(), &may).await, "false", "{database}");
    }
    let owner =
        format!("SELECT pg_get_userbyid(datdba)::text AS word FROM pg_database WHERE datname = '{}'", acme.role());
    let owner = db::word(&app.server(), &owner).await;
    assert!(!owner.is_empty());
    let rights = format!(
        "SELECT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)::text AS word FROM pg_roles WHERE rolname = '{}'",
        acme.role()
    );
    assert_eq!(db::word(&app.server(), &rights).await, "false");
}
