//! What becomes of work that nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::ResponseError as _;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tenantry::error::{ApiError, Code};
use tenantry::router::{
    ClaimsOnly, ControlPlaneRegistry, Error, MainConn, Passing, Router, RouterConfig, TenantConn, TenantDb,
    TenantHints, TenantTx,
};
use tenantry::testing::{Tenant, TestApp};

use crate::support::{db, eventually, seconds, shared};

/// A router in this test's own runtime, as an embedder has it.
async fn router(app: &TestApp, change: impl FnOnce(RouterConfig) -> RouterConfig) -> Router {
    let control = app.control();
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = change(RouterConfig::new("http://tenantry.test"));
    Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router")
}

async fn database(router: &Router, tenant: &Tenant) -> TenantDb {
    router.named(Some(tenant.slug.as_str()), &TenantHints::default()).await.expect("an active tenant")
}

fn backends(tenant: &Tenant) -> String {
    format!(
        "SELECT pid::text AS word FROM pg_stat_activity WHERE usename = '{}' AND application_name LIKE 'tenantry/%'",
        tenant.role()
    )
}

#[actix_web::test]
async fn a_dropped_transaction_is_rolled_back_and_its_connection_not_used_again() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let work = db.transaction(async |conn: &mut TenantTx| -> Result<(), Error> {
        conn.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')").await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    assert!(tokio::time::timeout(Duration::from_millis(500), work).await.is_err(), "dropped in the midst of it");
    let open = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND state LIKE 'idle in transaction%'",
        acme.role()
    );
    eventually(seconds(5), "rolled back", async || db::word(&app.server(), &open).await == "0").await;
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM contacts").await, "0");
    // The next one starts afresh: no transaction is open on its connection.
    let fresh = db.read(async |conn: &mut TenantConn| -> Result<bool, Error> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Bool)]
            fresh: bool,
        }
        let row: Row =
            diesel::sql_query("SELECT pg_current_xact_id_if_assigned() IS NULL AS fresh").get_result(conn).await?;
        Ok(row.fresh)
    });
    assert!(fresh.await.unwrap());
    router.shutdown().await;
}

#[actix_web::test]
async fn a_statement_that_nobody_waits_for_is_cancelled() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let work = db.read(async |conn: &mut TenantConn| -> Result<(), Error> {
        Ok(conn.batch_execute("SELECT pg_sleep(60)").await?)
    });
    assert!(tokio::time::timeout(Duration::from_millis(500), work).await.is_err());
    let sleeping = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND state = 'active' AND query LIKE '%pg_sleep%'",
        acme.role()
    );
    eventually(seconds(5), "cancelled", async || db::word(&app.server(), &sleeping).await == "0").await;
    router.shutdown().await;
    eventually(seconds(5), "closed", async || db::words(&app.server(), &backends(&acme)).await.is_empty()).await;
}

/// A client that hangs up is nobody who waits.
#[actix_web::test]
async fn a_client_that_goes_away_takes_its_statement_along() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'",
        acme.role()
    );
    let request = actix_web::rt::spawn(async move { admin.get("/api/v1/contacts").await.status });
    eventually(seconds(5), "the statement waits", async || db::word(&app.server(), &waiting).await == "1").await;
    request.abort();
    eventually(seconds(5), "it is cancelled", async || db::word(&app.server(), &waiting).await == "0").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
}

#[actix_web::test]
async fn a_statement_has_a_deadline() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let short = |config| RouterConfig { statement_timeout: Duration::from_millis(300), ..config };
    let router = router(app, short).await;
    let db = database(&router, &acme).await;
    let begun = std::time::Instant::now();
    let work = db.read(async |conn: &mut TenantConn| -> Result<(), Error> {
        Ok(conn.batch_execute("SELECT pg_sleep(60)").await?)
    });
    assert!(work.await.is_err());
    assert!(begun.elapsed() < shared(seconds(4)), "{:?}", begun.elapsed());
    // The tenant itself is well.
    let work =
        db.read(async |conn: &mut TenantConn| -> Result<(), Error> { Ok(conn.batch_execute("SELECT 1").await?) });
    work.await.unwrap();
    router.shutdown().await;
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// Its first row is never there: it fails as it runs, after PostgreSQL has taken it.
const FAILS_LATE: &str = "SELECT 1 / count(*) AS number FROM contacts WHERE false";

#[actix_web::test]
async fn a_failure_that_the_work_passes_over_is_none_of_a_commit() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')").await?;
        let failed = diesel::sql_query(FAILS_LATE).load::<Number>(tx).await;
        assert!(failed.is_err(), "divided by zero");
        Ok(())
    });
    assert!(
        matches!(work.await, Err(Error::Query(diesel::result::Error::RollbackTransaction))),
        "not stored in silence"
    );
    router.shutdown().await;
}

#[actix_web::test]
async fn a_transaction_whose_connection_breaks_says_that_nothing_was_done() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')").await?;
        Ok(tx.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await?)
    });
    let error = work.await.unwrap_err();
    assert!(matches!(error, Error::DatabaseUnavailable { .. }), "{error:?}");
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM contacts").await, "0");
    router.shutdown().await;
}

