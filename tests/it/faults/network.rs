//! The network in front of one tenant's database fails: nobody else notices, its own callers are told quickly and
//! without a storm, and it is served again by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenantry::testing::{Fault, FaultProxy, Tenant, TestApp};

use super::ground::{
    PATIENCE, RECOVERY, assert_refused, behind_a_proxy, breaker, counted, idle_again, read, recovers, served,
    short_deadlines, undisturbed, until_open, warm,
};
use crate::support::{eventually, say, seconds, shared};

/// Requests for a tenant whose breaker is open, and the most new connections they may cause.
const ASKED: usize = 40;
const STORM: u64 = 8;

/// With the breaker open, many callers are refused at once and hardly anything is tried.
async fn refused_at_once(app: &TestApp, patient: &Tenant, proxy: &FaultProxy) {
    let admin = patient.admin();
    let begun = Instant::now();
    let asking = async {
        for _ in 0..ASKED / 8 {
            for answer in join_all((0..8).map(|_| read(&admin))).await {
                assert_refused(&answer);
                assert_eq!(answer.code(), "tenant_database_unavailable", "{answer:?}");
                assert!(!answer.text.contains("127.0.0.1"), "{answer:?}");
            }
        }
    };
    let tried = || proxy.accepted() + app.router().pools().opened();
    let ((), tried) = counted(tried, asking).await;
    say(&format!("open breaker: {ASKED} refusals in {:?}, {tried} connections tried", begun.elapsed()));
    assert!(begun.elapsed() < shared(PATIENCE), "{:?}", begun.elapsed());
    assert!(tried <= STORM, "{tried} connections were tried for {ASKED} requests");
}

/// A fault strikes one tenant, warm as it is, and passes.
async fn trouble(app: &TestApp, patient: &Tenant, proxy: &FaultProxy, (name, fault): (&str, Fault)) {
    proxy.set(fault).await;
    if fault != Fault::BlackHole {
        proxy.reset_open().await;
    }
    let begun = Instant::now();
    let kind = until_open(app, patient).await;
    say(&format!("{name}: noticed as '{kind}' after {:?}", begun.elapsed()));
    assert_eq!(kind, "unreachable");
    refused_at_once(app, patient, proxy).await;
    proxy.set(Fault::Pass).await;
    recovers(name, &patient.admin()).await;
    // A connection of before may serve again earlier than a new one is opened.
    eventually(seconds(20), "the breaker closes", async || breaker(app, patient).is_none()).await;
}

/// Refused, reset, hanging or breaking off: one after the other on one tenant.
#[actix_web::test]
async fn a_database_that_cannot_be_reached_is_its_own_tenant_s_trouble() {
    let app = short_deadlines().start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    let neighbours = warm(&app, 2).await;
    undisturbed(&neighbours, async {
        let faults =
            [("refuse", Fault::Refuse), ("reset", Fault::Reset), ("hang", Fault::Hang), ("cut", Fault::CutAfter(100))];
        for fault in faults {
            trouble(&app, &patient, &proxy, fault).await;
        }
    })
    .await;
}

/// Nothing passes and nothing ends: for a moment, which costs a request its patience at most, and for longer.
#[actix_web::test]
async fn a_database_in_a_black_hole_is_its_own_tenant_s_trouble() {
    let app = short_deadlines().start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    let neighbours = warm(&app, 2).await;
    undisturbed(&neighbours, async {
        let admin = patient.admin();
        join_all((0..4).map(|_| read(&admin))).await;
        proxy.set(Fault::BlackHole).await;
        assert!(!served(&admin).await, "nothing passes");
        proxy.set(Fault::Pass).await;
        recovers("short black hole", &admin).await;
        trouble(&app, &patient, &proxy, ("black hole", Fault::BlackHole)).await;
    })
    .await;
}

/// A slow network is no failure: its tenant is served slowly, and no breaker opens.
#[actix_web::test]
async fn a_slow_database_is_slow_for_its_own_tenant_alone() {
    let app = TestApp::builder().start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    let neighbours = warm(&app, 1).await;
    undisturbed(&neighbours, async {
        proxy.set(Fault::Slow { delay: Duration::from_millis(30), chunk: 4096 }).await;
        let (admin, begun) = (patient.admin(), Instant::now());
        for _ in 0..3 {
            for answer in join_all((0..4).map(|_| read(&admin))).await {
                answer.expect(200);
            }
        }
        say(&format!("slow: 12 answers in {:?}", begun.elapsed()));
        assert_eq!(breaker(&app, &patient), None);
        proxy.set(Fault::Pass).await;
        recovers("slow", &admin).await;
    })
    .await;
}

fn connections(app: &TestApp, tenant: &Tenant) -> usize {
    app.router().pools().snapshot(tenant.id).map_or(0, |pool| pool.counts.connections())
}

/// An idle connection may end without a word of the server's: after a failover, or where something between has forgotten it.
/// With room for no other, nobody would be served as long as it is taken for one that is there.
#[actix_web::test]
async fn a_connection_that_ends_without_a_word_leaves_its_place_to_the_next() {
    let app = TestApp::builder().set("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "1").start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    for _ in 0..3 {
        idle_again(app.router(), &patient).await;
        assert_eq!(connections(&app, &patient), 1);
        proxy.reset_open().await;
        eventually(seconds(5), "it is noticed", async || connections(&app, &patient) == 0).await;
        read(&patient.admin()).await.expect(200);
    }
}

/// A tenant is suspended while a connection to its database is on its way that fails after that: nobody tries another one.
#[actix_web::test]
async fn nothing_is_tried_for_a_tenant_that_was_suspended_meanwhile() {
    let app = short_deadlines().start().await;
    let (patient, proxy) = behind_a_proxy(&app).await;
    let admin = patient.admin();
    idle_again(app.router(), &patient).await;
    proxy.set(Fault::Hang).await;
    proxy.reset_open().await;
    eventually(seconds(5), "it is noticed", async || connections(&app, &patient) == 0).await;
    let opening = || app.router().pools().snapshot(patient.id).map_or(0, |pool| pool.counts.opening);
    let suspended = async {
        eventually(seconds(5), "one is on its way", async || opening() == 1).await;
        patient.suspend().await;
    };
    let (answer, ()) = futures_util::join!(read(&admin), suspended);
    assert!([403, 503].contains(&answer.status), "{answer:?}");
    eventually(RECOVERY, "it is given up", async || opening() == 0).await;
    assert_eq!(breaker(&app, &patient), None);
    proxy.set(Fault::Pass).await;
    patient.resume().await;
    recovers("resumed", &admin).await;
}
