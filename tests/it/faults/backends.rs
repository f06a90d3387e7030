//! Backends that are killed, and servers that stand still.

use std::time::Instant;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use serde_json::json;
use tenantry::dev::LocalPostgresOptions;
use tenantry::testing::{Fault, FaultProxy, Tenant, TestApp};

use super::crowd::Crowd;
use super::ground::{
    BEHIND, assert_refused, backends, behind_a_proxy, count, hold_contacts, kill, kill_all, observed, read, recovers,
    served, short_deadlines, undisturbed, until_open, warm,
};
use crate::support::servers::Server;
use crate::support::{db, eventually, say, seconds, shared};

async fn until_waiting(app: &TestApp, tenant: &Tenant, how_many: usize) {
    let sql = backends(&[tenant], "wait_event_type = 'Lock'");
    let waiting = async || count(&app.server(), &sql).await == how_many;
    eventually(seconds(5), "the statements wait", waiting).await;
}

/// Nothing was sent on a connection that died in idleness, so its next request goes over another one, unnoticed.
#[actix_web::test]
async fn idle_connections_that_are_killed_cost_no_request() {
    const ROUNDS: usize = 3;
    let crowd = Crowd::of(10, 60).await;
    let (app, tenants) = (crowd.app, &crowd.tenants);
    let everybody: Vec<_> = tenants.iter().collect();
    for round in 0..ROUNDS {
        // Several connections each.
        let requests = crowd.admins.iter().map(|admin| join_all((0..3).map(move |_| read(admin))));
        for answer in join_all(requests).await.into_iter().flatten() {
            answer.expect(200);
        }
        let warm = count(&app.server(), &backends(&everybody, "true")).await;
        assert!(warm >= tenants.len(), "only {warm} connections to kill");
        kill_all(&app.server(), &everybody).await;
        let next = crowd.admins.iter().map(|admin| async move {
            let reading = join_all((0..2).map(|_| read(admin)));
            let writing = admin.post("/api/v1/contacts", json!({"lastName": format!("Round {round}")}));
            let (answers, written) = futures_util::join!(reading, writing);
            written.expect(201);
            answers
        });
        for answer in join_all(next).await.into_iter().flatten() {
            answer.expect(200);
        }
    }
    for tenant in tenants {
        let rows = "SELECT count(*)::text AS word FROM contacts WHERE last_name LIKE 'Round %'";
        assert_eq!(db::word(tenant.database(), rows).await, ROUNDS.to_string(), "each written once");
    }
}

/// A transaction whose backend dies under it is answered as the contract says, a read not at all: it is done once more.
#[actix_web::test]
async fn a_backend_killed_in_the_middle_of_a_statement_costs_that_request_alone() {
    let app = TestApp::shared().await;
    let tenants = warm(app, 2).await;
    let (acme, globex) = (&tenants[0], &tenants[1..]);
    let admin = acme.admin();
    undisturbed(globex, async {
        for write in [false, true] {
            let mut holder = hold_contacts(acme).await;
            let struck = async {
                if write {
                    let posting = admin.with("Idempotency-Key", "killed-once");
                    posting.post("/api/v1/contacts", json!({"lastName": "Once"})).await
                } else {
                    read(&admin).await
                }
            };
            let killing = async {
                until_waiting(app, acme, 1).await;
                kill(&app.server(), &[acme], "wait_event_type = 'Lock'").await;
                holder.batch_execute("ROLLBACK").await.unwrap();
            };
            let (answer, ()) = futures_util::join!(struck, killing);
            if write {
                assert_refused(&answer);
            } else {
                // A read changes nothing, and is done once more on another connection.
                answer.expect(200);
            }
            read(&admin).await.expect(200);
        }
        // What was not answered was not done either, and can be repeated with its key.
        let posting = admin.with("Idempotency-Key", "killed-once");
        posting.post("/api/v1/contacts", json!({"lastName": "Once"})).await.expect(201);
        let rows = "SELECT count(*)::text AS word FROM contacts WHERE last_name = 'Once'";
        assert_eq!(db::word(acme.database(), rows).await, "1");
    })
    .await;
}