/// Its connection is somebody else's next, and its end is the closure's answer.
#[actix_web::test]
async fn a_transaction_neither_ends_itself_nor_sets_what_outlives_it() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    for words in
        ["COMMIT", "/* now */ ROLLBACK", "SET search_path = other", "RESET ALL", "LISTEN acme", "DEALLOCATE ALL"]
    {
        let batch = format!("SELECT 1; {words}");
        let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
            tx.batch_execute("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')").await?;
            let refused = diesel::sql_query(words).execute(tx).await;
            assert!(refused.is_err(), "{words}");
            let bound = diesel::sql_query(words).bind::<diesel::sql_types::Integer, _>(1).execute(tx).await;
            assert!(matches!(bound, Err(diesel::result::Error::QueryBuilderError(_))), "{words}: {bound:?}");
            Ok(tx.batch_execute(&batch).await?)
        });
        let error = work.await.unwrap_err();
        assert!(matches!(&error, Error::Query(cause) if cause.to_string().contains("savepoint")), "{words}: {error:?}");
    }
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM contacts").await, "0");
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        diesel::sql_query("SET LOCAL lock_timeout = '1s'").execute(tx).await?;
        Ok(tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; DO $$ BEGIN NULL; END $$").await?)
    });
    work.await.unwrap();
    router.shutdown().await;
}

/// As a server says it whose `lc_messages` is `de_DE`.
const GERMAN: [(&str, &str, Passing, Code); 2] = [
    ("57014", "breche Anfrage wegen Zeitüberschreitung der Anfrage ab", Passing::Away, Code::TenantDatabaseUnavailable),
    ("40P01", "Verklemmung (Deadlock) entdeckt", Passing::Deadlock, Code::Overloaded),
];

fn raises(state: &str, text: &str) -> String {
    format!("DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{state}'; END $$")
}

#[actix_web::test]
async fn what_passes_by_itself_is_known_in_the_servers_own_language() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    for (state, text, passing, code) in GERMAN {
        let raise = raises(state, text);
        let work =
            db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> { Ok(tx.batch_execute(&raise).await?) });
        let error = work.await.unwrap_err();
        assert!(matches!(&error, Error::Query(cause) if Passing::of(cause) == Some(passing)), "{error:?}");
        assert_eq!(error.error_response().status().as_u16(), 503);
        assert_eq!(ApiError::from(error).code(), code);
    }
    router.shutdown().await;
}

#[actix_web::test]
async fn the_control_planes_language_matters_as_little() {
    let control = TestApp::shared().await.control();
    for (state, text, passing, _) in GERMAN {
        let raise = raises(state, text);
        let read = control
            .db
            .read(async |conn: &mut MainConn| -> Result<(), ApiError> { Ok(conn.batch_execute(&raise).await?) });
        let transaction = control
            .db
            .transaction(async |conn: &mut MainConn| -> Result<(), ApiError> { Ok(conn.batch_execute(&raise).await?) });
        let code = match passing {
            Passing::Away => Code::ControlPlaneUnavailable,
            Passing::Deadlock => Code::Overloaded,
        };
        assert_eq!(read.await.unwrap_err().code(), code);
        assert_eq!(transaction.await.unwrap_err().code(), code);
    }
    // Who comes next on the same connections is told what is wrong with their own statements.
    let wrong = control.db.read(async |conn: &mut MainConn| -> Result<(), ApiError> {
        Ok(conn.batch_execute("SELECT nothing_there").await?)
    });
    assert_eq!(wrong.await.unwrap_err().code(), Code::Internal);
}

#[actix_web::test]
async fn a_read_whose_backend_dies_among_its_rows_is_done_again() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let tries = AtomicU32::new(0);
    let read = db.read(async |conn: &mut TenantConn| -> Result<i64, Error> {
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        let sleep = format!("SELECT count(pg_sleep({})) AS number", if first { 60 } else { 0 });
        Ok(diesel::sql_query(sleep).get_result::<Number>(conn).await?.number)
    });
    let asleep = format!(
        "SELECT pg_terminate_backend(pid)::text AS word FROM pg_stat_activity \
         WHERE usename = '{}' AND wait_event = 'PgSleep'",
        acme.role()
    );
    let kill = eventually(seconds(5), "it is ended", async || db::words(&app.server(), &asleep).await.len() == 1);
    let (read, ()) = tokio::join!(read, kill);
    assert_eq!((read.unwrap(), tries.into_inner()), (1, 2));
    router.shutdown().await;
}

/// What ends one backend may end the tenant's others in the same breath: those that are open by then are not trusted,
/// however young they are.
#[actix_web::test]
async fn a_read_that_is_done_again_goes_to_a_connection_that_was_not_there() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = router(app, |config| config).await;
    let db = database(&router, &acme).await;
    let (tries, backend) = (AtomicU32::new(0), "SELECT pg_backend_pid()::bigint AS number");
    let read = db.read(async |conn: &mut TenantConn| -> Result<i64, Error> {
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        let query = if first { "SELECT count(pg_sleep(60)) AS number" } else { backend };
        Ok(diesel::sql_query(query).get_result::<Number>(conn).await?.number)
    });
    let asleep = format!("FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'", acme.role());
    let meanwhile = async {
        let long = format!("SELECT count(*)::text AS word {asleep} AND query_start < now() - interval '50 ms'");
        eventually(seconds(5), "it sleeps", async || db::word(&app.server(), &long).await == "1").await;
        // Nobody waits behind a statement as slow as that: this one has a connection opened.
        let other = db.read(async |conn: &mut TenantConn| -> Result<i64, Error> {
            Ok(diesel::sql_query(backend).get_result::<Number>(conn).await?.number)
        });
        let other = other.await.unwrap();
        let kill = format!("SELECT pg_terminate_backend(pid)::text AS word {asleep}");
        assert_eq!(db::words(&app.server(), &kill).await.len(), 1);
        other
    };
    let (read, other) = tokio::join!(read, meanwhile);
    assert_ne!(read.unwrap(), other);
    router.shutdown().await;
}
