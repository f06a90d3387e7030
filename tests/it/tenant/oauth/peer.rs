//! An OAuth client of somebody else's making.

use serde_json::{Value, json};
use tenantry::testing::TestApp;

use crate::support::oauth::{App, REDIRECT};
use crate::support::peers::node;

#[actix_web::test]
async fn a_foreign_client_library_does_all_that_an_app_does() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let person = acme.user();
    let scopes = ["openid", "email", "contacts:read"];
    let client = App::new(&acme, &scopes, json!({})).await;
    let open = json!({"confidential": false, "grants": ["authorization_code", "refresh_token"]});
    let open = App::new(&acme, &scopes, open).await;
    let orders = json!({
        "issuer": app.router().issuer(&acme.slug), "at": app.url(), "redirect": REDIRECT,
        "client": {"id": client.id, "secret": client.secret}, "open": {"id": open.id},
        "person": person.token().await,
    });
    let mut program = node("oauth.js", include_str!("../../../peers/oauth.js"));
    let run = move || program.env("ORDERS", orders.to_string()).output().expect("node runs");
    let said = tokio::task::spawn_blocking(run).await.expect("it ends");
    let report: Value =
        serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&said.stderr)));
    let email = person.signed_in().await["user"]["email"].clone();
    assert_eq!(
        report,
        json!({
            "described": true, "asked": ["openid", "email", "contacts:read"], "sub": person.user_id().await,
            "scope": "openid email contacts:read", "email": email, "read": 200, "rotated": true,
            "active": [true, true], "revoked": [false, false], "own": true, "open": true,
        })
    );
}
