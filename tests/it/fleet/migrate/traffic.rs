//! Migrations under traffic: what the old schema allows goes on, and a canary that breaks it stops the run.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::Tenant;

use super::ground::{Ground, has};

/// How each tenant is asked.
#[derive(Clone, Copy)]
struct Traffic {
    writes: bool,
    /// By so many callers at once.
    callers: usize,
    /// What each of them waits before it asks again.
    pause: Duration,
}

const READS: Traffic = Traffic { writes: false, callers: 1, pause: Duration::from_millis(2) };

/// Asks each tenant over and over, until `until` ends; gives how many requests were answered well, and what others said.
async fn with_traffic<T>(tenants: &[Tenant], traffic: Traffic, until: impl Future<Output = T>) -> (T, u32, Vec<u16>) {
    let Traffic { writes, callers, pause } = traffic;
    let (well, ill) = (Cell::new(0), Cell::new(Vec::new()));
    let asking = join_all(tenants.iter().flat_map(|tenant| std::iter::repeat_n(tenant, callers)).map(async |tenant| {
        let admin = tenant.admin();
        loop {
            let mut answers = vec![admin.get("/api/v1/contacts").await];
            if writes {
                answers.push(admin.post("/api/v1/contacts", json!({"lastName": "Written"})).await);
            }
            for answer in answers {
                if answer.status < 300 {
                    well.set(well.get() + 1);
                } else {
                    let mut all = ill.take();
                    all.push(answer.status);
                    ill.set(all);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }));
    tokio::select! {
        done = until => (done, well.get(), ill.take()),
        _ = asking => unreachable!("they ask on and on"),
    }
}

async fn tenants(ground: &Ground, count: usize) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for _ in 0..count {
        let tenant = ground.app.tenant("busy").await;
        tenant.admin().signed_in().await;
        tenants.push(tenant);
    }
    tenants
}

#[actix_web::test]
async fn reads_and_writes_go_on_while_a_column_is_added() {
    let ground = Ground::new(0).await;
    let tenants = tenants(&ground, 3).await;
    ground.write("V1__fax.sql", "ALTER TABLE contacts ADD COLUMN fax text; CREATE TABLE fax (id int);");
    let (report, well, ill) = with_traffic(&tenants, Traffic { writes: true, ..READS }, ground.migrate(&[], 0)).await;
    assert_eq!((&report["migrated"], &ill), (&json!(3), &Vec::new()), "{well} were answered well");
    assert!(well > 10, "{well} requests");
    assert_eq!(ground.count(&has("fax")).await, 3);
}

#[actix_web::test]
async fn a_canary_whose_reads_break_stops_the_fleet() {
    let ground = Ground::new(0).await;
    let tenants = tenants(&ground, 4).await;
    ground.write("V1__broken.sql", "ALTER TABLE contacts RENAME COLUMN title TO headline;");
    let run = ground.fleet(&["migrate", "--canary", "1", "--soak", "60s"]);
    let (said, _, ill) = with_traffic(&tenants, READS, run).await;
    let report: Value = said.expect(3).json();
    assert_eq!((&report["state"], &report["migrated"], &report["pending"]), (&json!("stopped"), &json!(1), &json!(3)));
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("of the requests of migrated tenants"), "{reason}");
    assert!(!ill.is_empty());
}

/// Everything is answered well, only later.
#[actix_web::test]
async fn a_canary_whose_reads_get_slow_stops_the_fleet() {
    let ground = Ground::new(0).await;
    let tenants = tenants(&ground, 4).await;
    for tenant in &tenants {
        tenant.admin().contact("Lovelace").await;
    }
    let slow = "ALTER TABLE contacts RENAME TO all_contacts; CREATE VIEW contacts AS \
                WITH waited AS MATERIALIZED (SELECT pg_sleep(0.5)) SELECT c.* FROM waited, all_contacts c;";
    ground.write("V1__slow.sql", slow);
    let run = ground.fleet(&["migrate", "--canary", "1", "--soak", "120s"]);
    // Those who ask are no load by themselves: that would be everybody's wait.
    let traffic = Traffic { callers: 16, pause: Duration::from_millis(300), ..READS };
    let (said, well, ill) = with_traffic(&tenants, traffic, run).await;
    let report: Value = said.expect(3).json();
    assert_eq!((&report["state"], &report["migrated"], &report["pending"]), (&json!("stopped"), &json!(1), &json!(3)));
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("p95 of migrated tenants is") && reason.contains("of the others"), "{reason}");
    assert!(ill.is_empty(), "{well} were answered well, and {ill:?}");
}
