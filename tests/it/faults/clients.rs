//! Clients that go away: their statements are cancelled, their transactions rolled back, and the budget is whole again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::future::join_all;
use futures_util::poll;
use serde_json::json;
use tenantry::router::{Error, RouterConfig, TenantConn, TenantDb, TopBy};
use tenantry::testing::{Persona, Tenant, TestApp};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ground::{PATIENCE, Tx, backends, count, database, embedded, hold_contacts, idle_again, read, whole_again};
use crate::support::{db, eventually, seconds, shared};

/// A statement that nobody waits for is gone by then.
const CANCELLED: Duration = seconds(5);
const NO_ROWS: &str = "SELECT count(*)::text AS word FROM contacts WHERE last_name = 'Ghost'";
const GHOST: &str = r#"{"lastName":"Ghost"}"#;

/// A request over a connection of its own, sent whole. Dropping it is hanging up.
async fn send(app: &TestApp, person: &Persona, head: &str, headers: &str, body: &str) -> TcpStream {
    let address = app.url().strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        person.token().await,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    stream
}

async fn until_waiting(app: &TestApp, tenant: &Tenant, is_so: impl Fn(usize) -> bool) {
    let sql = backends(&[tenant], "wait_event_type = 'Lock'");
    eventually(CANCELLED, "statements that wait", async || is_so(count(&app.server(), &sql).await)).await;
}

async fn small_app() -> (TestApp, Tenant) {
    let app = TestApp::builder().set("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "3").start().await;
    let tenant = app.tenant("acme").await;
    read(&tenant.admin()).await.expect(200);
    (app, tenant)
}

#[actix_web::test]
async fn clients_that_hang_up_take_their_statements_along_and_the_budget_is_whole_again() {
    let (app, acme) = small_app().await;
    let admin = acme.admin();
    for _ in 0..3 {
        let mut holder = hold_contacts(&acme).await;
        let clients = join_all((0..8).map(|_| send(&app, &admin, "GET /api/v1/contacts", "", ""))).await;
        until_waiting(&app, &acme, |waiting| waiting > 0).await;
        drop(clients);
        until_waiting(&app, &acme, |waiting| waiting == 0).await;
        whole_again(app.router(), &acme).await;
        holder.batch_execute("ROLLBACK").await.unwrap();
        for answer in join_all((0..8).map(|_| read(&admin))).await {
            answer.expect(200);
        }
    }
    // Whoever stays is answered, though others asked beside them, perhaps over the same connection, and left.
    for _ in 0..3 {
        let mut holder = hold_contacts(&acme).await;
        let leaving = join_all((0..6).map(|_| send(&app, &admin, "GET /api/v1/contacts", "", ""))).await;
        until_waiting(&app, &acme, |waiting| waiting > 0).await;
        let staying = join_all((0..6).map(|_| read(&admin)));
        let letting_go = async {
            drop(leaving);
            // Long enough for a cancellation to strike the wrong one.
            for _ in 0..20 {
                app.anonymous().get("/livez").await.expect(200);
            }
            holder.batch_execute("ROLLBACK").await.unwrap();
        };
        let (answers, ()) = futures_util::join!(staying, letting_go);
        for answer in answers {
            answer.expect(200);
        }
    }
    whole_again(app.router(), &acme).await;
}

/// What a client did not wait for is not done, and can be done again with the same key.
#[actix_web::test]
async fn a_client_that_hangs_up_in_a_transaction_leaves_nothing_behind() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    read(&admin).await.expect(200);
    let mut holder = hold_contacts(&acme).await;
    let client = send(app, &admin, "POST /api/v1/contacts", "Idempotency-Key: ghost\r\n", GHOST).await;
    until_waiting(app, &acme, |waiting| waiting > 0).await;
    drop(client);
    until_waiting(app, &acme, |waiting| waiting == 0).await;
    let open = backends(&[&acme], "state LIKE 'idle in transaction%'");
    eventually(CANCELLED, "rolled back", async || count(&app.server(), &open).await == 0).await;
    idle_again(app.router(), &acme).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(db::word(acme.database(), NO_ROWS).await, "0");
    let again = admin.with("Idempotency-Key", "ghost");
    again.post("/api/v1/contacts", json!({"lastName": "Ghost"})).await.expect(201);
    assert_eq!(db::word(acme.database(), NO_ROWS).await, "1");
}

