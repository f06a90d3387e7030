//! More work than connections: nobody's request is broken, lost or done twice for it, and nobody starves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use serde_json::json;

use super::crowd::Crowd;
use super::ground::{
    BEHIND, assert_refused, backends, kill_all, observed, read, recovers, short_deadlines, undisturbed, whole_again,
};
use crate::support::{db, say, seconds, shared};

/// A tenant with 200 slow statements at once has its ceiling of connections and no more, and costs the others nothing
/// but their turn.
#[actix_web::test]
async fn a_noisy_tenant_keeps_to_its_ceiling_and_breaks_nobody_s_request() {
    const BUDGET: usize = 6;
    const CEILING: usize = 4;
    let crowd = Crowd::of(6, BUDGET).await;
    let (noisy, spokesman) = (&crowd.tenants[0], &crowd.admins[0]);
    // Whoever reads its address book sleeps for a while, in the database.
    let slow = format!(
        "ALTER TABLE contacts RENAME TO contacts_at_rest; CREATE VIEW contacts AS \
         SELECT rows.* FROM contacts_at_rest rows CROSS JOIN LATERAL (SELECT pg_sleep(0.02)) asleep; \
         GRANT SELECT ON contacts TO {}",
        noisy.role()
    );
    spokesman.contact("Slow").await;
    db::execute(noisy.database(), &slow).await;
    let ceiling = format!("UPDATE tenants SET max_connections = {CEILING} WHERE id = '{}'", noisy.id);
    db::execute(crowd.app.control_database(), &ceiling).await;
    let known = async || {
        read(spokesman).await.expect(200);
        crowd.app.router().pools().snapshot(noisy.id).is_some_and(|pool| pool.counts.ceiling == CEILING)
    };
    crate::support::eventually(seconds(5), "the ceiling is known", known).await;

    let noise = join_all((0..200).map(|_| read(spokesman)));
    let quiet = join_all(crowd.tenants.iter().zip(&crowd.admins).skip(1).map(|(tenant, admin)| async move {
        for number in 0..50 {
            if number % 10 == 9 {
                admin.contact("Quiet").await;
            }
            let me = admin.get("/api/v1/users/me").await.expect(200);
            assert_eq!(me.data()["email"], tenant.email(), "{me:?}");
        }
    }));
    let server = crowd.app.server();
    let (of_all, of_noisy) = (backends(&crowd.everybody(), "true"), backends(&[noisy], "true"));
    let work = async { futures_util::join!(noise, quiet).0 };
    let ((noise, noisy_most), most) = observed(&server, &of_all, observed(&server, &of_noisy, work)).await;
    let back = "DROP VIEW contacts; ALTER TABLE contacts_at_rest RENAME TO contacts";
    db::execute(noisy.database(), back).await;
    for answer in noise {
        // It waits for its turn, and gets it.
        answer.expect(200);
    }
    assert!(noisy_most <= CEILING, "{noisy_most} connections of the noisy one");
    assert!(most <= BUDGET, "{most} connections in all");
    whole_again(crowd.app.router(), noisy).await;
}

/// Thirty tenants on four connections: each request is served by its own tenant's database, each write is done once, and
/// never is a fifth connection open.
#[actix_web::test]
async fn eviction_breaks_no_request_loses_no_row_and_repeats_none() {
    const BUDGET: usize = 4;
    let crowd = Crowd::of(30, BUDGET).await;
    let tenants = &crowd.tenants;
    let written: Vec<_> = tenants.iter().map(|_| RefCell::new(BTreeSet::new())).collect();
    let (reads, writes, begun) = (Cell::new(0_u32), Cell::new(0_u32), Instant::now());
    let enough = || begun.elapsed() >= seconds(2) && reads.get() >= 120 && writes.get() >= 40;
    let clients = join_all((0..16).map(|client| {
        let (written, reads, writes, enough, admins) = (&written, &reads, &writes, &enough, &crowd.admins);
        async move {
            // Each client's own way through the tenants; some are asked more often than others.
            let mut at = client;
            while !enough() && begun.elapsed() < shared(seconds(30)) {
                at += 7 + client;
                let index = if at % 3 == 0 { at % 5 } else { at % tenants.len() };
                let admin = &admins[index];
                if at % 4 == 0 {
                    let word = format!("evicted-{client}-{at}");
                    let body = json!({"lastName": word, "company": tenants[index].slug.as_str()});
                    admin.post("/api/v1/contacts", body).await.expect(201);
                    written[index].borrow_mut().insert(word);
                    writes.set(writes.get() + 1);
                } else {
                    let answer = admin.get("/api/v1/contacts?q=evicted&pageSize=50").await.expect(200);
                    for row in answer.data().as_array().unwrap() {
                        assert_eq!(row["company"], tenants[index].slug.as_str(), "{answer:?}");
                    }
                    reads.set(reads.get() + 1);
                }
            }
        }
    }));
    let (server, opened) = (crowd.app.server(), crowd.app.router().pools().opened());
    let (_, most) = observed(&server, &backends(&crowd.everybody(), "true"), clients).await;
    let opened = crowd.app.router().pools().opened() - opened;
    say(&format!("eviction: {} reads, {} writes, {opened} connections opened", reads.get(), writes.get()));
    assert!(most <= BUDGET, "{most} connections were open");
    assert!(enough(), "too little was done");
    whole_again(crowd.app.router(), &tenants[0]).await;
    for (tenant, written) in tenants.iter().zip(written) {
        let sql =
            "SELECT last_name || ' of ' || company AS word FROM contacts WHERE last_name LIKE 'evicted-%' ORDER BY 1";
        let mut rows = db::words(tenant.database(), sql).await;
        rows.sort();
        let expected: Vec<_> = written.into_inner().iter().map(|word| format!("{word} of {}", tenant.slug)).collect();
        assert_eq!(rows, expected, "{}", tenant.slug);
    }
}

/// One tenant of a small budget cannot be reached, and is asked for all the time: its neighbours under the same budget
/// have every connection they need.
#[actix_web::test]
async fn a_tenant_that_cannot_be_reached_holds_no_permits_of_its_neighbours() {
    let app = short_deadlines().set("TENANTRY_ROUTER__CLUSTER_BUDGET", "3").start().await;
    app.cluster(BEHIND, &app.server()).await;
    let patient = app.tenant_on(BEHIND, "patient").await;
    let neighbours = [app.tenant_on(BEHIND, "neighbour").await, app.tenant_on(BEHIND, "neighbour").await];
    for tenant in neighbours.iter().chain([&patient]) {
        read(&tenant.admin()).await.expect(200);
    }
    let (allow, admin) = (format!("ALTER DATABASE {} ALLOW_CONNECTIONS", patient.role()), patient.admin());
    undisturbed(&neighbours, async {
        db::execute(&app.server(), &format!("{allow} false")).await;
        kill_all(&app.server(), &[&patient]).await;
        for _ in 0..10 {
            for answer in join_all((0..10).map(|_| read(&admin))).await {
                assert_refused(&answer);
            }
        }
        db::open(&app.server()).await.batch_execute(&format!("{allow} true")).await.unwrap();
        recovers("no connections allowed", &admin).await;
    })
    .await;
}
