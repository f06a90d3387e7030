//! More work than connections: nobody's request is broken, lost or done twice for it, and nobody starves.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::future::join_all;
use tenantry::router::{Error, RouterConfig, TenantConn, TenantDb};
use tenantry::testing::{Tenant, TestApp};

use super::ground::{
    BEHIND, Tx, assert_refused, backends, count, database, embedded, kill_all, observed, read, recovers,
    short_deadlines, undisturbed, whole_again,
};
use crate::support::{db, eventually, say, seconds};

#[derive(diesel::QueryableByName)]
struct Word {
    #[diesel(sql_type = diesel::sql_types::Text)]
    word: String,
}

async fn words(db: &TenantDb, sql: &'static str) -> Result<Vec<String>, Error> {
    db.read(async move |conn: &mut TenantConn| -> Result<_, Error> {
        let rows: Vec<Word> = diesel::sql_query(sql).load(conn).await?;
        Ok(rows.into_iter().map(|row| row.word).collect())
    })
    .await
}

/// Two statements in a transaction: what one says of the other must be of the same tenant.
async fn write(db: &TenantDb, word: String) -> Result<(), Error> {
    db.transaction(async move |conn: &mut Tx| -> Result<(), Error> {
        let insert = "INSERT INTO contacts (id, last_name, company) VALUES (gen_random_uuid(), $1, current_user)";
        diesel::sql_query(insert).bind::<diesel::sql_types::Text, _>(&word).execute(conn).await?;
        let found = "UPDATE contacts SET title = 'twice' WHERE last_name = $1";
        let changed = diesel::sql_query(found).bind::<diesel::sql_types::Text, _>(&word).execute(conn).await?;
        assert_eq!(changed, 1, "{word} is there once within its transaction");
        Ok(())
    })
    .await
}

async fn tenants_of(app: &TestApp, count: usize) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for _ in 0..count.div_ceil(4) {
        tenants.extend(join_all((0..4).map(|_| app.tenant("crowd"))).await);
    }
    tenants.truncate(count);
    tenants
}

/// Provisioning speaks as the tenants' roles too, past the budget: its connections have to be gone.
async fn settled(app: &TestApp, tenants: &[&Tenant]) {
    let all = backends(tenants, "true");
    eventually(seconds(10), "provisioning is over", async || count(&app.server(), &all).await == 0).await;
}

/// A tenant with 200 slow statements at once has its ceiling of connections and no more, and costs the others nothing
/// but their turn.
#[actix_web::test]
async fn a_noisy_tenant_keeps_to_its_ceiling_and_breaks_nobody_s_request() {
    const BUDGET: usize = 6;
    const CEILING: usize = 4;
    let app = TestApp::builder().start().await;
    let tenants = tenants_of(&app, 6).await;
    let everybody: Vec<_> = tenants.iter().collect();
    settled(&app, &everybody).await;
    let router = embedded(&app, |config| RouterConfig {
        cluster_budget: BUDGET as u32,
        tenant_max_connections: CEILING as u32,
        acquire_timeout: seconds(30),
        ..config
    })
    .await;
    let noisy = database(&router, &tenants[0]).await;
    let noise = join_all((0..200).map(|number| {
        let noisy = &noisy;
        async move {
            if number % 2 == 0 {
                words(noisy, "SELECT pg_sleep(0.02)::text AS word").await.map(drop)
            } else {
                noisy
                    .transaction(async |conn: &mut Tx| -> Result<(), Error> {
                        diesel::sql_query("SELECT pg_sleep(0.02)").execute(conn).await?;
                        Ok(())
                    })
                    .await
            }
        }
    }));
    let quiet = join_all(tenants[1..].iter().map(|tenant| {
        let router = &router;
        async move {
            let own = database(router, tenant).await;
            for number in 0..50 {
                if number % 10 == 9 {
                    write(&own, format!("quiet{number}")).await.expect("a quiet tenant writes");
                }
                let role = words(&own, "SELECT current_user::text AS word").await.expect("a quiet tenant is served");
                assert_eq!(role, [tenant.role()]);
            }
        }
    }));
    let server = app.server();
    let of_all = backends(&everybody, "true");
    let of_noisy = backends(&everybody[..1], "true");
    let work = observed(&server, &of_all, observed(&server, &of_noisy, async { futures_util::join!(noise, quiet).0 }));
    let ((noise, noisy_most), most) = work.await;
    assert!(noisy_most <= CEILING, "{noisy_most} connections of the noisy one");
    assert!(most <= BUDGET, "{most} connections in all");
    for done in noise {
        done.expect("the noisy one waits for its turn, and gets it");
    }
    whole_again(&router, &tenants[0]).await;
    router.shutdown().await;
}

/// Thirty tenants on four connections: each request is served by its own tenant's database, each write is done once, and
/// never is a fifth connection open.
#[actix_web::test]
async fn eviction_breaks_no_request_loses_no_row_and_repeats_none() {
    const BUDGET: usize = 4;
    const LONG: Duration = seconds(2);
    let app = TestApp::builder().start().await;
    let tenants = tenants_of(&app, 30).await;
    let everybody: Vec<_> = tenants.iter().collect();
    settled(&app, &everybody).await;
    let router =
        embedded(&app, |config| RouterConfig { cluster_budget: BUDGET as u32, acquire_timeout: seconds(30), ..config })
            .await;
    let mut own = Vec::new();
    for tenant in &tenants {
        own.push(database(&router, tenant).await);
    }
    let written: Vec<_> = tenants.iter().map(|_| RefCell::new(BTreeSet::new())).collect();
    let (reads, begun) = (Cell::new(0_u32), Instant::now());
    let clients = join_all((0..16).map(|client| {
        let (own, tenants, written, reads) = (&own, &tenants, &written, &reads);
        async move {
            // Each client's own way through the tenants; some are asked more often than others.
            let mut at = client;
            while begun.elapsed() < LONG {
                at += 7 + client;
                let index = if at % 3 == 0 { at % 5 } else { at % own.len() };
                if at % 4 == 0 {
                    let word = format!("c{client}-{at}");
                    write(&own[index], word.clone()).await.expect("each write is done");
                    written[index].borrow_mut().insert(word);
                } else {
                    let sql = "SELECT current_user::text AS word UNION ALL \
                               SELECT DISTINCT company FROM contacts WHERE company IS NOT NULL";
                    let seen = words(&own[index], sql).await.expect("each read is served");
                    assert!(seen.iter().all(|role| role == tenants[index].role()), "{seen:?}");
                    reads.set(reads.get() + 1);
                }
            }
        }
    }));
    let server = app.server();
    let opened = router.pools().opened();
    let (_, most) = observed(&server, &backends(&everybody, "true"), clients).await;
    let count: usize = written.iter().map(|rows| rows.borrow().len()).sum();
    let opened = router.pools().opened() - opened;
    say(&format!("eviction: {} reads, {count} writes, {opened} connections opened", reads.get()));
    assert!(most <= BUDGET, "{most} connections were open");
    assert!(count > 10 && reads.get() > 10, "too little was done");
    whole_again(&router, &tenants[0]).await;
    router.shutdown().await;
    for (tenant, written) in tenants.iter().zip(written) {
        let sql = "SELECT last_name || ' ' || count(*) || ' ' || (company = current_database())::text AS word \
                   FROM contacts GROUP BY last_name, company";
        let rows: BTreeMap<_, _> = db::words(tenant.database(), sql).await.into_iter().map(|row| (row, ())).collect();
        let expected: BTreeMap<_, _> =
            written.into_inner().into_iter().map(|word| (format!("{word} 1 true"), ())).collect();
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
