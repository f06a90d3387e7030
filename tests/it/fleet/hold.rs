//! A tenant that is held: requests wait and do not fail, until it is let go, its time is up, or their patience ends.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use tenantry::control::tenants;
use tenantry::error::ApiError;
use tenantry::kernel::OperationId;
use tenantry::router::MainConn;
use tenantry::testing::{Tenant, TestApp};

use crate::support::{db, eventually, seconds};

const CONTACTS: &str = "/api/v1/contacts";

async fn hold(app: &TestApp, tenant: &Tenant, by: OperationId, lasting: Duration) {
    let id = tenant.id;
    let held = app.control().db;
    let held = held
        .read(async move |conn: &mut MainConn| -> Result<(), ApiError> { tenants::hold(conn, id, by, lasting).await });
    held.await.expect("held");
}

async fn release(app: &TestApp, tenant: &Tenant, by: OperationId) {
    let id = tenant.id;
    let released = app.control().db;
    let released = released
        .read(async move |conn: &mut MainConn| -> Result<(), ApiError> { tenants::release(conn, id, by).await });
    released.await.expect("released");
}

/// Connections of the tenant's role at the server.
async fn connections(app: &TestApp, tenant: &Tenant) -> String {
    let count = format!("SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}'", tenant.role());
    db::word(&app.server(), &count).await
}

#[actix_web::test]
async fn requests_of_a_held_tenant_wait_and_are_served_when_it_is_let_go() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("held").await, app.tenant("free").await);
    let by = OperationId::generate();
    acme.admin().get(CONTACTS).await.expect(200);
    hold(app, &acme, by, seconds(60)).await;
    let let_go = async || connections(app, &acme).await == "0";
    eventually(seconds(10), "its connections are let go", let_go).await;
    let waiting = (0..8).map(|number| {
        let admin = acme.admin();
        async move {
            if number % 2 == 0 {
                admin.contact("Patience").await;
            } else {
                admin.get(CONTACTS).await.expect(200);
            }
        }
    });
    let mut waiting = std::pin::pin!(join_all(waiting));
    // Others are served meanwhile, and nobody of those who wait is.
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("served while it is held"),
            answer = async { globex.admin().get(CONTACTS).await } => { answer.expect(200); }
        }
    }
    assert_eq!(connections(app, &acme).await, "0");
    release(app, &acme, by).await;
    waiting.await;
}

/// Whatever `router.hold_timeout` is: they wait until the hold's own deadline.
#[actix_web::test]
async fn requests_wait_as_long_as_the_hold_lasts_and_it_ends_by_itself() {
    let app = TestApp::builder().set("TENANTRY_ROUTER__HOLD_TIMEOUT", "1ms").start().await;
    let (acme, globex) = (app.tenant("held").await, app.tenant("free").await);
    let admin = acme.admin();
    admin.get(CONTACTS).await.expect(200);
    let by = OperationId::generate();
    hold(&app, &acme, by, seconds(60)).await;
    let let_go = async || connections(&app, &acme).await == "0";
    eventually(seconds(10), "its connections are let go", let_go).await;
    let mut waiting = std::pin::pin!(admin.get(CONTACTS));
    for _ in 0..20 {
        tokio::select! {
            biased;
            answer = &mut waiting => panic!("answered while it is held: {answer:?}"),
            answer = async { globex.admin().get(CONTACTS).await } => { answer.expect(200); }
        }
    }
    // Suspension is stronger than a hold.
    acme.suspend().await;
    assert_eq!(waiting.await.code(), "tenant_suspended");
    acme.resume().await;
    // Whoever held it is gone: the hold runs out, and nobody has to lift it.
    hold(&app, &acme, by, Duration::from_millis(1)).await;
    eventually(seconds(15), "served again", async || admin.get(CONTACTS).await.status == 200).await;
    for _ in 0..5 {
        admin.contact("Afterwards").await;
    }
}

/// Holds of a server that does not answer stay. They hide none of another's, however many and old they are.
#[actix_web::test]
async fn the_expired_holds_of_one_server_hide_none_of_another_s() {
    let app = TestApp::builder().start().await;
    let id = app.tenant("held").await.id;
    // Those of tenants that are nowhere stand for those of one server.
    let holds = format!(
        "ALTER TABLE tenant_holds DROP CONSTRAINT tenant_holds_tenant_id_fkey; \
         INSERT INTO tenant_holds (tenant_id, operation_id, held_until) \
         SELECT gen_random_uuid(), gen_random_uuid(), now() - interval '1 hour' FROM generate_series(1, 100) \
         UNION ALL SELECT '{id}', gen_random_uuid(), now() - interval '1 second'"
    );
    let control = app.control();
    // Nobody else sees them, who would end them.
    let expired = control.db.transaction(async move |conn: &mut MainConn| -> Result<_, ApiError> {
        conn.batch_execute(&holds).await?;
        let expired = tenants::expired_holds(conn).await?;
        conn.batch_execute("DELETE FROM tenant_holds").await?;
        Ok(expired)
    });
    let expired = expired.await.expect("the control plane answers");
    assert_eq!(expired.len(), 100);
    assert!(expired.iter().any(|(tenant, _)| *tenant == id), "{expired:?}");
}
