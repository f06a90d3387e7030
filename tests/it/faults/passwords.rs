//! A role's password changes, rightly and wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use diesel_async::RunQueryDsl as _;
use futures_util::future::join_all;
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::control::tenants;
use tenantry::error::ApiError;
use tenantry::kernel::{Slug, TenantId};
use tenantry::router::{
    Changes, ControlPlaneRegistry, Error, Installation, MainConn, Registry, Result, Router, RouterConfig, TenantConn,
    TenantDb,
};
use tenantry::testing::{Tenant, TestApp};

use super::ground::{
    PACE, PATIENCE, assert_refused, behind_a_proxy, breaker, counted, database, embedded_with, kill_all, read,
    recovers, short_deadlines, undisturbed, until_open, warm,
};
use crate::support::{db, eventually, say, unique};

/// A registry whose changes nobody hears of: neither announced nor polled. Reading a tenant is counted.
struct Deaf {
    registry: ControlPlaneRegistry,
    reads: Arc<AtomicU64>,
}

#[async_trait]
impl Registry for Deaf {
    async fn installation(&self) -> Result<Installation> {
        self.registry.installation().await
    }
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<tenantry::router::Tenant>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.registry.tenant_by_id(id).await
    }
    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>> {
        self.registry.id_by_slug(slug).await
    }
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        match generation {
            None => self.registry.changes_since(None).await,
            Some(generation) => Ok(Changes { generation, ..Changes::default() }),
        }
    }
    async fn announced(&self) -> Result<()> {
        std::future::pending().await
    }
}

async fn alter_role(app: &TestApp, tenant: &Tenant, password: &str) {
    db::execute(&app.server(), &format!("ALTER ROLE {} PASSWORD '{password}'", tenant.role())).await;
}

/// The registry learns of a new password, as a rotation writes it.
async fn register(app: &TestApp, tenant: &Tenant, password: &str) {
    let (control, id, password) = (app.control(), tenant.id, SecretString::from(password.to_owned()));
    let keys = control.keys.clone();
    let written = control.db.read(async move |conn: &mut MainConn| -> Result<(), ApiError> {
        tenants::set_password(conn, &keys, id, &password).await
    });
    written.await.expect("a shared tenant");
}

/// The password that the registry knows.
async fn registered(app: &TestApp, tenant: &Tenant) -> SecretString {
    let (control, id) = (app.control(), tenant.id);
    let keys = control.keys.clone();
    let target = control.db.read(async move |conn: &mut MainConn| -> Result<_, ApiError> {
        Ok(tenants::target(conn, &keys, id).await?.0)
    });
    target.await.expect("a tenant").password
}

async fn select(db: &TenantDb) -> Result<()> {
    db.read(async |conn: &mut TenantConn| -> Result<(), Error> {
        diesel::sql_query("SELECT count(*) FROM contacts").execute(conn).await?;
        Ok(())
    })
    .await
}

/// Whoever meets the old password's refusal reads the registry once, and goes on with the new one.
#[actix_web::test]
async fn a_rotated_password_is_found_by_the_request_that_needs_it() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (control, reads) = (app.control(), Arc::new(AtomicU64::new(0)));
    let registry = Deaf { registry: ControlPlaneRegistry::new(control.db, control.keys), reads: reads.clone() };
    let router = embedded_with(Arc::new(registry), RouterConfig::new("http://tenantry.test")).await;
    let db = database(&router, &acme).await;
    select(&db).await.unwrap();

    let password = unique("rotated");
    alter_role(app, &acme, &password).await;
    register(app, &acme, &password).await;
    kill_all(&app.server(), &[&acme]).await;
    let so_far = || AtomicU64::load(&reads, Ordering::Relaxed);
    let before = so_far();
    for done in join_all((0..8).map(|_| select(&db))).await {
        done.expect("served with the new password");
    }
    assert_eq!(so_far() - before, 1, "the registry is read once");
    let pool = router.pools().snapshot(acme.id).expect("a pool");
    assert_eq!(pool.breaker, None);
    router.shutdown().await;
}

