//! The connection budget of a cluster is never exceeded, and nobody starves under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use tenantry::router::AdminConn;
use tenantry::testing::{Tenant, TestApp};

use crate::support::{db, eventually, seconds};

const BUDGET: usize = 5;

fn connections_of(tenants: &[Tenant]) -> String {
    let roles: Vec<_> = tenants.iter().map(|tenant| format!("'{}'", tenant.role())).collect();
    format!("SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename IN ({})", roles.join(", "))
}

async fn count(conn: &mut AdminConn, sql: &str) -> usize {
    db::words_on(conn, sql).await[0].parse().expect("a count")
}

#[actix_web::test]
async fn five_connections_serve_eight_tenants_and_two_hundred_requests() {
    let budget = BUDGET.to_string();
    let app = TestApp::builder()
        .set("TENANTRY_ROUTER__CLUSTER_BUDGET", &budget)
        .set("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", "30s")
        .start()
        .await;
    let mut tenants = Vec::new();
    for number in 0..8 {
        tenants.push(app.tenant(&format!("budget{number}")).await);
    }
    for tenant in &tenants {
        tenant.admin().contact(tenant.slug.as_str()).await;
    }
    // Provisioning speaks as the tenants' roles too, past the router: its connections have to be gone.
    let sql = connections_of(&tenants);
    let mut watcher = db::open(&app.server()).await;
    eventually(seconds(5), "provisioning is over", async || count(&mut watcher, &sql).await <= BUDGET).await;

    let (done, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watching = {
        let (done, most) = (done.clone(), most.clone());
        actix_web::rt::spawn(async move {
            let mut samples = 0_u32;
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(count(&mut watcher, &sql).await, Ordering::Relaxed);
                samples += 1;
            }
            samples
        })
    };
    let requests = (0..200).map(|number| {
        let tenant = &tenants[number % tenants.len()];
        let admin = tenant.admin();
        async move {
            let answer = admin.get("/api/v1/contacts").await.expect(200);
            assert!(answer.text.contains(tenant.slug.as_str()), "{answer:?}");
        }
    });
    join_all(requests).await;
    done.store(true, Ordering::Relaxed);
    let samples = watching.await.unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!(samples > 20, "only {samples} looks");
    assert!(most <= BUDGET, "{most} connections were open");
    assert!(app.router().pools().clusters().iter().all(|(_, counts)| counts.open <= BUDGET));
}

#[actix_web::test]
async fn a_tenant_keeps_to_its_ceiling() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "2").start().await;
    let acme = app.at(&home.tenant("acme").await);
    let sql = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND application_name LIKE 'tenantry/%'",
        acme.role()
    );
    acme.admin().signed_in().await;
    let answers = join_all((0..40).map(|_| {
        let admin = acme.admin();
        async move { admin.get("/api/v1/contacts").await.status }
    }));
    let server = app.server();
    let (answers, held) = futures_util::join!(answers, db::word(&server, &sql));
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert!(held.parse::<usize>().unwrap() <= 2 && db::word(&server, &sql).await.parse::<usize>().unwrap() <= 2);
    assert_eq!(app.router().pools().snapshot(acme.id).expect("a pool").counts.ceiling, 2);
}

#[actix_web::test]
async fn idle_connections_go_after_their_time() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_ROUTER__IDLE_TIMEOUT", "300ms").start().await;
    let acme = app.at(&home.tenant("acme").await);
    acme.admin().get("/api/v1/users/me").await.expect(200);
    assert!(app.router().pools().snapshot(acme.id).is_some());
    let gone = async || app.router().pools().snapshot(acme.id).is_none();
    eventually(seconds(5), "a cold tenant has no pool", gone).await;
    acme.admin().get("/api/v1/users/me").await.expect(200);
}