/// Every process of a server stands still: its callers are told in time, the others do not notice, and it comes back.
#[actix_web::test]
async fn a_frozen_server_is_its_own_tenants_trouble() {
    let app = short_deadlines().start().await;
    let second = Server::start().await;
    app.cluster("second", &second.target()).await;
    let patients = [app.tenant_on("second", "patient").await, app.tenant_on("second", "patient").await];
    for patient in &patients {
        read(&patient.admin()).await.expect(200);
    }
    let neighbours = warm(&app, 2).await;
    undisturbed(&neighbours, async {
        let frozen = second.freeze();
        let begun = Instant::now();
        let kinds = join_all(patients.iter().map(|patient| until_open(&app, patient))).await;
        say(&format!("frozen: noticed as {kinds:?} after {:?}", begun.elapsed()));
        assert!(kinds.iter().all(|kind| *kind == "unreachable"), "{kinds:?}");
        let begun = Instant::now();
        for patient in &patients {
            for answer in join_all((0..10).map(|_| async { read(&patient.admin()).await })).await {
                assert_refused(&answer);
            }
        }
        assert!(begun.elapsed() < shared(seconds(5)), "at once: {:?}", begun.elapsed());
        drop(frozen);
        for patient in &patients {
            recovers("frozen", &patient.admin()).await;
        }
    })
    .await;
}

/// A backend that waits while it starts is there for as long, whoever has given it up: each attempt at the tenant's
/// database would leave one more, outside of the budget.
#[actix_web::test]
async fn a_database_that_lets_nobody_in_yet_gets_no_crowd_of_backends() {
    const ATTEMPTS: u64 = 4;
    let app = short_deadlines().start().await;
    let (acme, neighbours) = (app.tenant("acme").await, warm(&app, 2).await);
    let admin = acme.admin();
    read(&admin).await.expect(200);
    kill_all(&app.server(), &[&acme]).await;
    let name = &acme.database().database;
    let mut holder = db::open(&app.server()).await;
    let shut = format!("BEGIN; ALTER DATABASE \"{name}\" RENAME TO \"{name}_away\"");
    holder.batch_execute(&shut).await.expect("nobody is in it");
    let starting = format!(
        "SELECT count(*)::text AS word FROM pg_locks \
         WHERE NOT granted AND locktype = 'object' AND classid = 'pg_database'::regclass \
         AND objid = (SELECT oid FROM pg_database WHERE datname = '{name}')"
    );
    undisturbed(&neighbours, async {
        let begun = app.router().pools().opened();
        let asking = async {
            until_open(&app, &acme).await;
            // Somebody goes on asking, so that the router goes on trying.
            let tried = async || {
                served(&admin).await;
                app.router().pools().opened() - begun >= ATTEMPTS
            };
            eventually(seconds(30), "it is tried again", tried).await;
        };
        let ((), most) = observed(&app.server(), &starting, asking).await;
        // Two may begin before either is known to be late.
        assert!((1..=2).contains(&most), "{most} backends wait for their database");
        holder.batch_execute("ROLLBACK").await.expect("it is open again");
        recovers("let in again", &admin).await;
    })
    .await;
}

/// A server that hangs is left for another one: what was begun at the old one, and is answered by nobody, keeps no request
/// waiting and nothing of the budget.
#[actix_web::test]
async fn openings_that_hang_at_a_server_left_behind_are_not_waited_for() {
    let app = short_deadlines().start().await;
    let (acme, hangs) = behind_a_proxy(&app).await;
    hangs.set(Fault::Hang).await;
    kill_all(&app.server(), &[&acme]).await;
    until_open(&app, &acme).await;
    let beyond_its_own = || {
        // In this order: one that begins in between counts as beyond.
        let own = app.router().pools().snapshot(acme.id).map_or(0, |pool| pool.counts.connections());
        let counts = app.router().pools().clusters().into_iter().find(|(name, _)| name == BEHIND);
        counts.map_or(0, |(_, counts)| counts.open).saturating_sub(own)
    };
    assert!(beyond_its_own() > 0, "the server may have started a backend");
    let next = FaultProxy::start(&app.server());
    let moved = format!("UPDATE clusters SET port = {} WHERE name = '{BEHIND}'", next.target().port);
    db::execute(app.control_database(), &moved).await;
    recovers("at another server", &acme.admin()).await;
    eventually(seconds(20), "their permits are back", async || beyond_its_own() == 0).await;
}

/// After a failover an address may lead to the old server, which reads on and writes nothing: no request is half served.
#[actix_web::test]
async fn a_server_that_only_reads_serves_nobody_until_it_is_promoted() {
    let app = short_deadlines().start().await;
    // Its log has to be one that can be followed.
    let mut second = Server::start_with(|options| LocalPostgresOptions { durable: true, ..options }).await;
    app.cluster("second", &second.target()).await;
    let patient = app.tenant_on("second", "patient").await;
    read(&patient.admin()).await.expect(200);
    second.demote().await;
    assert_eq!(until_open(&app, &patient).await, "unreachable");
    db::word(&second.target(), "SELECT pg_promote()::text AS word").await;
    recovers("promoted", &patient.admin()).await;
    patient.admin().contact("Written").await;
}