/// A router that hears of no change, with the tenant's database.
async fn deaf(app: &TestApp, tenant: &Tenant) -> (Router, TenantDb) {
    let control = app.control();
    let registry = Deaf { registry: ControlPlaneRegistry::new(control.db, control.keys), reads: Arc::default() };
    let router = embedded_with(Arc::new(registry), RouterConfig::new("http://tenantry.test")).await;
    let db = database(&router, tenant).await;
    (router, db)
}

/// Whoever rotates changes the server and the registry one after the other; requests that come between wait for the
/// second, whichever it is.
#[actix_web::test]
async fn between_the_two_halves_of_a_rotation_requests_wait() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let server_first = async |password: &str| {
        let (router, db) = deaf(app, &acme).await;
        select(&db).await.unwrap();
        alter_role(app, &acme, password).await;
        kill_all(&app.server(), &[&acme]).await;
        (router, db)
    };
    let registry_first = async |password: &str| {
        register(app, &acme, password).await;
        deaf(app, &acme).await
    };
    for registered_first in [false, true] {
        let password = unique("rotated");
        let (router, db) =
            if registered_first { registry_first(&password).await } else { server_first(&password).await };
        let so_far = router.pools().opened();
        let reads = async {
            for done in join_all((0..8).map(|_| select(&db))).await {
                done.expect("served with the new password");
            }
        };
        let second_half = async {
            // The old password, or the one that is not valid yet, has been refused.
            eventually(PATIENCE, "tried again", async || router.pools().opened() >= so_far + 2).await;
            if registered_first {
                alter_role(app, &acme, &password).await;
            } else {
                register(app, &acme, &password).await;
            }
        };
        tokio::join!(reads, second_half);
        let pool = router.pools().snapshot(acme.id).expect("a pool");
        assert_eq!(pool.breaker, None, "registered first: {registered_first}");
        router.shutdown().await;
    }
}

/// With announcements as they are, a rotation costs no read, though it ends every connection; a write whose backend is
/// ended in the middle cannot be done again, so there is none of the tenant's own.
#[actix_web::test]
async fn a_rotation_under_traffic_costs_no_read() {
    let app = TestApp::shared().await;
    let tenants = warm(app, 2).await;
    let rotating = async {
        for _ in 0..2 {
            let password = unique("rotated");
            alter_role(app, &tenants[0], &password).await;
            register(app, &tenants[0], &password).await;
            kill_all(&app.server(), &[&tenants[0]]).await;
            for _ in 0..10 {
                read(&tenants[0].admin()).await.expect(200);
            }
        }
    };
    let reading = join_all((0..3).map(|_| async {
        loop {
            read(&tenants[0].admin()).await.expect(200);
            tokio::time::sleep(PACE).await;
        }
    }));
    undisturbed(&tenants[1..], async {
        tokio::select! {
            () = rotating => {}
            endless = reading => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they read on and on") }
        }
    })
    .await;
    assert_eq!(breaker(app, &tenants[0]), None);
}

/// A password that is wrong in the registry is that tenant's trouble, and ends when either side is put right.
#[actix_web::test]
async fn a_wrong_password_opens_that_tenant_s_breaker_alone() {
    let app = short_deadlines().start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    let (admin, right) = (patient.admin(), registered(&app, &patient).await);
    let neighbours = warm(&app, 1).await;
    undisturbed(&neighbours, async {
        let wrong = unique("wrong");
        for by_registry in [false, true] {
            alter_role(&app, &patient, &wrong).await;
            kill_all(&app.server(), &[&patient]).await;
            assert_eq!(until_open(&app, &patient).await, "authentication");
            let asking = async {
                for _ in 0..5 {
                    for answer in join_all((0..8).map(|_| read(&admin))).await {
                        assert_refused(&answer);
                        assert!(
                            !answer.text.contains(patient.role()) && !answer.text.contains("password"),
                            "{answer:?}"
                        );
                    }
                }
            };
            let ((), tried) = counted(|| proxy.accepted(), asking).await;
            say(&format!("wrong password: 40 refusals, {tried} connections tried"));
            assert!(tried <= 8, "{tried} connections were tried for 40 requests");
            if by_registry {
                register(&app, &patient, &wrong).await;
            } else {
                alter_role(&app, &patient, right.expose_secret()).await;
            }
            recovers("wrong password", &admin).await;
            assert_eq!(breaker(&app, &patient), None);
        }
    })
    .await;
}
