//! The network in front of one tenant's database fails: nobody else notices, its own callers are told quickly and
//! without a storm, and it is served again by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenantry::testing::{Fault, FaultProxy, Tenant, TestApp};

use super::ground::{
    PATIENCE, assert_refused, behind_a_proxy, breaker, counted, read, recovers, served, short_deadlines, undisturbed,
    until_open, warm,
};
use crate::support::{eventually, say, seconds};

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
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
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
