//! What these tests stand on: a tenant whose network can be made to fail, neighbours that must not notice, and looks
//! past the application.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::{join, join_all};
use tenantry::router::{
    AdminConn, ClaimsOnly, ControlPlaneRegistry, Registry, Router, RouterConfig, Target, TenantDb, TenantHints,
    TenantTx,
};
use tenantry::testing::{Answer, FaultProxy, Persona, Tenant, TestApp, TestAppBuilder};
use tokio::time::timeout;

use crate::support::{db, eventually, say, seconds, shared};

/// What an embedded transaction works on.
pub(super) type Tx = TenantTx;

/// No answer, good or bad, takes longer: far above every deadline that [`short_deadlines`] sets.
pub(super) const PATIENCE: Duration = seconds(10);
/// Time to be well again. What is promised is shorter, and said by the run.
pub(super) const RECOVERY: Duration = seconds(20);
/// Between two requests of a neighbour, so that a test measures isolation and not the machine.
pub(super) const PACE: Duration = Duration::from_millis(10);
/// Cluster whose server is reached through a proxy.
pub(super) const BEHIND: &str = "behind";

const CONTACTS: &str = "/api/v1/contacts";

/// An application that waits for nothing longer than a second or two.
pub(super) fn short_deadlines() -> TestAppBuilder {
    TestApp::builder()
        .set("TENANTRY_ROUTER__CONNECT_TIMEOUT", "1500ms")
        .set("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", "2s")
        .set("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "1s")
}

/// Tenants with somebody signed in and a connection that is warm.
pub(super) async fn warm(app: &TestApp, count: usize) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for number in 0..count {
        let tenant = app.tenant(&format!("neighbour{number}")).await;
        read(&tenant.admin()).await.expect(200);
        tenants.push(tenant);
    }
    tenants
}

/// A tenant behind a proxy, alone on its cluster, signed in and warm.
pub(super) async fn behind_a_proxy(app: &TestApp) -> (Tenant, FaultProxy) {
    let proxy = FaultProxy::start(&app.server());
    app.cluster_behind(BEHIND, &proxy).await;
    let tenant = app.tenant_on(BEHIND, "patient").await;
    read(&tenant.admin()).await.expect(200);
    (tenant, proxy)
}

/// Reads the address book; there is always an answer in time.
pub(super) async fn read(person: &Persona) -> Answer {
    timeout(shared(PATIENCE), person.get(CONTACTS)).await.unwrap_or_else(|_| panic!("{person:?} hangs"))
}

/// The answer is the refusal that the contract has for a database that cannot be used now, and says when to come back.
#[track_caller]
pub(super) fn assert_refused(answer: &Answer) {
    let code = answer.code();
    let known = ["tenant_database_unavailable", "tenant_pool_exhausted"].contains(&code);
    assert!(answer.status == 503 && known, "{answer:?}");
    let wait = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| wait > 0), "{answer:?}");
}

/// Served, or refused as the contract says: nothing else.
pub(super) async fn served(person: &Persona) -> bool {
    let answer = read(person).await;
    if answer.status != 200 {
        assert_refused(&answer);
    }
    answer.status == 200
}

/// Waits until a tenant is served again, by itself, and says how long that took.
pub(super) async fn recovers(what: &str, person: &Persona) {
    let begun = Instant::now();
    eventually(RECOVERY, &format!("{what}: served again"), async || served(person).await).await;
    say(&format!("{what}: served again {:?} after the fault was over", begun.elapsed()));
    for _ in 0..10 {
        read(person).await.expect(200);
    }
}

/// The breaker's reason, while it is open.
pub(super) fn breaker(app: &TestApp, tenant: &Tenant) -> Option<&'static str> {
    app.router().pools().snapshot(tenant.id).and_then(|pool| pool.breaker)
}

/// Asks for a tenant until its breaker is open; every answer meanwhile comes in time and is a good one.
pub(super) async fn until_open(app: &TestApp, tenant: &Tenant) -> &'static str {
    let admin = tenant.admin();
    let open = async || {
        let answers = join_all((0..3).map(|_| served(&admin))).await;
        answers.iter().all(|served| !served) && breaker(app, tenant).is_some()
    };
    eventually(RECOVERY, "the breaker is open", open).await;
    breaker(app, tenant).unwrap_or_default()
}