/// The same for an embedding application's futures, many at once and under a small ceiling.
#[actix_web::test]
async fn work_that_is_dropped_gives_its_connections_back() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = embedded(app, |config| RouterConfig { tenant_max_connections: 3, ..config }).await;
    let own = database(&router, &acme).await;
    for _ in 0..2 {
        let sleeping = join_all((0..6).map(|_| {
            own.read(async |conn: &mut TenantConn| -> Result<(), Error> {
                diesel::sql_query("SELECT pg_sleep(60)").execute(conn).await?;
                Ok(())
            })
        }));
        let writing = join_all((0..6).map(|_| {
            own.transaction(async |conn: &mut Tx| -> Result<(), Error> {
                let insert = "INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Ghost')";
                diesel::sql_query(insert).execute(conn).await?;
                std::future::pending::<()>().await;
                Ok(())
            })
        }));
        let at_work = backends(&[&acme], "state <> 'idle'");
        let all = async { futures_util::join!(sleeping, writing) };
        let begun = eventually(seconds(5), "at work", async || count(&app.server(), &at_work).await > 0);
        tokio::select! {
            _ = all => unreachable!("it never ends"),
            () = begun => {}
        }
        eventually(CANCELLED, "none is at work", async || count(&app.server(), &at_work).await == 0).await;
        whole_again(&router, &acme).await;
        assert_eq!(db::word(acme.database(), NO_ROWS).await, "0");
        let served = own.read(async |conn: &mut TenantConn| -> Result<usize, Error> {
            Ok(diesel::sql_query("SELECT count(*) FROM contacts").execute(conn).await?)
        });
        timeout(shared(seconds(5)), served).await.expect("served at once").unwrap();
    }
    router.shutdown().await;
}

/// A connection is handed to somebody who goes away before they have looked: they have sent nothing, so nothing that others
/// do there is cancelled.
#[actix_web::test]
async fn who_goes_away_before_asking_anything_disturbs_nobody() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = embedded(app, |config| RouterConfig { tenant_max_connections: 1, ..config }).await;
    let own = database(&router, &acme).await;
    let waiting = async || router.pools().snapshot(acme.id).map_or(0, |pool| pool.counts.waiting);
    for _ in 0..3 {
        let mut leaving = Box::pin(own.read(async |_: &mut TenantConn| Ok::<_, Error>(())));
        let (begun, has_begun) = oneshot::channel();
        let (end, may_end) = oneshot::channel();
        let alone = own.transaction(async move |conn: &mut Tx| -> Result<(), Error> {
            diesel::sql_query("SELECT 1").execute(conn).await?;
            begun.send(()).expect("it is waited for");
            may_end.await.expect("it is told");
            Ok(())
        });
        let handing_over = async {
            has_begun.await.expect("it has begun");
            assert!(poll!(&mut leaving).is_pending());
            assert_eq!(waiting().await, 1);
            end.send(()).expect("it waits");
        };
        let (done, ()) = futures_util::join!(alone, handing_over);
        done.unwrap();
        assert_eq!(waiting().await, 0, "it was handed over");
        drop(leaving);
        let report = router.pools().report(TopBy::Requests, 10);
        let cancelled: Vec<_> = report.tenants.iter().map(|tenant| tenant.usage.cancelled_statements).collect();
        assert_eq!(cancelled, [0]);
    }
    router.shutdown().await;
}

/// Reads, beside others who go away: so many times its statement is cancelled in place of theirs.
async fn struck(app: &TestApp, tenant: &Tenant, own: &TenantDb, times: usize) -> Result<(), Error> {
    let tries = AtomicUsize::new(0);
    let staying = own.read(async |conn: &mut TenantConn| -> Result<(), Error> {
        let sql = if tries.fetch_add(1, Ordering::SeqCst) < times { "SELECT pg_sleep(60)" } else { "SELECT 1" };
        diesel::sql_query(sql).execute(conn).await?;
        Ok(())
    });
    let at_sleep = backends(&[tenant], "wait_event = 'PgSleep'");
    let leaving = async {
        for round in 0..times {
            let beside = own.read(async |conn: &mut TenantConn| -> Result<(), Error> {
                diesel::sql_query("SELECT 1").execute(conn).await?;
                std::future::pending().await
            });
            let asleep = eventually(PATIENCE, "it runs anew", async || {
                AtomicUsize::load(&tries, Ordering::SeqCst) > round && count(&app.server(), &at_sleep).await > 0
            });
            tokio::select! {
                _ = beside => unreachable!("it never ends"),
                () = asleep => {}
            }
        }
    };
    let (answer, ()) = futures_util::join!(staying, leaving);
    answer
}

#[actix_web::test]
async fn a_reader_is_answered_though_others_beside_it_go_away_again_and_again() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let router = embedded(app, |config| RouterConfig { tenant_max_connections: 1, ..config }).await;
    let own = database(&router, &acme).await;
    struck(app, &acme, &own, 3).await.unwrap();
    whole_again(&router, &acme).await;
    // There is a bound, and what is said then is to come again.
    let answer = struck(app, &acme, &own, 5).await;
    assert!(matches!(answer, Err(Error::DatabaseUnavailable { .. })), "{answer:?}");
    whole_again(&router, &acme).await;
    router.shutdown().await;
}
