//! Statements that the work itself gives up, in a timeout of its own say: they run on at the server, and its answer goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tenantry::router::{
    ClaimsOnly, ControlPlaneRegistry, Error, Router, RouterConfig, TenantConn, TenantDb, TenantHints, TenantTx, TopBy,
};
use tenantry::testing::{Tenant, TestApp};
use tokio::time::timeout;

use crate::support::{db, eventually, seconds, shared};

const SOON: Duration = Duration::from_millis(200);
/// Behind a statement that outlasts that, and is over before the transaction's deadline.
const LATE: &str = "SELECT pg_sleep(1); INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')";

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// A router with one connection to a tenant of this test's own.
async fn with_one_connection() -> (Router, TenantDb, Tenant) {
    let app = TestApp::shared().await;
    let tenant = app.tenant("acme").await;
    let control = app.control();
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig { tenant_max_connections: 1, ..RouterConfig::new("http://tenantry.test") };
    let router = Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router");
    let db = router.named(Some(tenant.slug.as_str()), &TenantHints::default()).await.expect("an active tenant");
    (router, db, tenant)
}

async fn number(db: &TenantDb) -> i64 {
    let read = db.read(async |conn: &mut TenantConn| -> Result<i64, Error> {
        let rows = diesel::sql_query("SELECT n::bigint AS number FROM generate_series(1, 3) n");
        Ok(rows.get_result::<Number>(conn).await?.number)
    });
    read.await.expect("a number")
}

fn cancelled(router: &Router) -> u64 {
    router.pools().report(TopBy::Requests, 10).tenants.iter().map(|tenant| tenant.usage.cancelled_statements).sum()
}

/// Nothing of the tenant's is at work or in a transaction, and nothing was stored.
async fn nothing_is_stored(router: &Router, tenant: &Tenant) {
    let settled = async || {
        let pool = router.pools().snapshot(tenant.id);
        pool.is_none_or(|pool| pool.counts.busy == 0)
    };
    eventually(seconds(5), "in order again", settled).await;
    assert_eq!(db::word(tenant.database(), "SELECT count(*)::text AS word FROM contacts").await, "0");
}

#[actix_web::test]
async fn what_a_read_gives_up_holds_up_nobody() {
    let (router, db, _tenant) = with_one_connection().await;
    for way in ["batch_execute", "execute", "load"] {
        let read = db.read(async |conn: &mut TenantConn| -> Result<bool, Error> {
            let given_up = match way {
                "batch_execute" => timeout(SOON, conn.batch_execute("SELECT pg_sleep(60)")).await.is_err(),
                "execute" => timeout(SOON, diesel::sql_query("SELECT pg_sleep(60)").execute(conn)).await.is_err(),
                _ => {
                    let rows = diesel::sql_query("SELECT 1::bigint AS number FROM pg_sleep(60)");
                    timeout(SOON, rows.load::<Number>(conn)).await.is_err()
                }
            };
            Ok(given_up)
        });
        assert!(read.await.unwrap(), "{way}");
        let begun = Instant::now();
        assert_eq!(number(&db).await, 1);
        assert!(begun.elapsed() < shared(seconds(4)), "{way}: {:?}", begun.elapsed());
    }
    router.shutdown().await;
}

/// Whoever takes the first row has what they wanted.
#[actix_web::test]
async fn rows_that_nobody_asked_for_are_not_given_up() {
    let (router, db, _tenant) = with_one_connection().await;
    for _ in 0..20 {
        assert_eq!(number(&db).await, 1);
    }
    assert_eq!(cancelled(&router), 0);
    router.shutdown().await;
}

#[actix_web::test]
async fn what_a_transaction_gives_up_is_not_committed() {
    let (router, db, tenant) = with_one_connection().await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        assert!(timeout(SOON, tx.batch_execute(LATE)).await.is_err(), "given up");
        Ok(())
    });
    let error = work.await.unwrap_err();
    assert!(matches!(error, Error::Query(diesel::result::Error::RollbackTransaction)), "{error:?}");
    nothing_is_stored(&router, &tenant).await;
    router.shutdown().await;
}

#[actix_web::test]
async fn a_savepoint_that_is_given_up_takes_its_transaction_along() {
    let (router, db, tenant) = with_one_connection().await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        let half = tx.savepoint(async |tx: &mut TenantTx| -> Result<(), Error> {
            tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Half')").await?;
            std::future::pending().await
        });
        assert!(timeout(SOON, half).await.is_err(), "given up");
        Ok(())
    });
    assert!(work.await.is_err());
    nothing_is_stored(&router, &tenant).await;
    router.shutdown().await;
}

#[actix_web::test]
async fn a_savepoint_undoes_what_was_given_up_in_it() {
    let (router, db, tenant) = with_one_connection().await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        let undone = tx.savepoint(async |tx: &mut TenantTx| -> Result<(), Error> {
            assert!(timeout(SOON, tx.batch_execute(LATE)).await.is_err(), "given up");
            Ok(())
        });
        assert!(undone.await.is_err(), "it has failed");
        Ok(tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Kept')").await?)
    });
    work.await.expect("the rest of it is stored");
    let names = "SELECT string_agg(last_name, ' ') AS word FROM contacts";
    assert_eq!(db::word(tenant.database(), names).await, "Kept");
    router.shutdown().await;
}

/// One that was given up within another is still there when the other is undone.
#[actix_web::test]
async fn a_savepoint_that_is_given_up_in_another_is_undone_with_it() {
    let (router, db, tenant) = with_one_connection().await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        let outer = tx.savepoint(async |tx: &mut TenantTx| -> Result<(), Error> {
            tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Outer')").await?;
            let inner = tx.savepoint(async |tx: &mut TenantTx| -> Result<(), Error> {
                tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Inner')").await?;
                std::future::pending().await
            });
            assert!(timeout(SOON, inner).await.is_err(), "given up");
            Ok(())
        });
        assert!(outer.await.is_err(), "it has failed");
        Ok(tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Kept')").await?)
    });
    work.await.expect("the rest of it is stored");
    let names = "SELECT string_agg(last_name, ' ') AS word FROM contacts";
    assert_eq!(db::word(tenant.database(), names).await, "Kept");
    router.shutdown().await;
}
