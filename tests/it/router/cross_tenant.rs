//! No operation gives one tenant's objects to anybody else.

use tenantry::testing::TestApp;

use crate::support::matrix::{self, OPEN, Party};
use crate::support::say;

#[actix_web::test]
async fn every_operation_refuses_every_stranger() {
    let app = TestApp::shared().await;
    let (acme, globex) = (Party::new(app, "acme").await, Party::new(app, "globex").await);
    let report = matrix::run(app, app, &acme, &globex).await;
    say(&format!(
        "cross-tenant matrix: {} operations × {} attackers = {} requests, all refused",
        report.operations, report.attackers, report.requests
    ));
    assert!(report.breaches.is_empty(), "{} breaches:\n{}", report.breaches.len(), report.breaches.join("\n"));
    // And its own people still see what was never given away.
    for (own, other) in [(&acme, &globex), (&globex, &acme)] {
        let answer = own.tenant.admin().get("/api/v1/contacts").await.expect(200);
        assert!(answer.text.contains(&own.canary) && !answer.text.contains(&other.canary));
    }
}

#[actix_web::test]
async fn the_same_request_gives_each_tenant_its_own_rows() {
    let app = TestApp::shared().await;
    let (acme, globex) = (Party::new(app, "acme").await, Party::new(app, "globex").await);
    for path in ["/api/v1/contacts", "/api/v1/users", "/api/v1/tenants/current", "/api/v1/users/me"] {
        for (own, other) in [(&acme, &globex), (&globex, &acme)] {
            let answer = own.tenant.admin().get(path).await.expect(200);
            assert!(!answer.text.contains(&other.canary), "{answer:?}");
            assert!(!answer.text.contains(&other.tenant.id.to_string()), "{answer:?}");
        }
    }
}

#[actix_web::test]
async fn the_list_of_routes_without_a_token_is_exact() {
    let app = TestApp::shared().await;
    let open = matrix::open_operations(app).await;
    let mut expected: Vec<_> = OPEN.iter().map(|name| (*name).to_owned()).collect();
    let mut found = open;
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "review the route, then change `OPEN` in tests/it/support/matrix.rs");
}
