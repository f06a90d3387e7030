//! A move that dies after each of its steps, by both methods.

use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use tenantry::fleet::relocate::{Method, Step};
use tenantry::kernel::Clock;
use tenantry::testing::Tenant;
use tokio::time::timeout;

use super::writes::every_number_once;
use super::{CONTACTS, Ground, is_moved};
use crate::support::{db, eventually, seconds, shared};

/// Tenants that are moved at the same time.
const AT_ONCE: usize = 4;

/// Dies after each step, before the journal has it and after; then it is taken back, or gone on with.
#[actix_web::test]
async fn after_a_crash_at_any_step_a_move_is_finished_or_taken_back() {
    let ground = Ground::new().await;
    // Of what the program itself says that it does.
    let cases: Vec<_> = Method::ALL.iter().flat_map(|method| method.steps().map(|step| (*method, step))).collect();
    assert!(Step::ALL.iter().all(|step| cases.iter().any(|(_, of_one)| of_one == step)));
    let chains = (0..AT_ONCE).map(|first| cases.iter().copied().enumerate().skip(first).step_by(AT_ONCE));
    join_all(chains.map(|chain| crashes(&ground, chain))).await;
}

/// One tenant to and fro, a crash at each of these.
async fn crashes(ground: &Ground, cases: impl Iterator<Item = (usize, (Method, Step))>) {
    let tenant = ground.app.tenant_on("east", "crashing").await;
    let (mut written, mut here, mut there) = (0, "east", "west");
    let admin = tenant.admin();
    for (number, (method, step)) in cases {
        let what = format!("{method} {step}");
        let arguments = ["--to", there, "--method", method.as_str(), "--hold-deadline", "60s"];
        let crash = async |before_journal: bool| {
            ground.crash(&tenant, &arguments, step, before_journal).await;
            let (open, databases) = ground.there(&tenant).await;
            assert!(open.len() <= 1 && databases.contains(&here), "{what}: {open:?} {databases:?}");
        };
        admin.contact(&format!("n{written}")).await;
        written += 1;
        if step < Step::Switch {
            // Taken back: half of them as the journal knows of the step, half of them as it does not.
            crash(number % 2 == 0).await;
            ground.moving(&tenant, &["--abort"]).await.expect(0);
            assert_eq!(ground.there(&tenant).await, (vec![here], vec![here]), "{what}");
            assert!(ground.leftovers(&tenant).await.is_empty(), "{what}");
            admin.contact(&format!("n{written}")).await;
            written += 1;
        }
        // Whoever goes on may die there as well.
        for before_journal in [true, false] {
            crash(before_journal).await;
        }
        if step >= Step::Switch {
            // The target is complete: there is no way back.
            ground.moving(&tenant, &["--abort"]).await.expect(4);
        }
        is_moved(&ground.moving(&tenant, &arguments).await.expect(0).json(), there);
        assert_eq!(ground.there(&tenant).await, (vec![there], vec!["east", "west"]), "{what}");
        assert!(ground.leftovers(&tenant).await.is_empty(), "{what}");
        admin.get(CONTACTS).await.expect(200);
        ground.moving(&tenant, &["--confirm"]).await.expect(0);
        (here, there) = (there, here);
        every_number_once(&ground.server(here).with_database(tenant.role()), written, 0).await;
    }
}