/// While `during` lasts, the neighbours ask on and on, and every single answer is a good one.
pub(super) async fn undisturbed<T>(neighbours: &[Tenant], during: impl Future<Output = T>) -> T {
    let (count, slowest, over) = (Cell::new(0_u32), Cell::new(Duration::ZERO), Cell::new(false));
    let asking = neighbours.iter().map(|tenant| {
        let (admin, count, slowest, over) = (tenant.admin(), &count, &slowest, &over);
        async move {
            let mut own = 0;
            // Each waits for its last answer: a client that goes away is another test's affair.
            while !over.get() {
                let begun = Instant::now();
                read(&admin).await.expect(200);
                own += 1;
                if own % 20 == 0 {
                    admin.contact("Undisturbed").await;
                }
                count.set(count.get() + 1);
                slowest.set(slowest.get().max(begun.elapsed()));
                tokio::time::sleep(PACE).await;
            }
        }
    });
    let during = async {
        let done = during.await;
        over.set(true);
        done
    };
    let (done, _) = join(during, join_all(asking)).await;
    // Whoever asked once before the work was over asks again after it.
    for tenant in neighbours {
        read(&tenant.admin()).await.expect(200);
    }
    say(&format!("neighbours: {} requests, no error, the slowest {:?}", count.get(), slowest.get()));
    done
}

/// Physical connections and attempts at them, as the proxy or the pools count them, while `work` runs.
pub(super) async fn counted<T>(count: impl Fn() -> u64, work: impl Future<Output = T>) -> (T, u64) {
    let before = count();
    let done = work.await;
    (done, count() - before)
}

/// `SELECT count(*)` of the tenants' own connections, those of provisioning aside, with a condition.
pub(super) fn backends(tenants: &[&Tenant], condition: &str) -> String {
    let roles: Vec<_> = tenants.iter().map(|tenant| format!("'{}'", tenant.role())).collect();
    format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity \
         WHERE usename IN ({}) AND application_name LIKE 'tenantry/%' AND {condition}",
        roles.join(", ")
    )
}

/// Ends all backends of these tenants that meet a condition, and waits until they are gone.
pub(super) async fn kill(server: &Target, tenants: &[&Tenant], condition: &str) {
    let killing = backends(tenants, condition)
        .replace("SELECT count(*)::text", "SELECT pid::text || pg_terminate_backend(pid, 5000)::text");
    db::words(server, &killing).await;
}

/// Ends all backends, and waits until they are gone: nobody is asked to stay.
pub(super) async fn kill_all(server: &Target, tenants: &[&Tenant]) {
    kill(server, tenants, "true").await;
}

/// How many connections meet a condition.
pub(super) async fn count(server: &Target, sql: &str) -> usize {
    db::word(server, sql).await.parse().expect("a count")
}

/// Looks at the server on and on while `work` runs, and gives the most connections of these tenants ever seen.
pub(super) async fn observed<T>(server: &Target, sql: &str, work: impl Future<Output = T>) -> (T, usize) {
    let (most, looks) = (Cell::new(0), Cell::new(0_u32));
    let mut conn = db::open(server).await;
    let looking = async {
        loop {
            let seen: usize = db::words_on(&mut conn, sql).await[0].parse().expect("a count");
            most.set(most.get().max(seen));
            looks.set(looks.get() + 1);
            tokio::time::sleep(PACE).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        never = looking => { let _: std::convert::Infallible = never; unreachable!("it looks on and on") }
    };
    assert!(looks.get() > 10, "only {} looks", looks.get());
    say(&format!("at most {} connections in {} looks", most.get(), looks.get()));
    (done, most.get())
}

/// A router in this test's own runtime, as an embedding application has it.
pub(super) async fn embedded(app: &TestApp, change: impl FnOnce(RouterConfig) -> RouterConfig) -> Router {
    let control = app.control();
    let registry = ControlPlaneRegistry::new(control.db, control.keys);
    embedded_with(Arc::new(registry), change(RouterConfig::new("http://tenantry.test"))).await
}

/// The same, with a registry of the test's.
pub(super) async fn embedded_with(registry: Arc<dyn Registry>, config: RouterConfig) -> Router {
    Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router")
}

/// A tenant's database.
pub(super) async fn database(router: &Router, tenant: &Tenant) -> TenantDb {
    router.named(Some(tenant.slug.as_str()), &TenantHints::default()).await.expect("an active tenant")
}

/// Nothing of a tenant is at work, nothing waits, nothing is being opened.
pub(super) async fn idle_again(router: &Router, tenant: &Tenant) {
    let idle = async || {
        let pool = router.pools().snapshot(tenant.id);
        pool.is_none_or(|pool| pool.counts.busy == 0 && pool.counts.waiting == 0 && pool.counts.opening == 0)
    };
    eventually(PATIENCE, "nothing is at work", idle).await;
}

/// All permits are where they belong, and none is lost: for a router that nobody else uses now.
pub(super) async fn whole_again(router: &Router, tenant: &Tenant) {
    idle_again(router, tenant).await;
    let whole = async || router.pools().clusters().iter().all(|(_, counts)| counts.open == counts.idle);
    eventually(PATIENCE, "the budget is whole again", whole).await;
}

/// Somebody holds the table: whoever reads or writes it waits in the middle of a statement.
pub(super) async fn hold_contacts(tenant: &Tenant) -> AdminConn {
    let mut holder = db::open(tenant.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    holder
}