/// Whoever goes on with a move does some steps again. If he dies there, what was done the first time still counts: the
/// source is fenced, and the target may be open.
#[actix_web::test]
async fn what_was_done_before_a_second_crash_is_taken_back_too() {
    const AGAIN: [Step; 4] = [Step::Weigh, Step::Hold, Step::Fence, Step::Compare];
    let ground = Ground::new().await;
    let by = async |method: Method| {
        let tenant = ground.app.tenant_on("east", "twice").await;
        let arguments = ["--to", "west", "--method", method.as_str(), "--hold-deadline", "60s"];
        for step in method.steps().filter(|step| AGAIN.contains(step)) {
            ground.crash(&tenant, &arguments, Step::Open, false).await;
            ground.crash(&tenant, &arguments, step, true).await;
            assert_eq!(ground.there(&tenant).await.0, ["west"], "{method} {step}");
            ground.moving(&tenant, &["--abort"]).await.expect(0);
            assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]), "{method} {step}");
            assert!(ground.leftovers(&tenant).await.is_empty(), "{method} {step}");
            tenant.admin().get(CONTACTS).await.expect(200);
        }
    };
    join_all(Method::ALL.iter().map(|method| by(*method))).await;
}

/// The server has noticed that nobody works on a tenant any more.
async fn is_let_go(ground: &Ground, tenant: &Tenant) {
    let locks = format!(
        "SELECT count(*)::text AS word FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted \
         AND (classid::bigint << 32) | objid::bigint = \
         ('x' || left(encode(sha256('tenant operation {}'), 'hex'), 16))::bit(64)::bigint",
        tenant.id
    );
    let free = async || db::word(ground.app.control_database(), &locks).await == "0";
    eventually(seconds(10), "the server has noticed", free).await;
}

/// Nobody comes back for a move that was killed before its hold: what replication has begun would keep the source's log for
/// ever. A worker takes it back, but not before whoever began it had time to go on with it.
#[actix_web::test]
async fn a_move_that_nobody_goes_on_with_is_taken_back() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "forsaken").await;
    let (clock, mut worker) = (Clock::default(), ground.app.fleet());
    worker.control.clock = clock.clone();
    let looks_after = async |minutes: i64| {
        clock.advance(TimeDelta::minutes(minutes));
        worker.take_back_abandoned_moves().await.unwrap()
    };
    for step in [Step::Replicate, Step::Weigh] {
        // Both times by another driver.
        for _ in 0..2 {
            ground.crash(&tenant, &["--to", "west", "--method", "replicate"], step, true).await;
            is_let_go(&ground, &tenant).await;
            assert_eq!((looks_after(0).await, looks_after(8).await), (0, 0), "{step}");
        }
        assert!(!ground.leftovers(&tenant).await.is_empty(), "{step}: the slot keeps the source's log");
        assert_eq!(looks_after(3).await, 1, "{step}");
        assert!(ground.leftovers(&tenant).await.is_empty(), "{step}");
        assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]), "{step}");
        tenant.admin().contact("Faithful").await;
        assert_eq!(looks_after(11).await, 0, "{step}");
    }
}

/// One that cannot be taken back now keeps the others waiting for no longer than it may.
#[actix_web::test]
async fn an_abandoned_move_that_stands_still_holds_up_no_other() {
    let ground = Ground::new().await;
    let (stuck, free) = (ground.app.tenant_on("east", "stuck").await, ground.app.tenant_on("east", "free").await);
    let (clock, mut worker) = (Clock::default(), ground.app.fleet().with_look_deadline(seconds(8)));
    worker.control.clock = clock.clone();
    for tenant in [&stuck, &free] {
        ground.crash(tenant, &["--to", "west", "--method", "replicate"], Step::Replicate, true).await;
        is_let_go(&ground, tenant).await;
    }
    assert_eq!(worker.take_back_abandoned_moves().await.unwrap(), 0);
    clock.advance(TimeDelta::minutes(11));
    // Its publication cannot be dropped: the statement would wait for half a minute.
    let mut holder = db::open(&ground.server("east").with_database(stuck.role())).await;
    holder.batch_execute("BEGIN; LOCK TABLE pg_publication IN SHARE MODE").await.unwrap();
    let swept = timeout(shared(seconds(25)), worker.take_back_abandoned_moves()).await.expect("it gives the one up");
    assert_eq!(swept.unwrap(), 1);
    assert!(ground.leftovers(&free).await.is_empty() && !ground.leftovers(&stuck).await.is_empty());
}
