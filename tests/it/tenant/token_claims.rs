//! What an organisation has its access tokens say besides the usual.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use tenantry::testing::{Persona, TestApp};

use crate::support::db;
use crate::support::oauth::{App, Tokens};

const POLICY: &str = "/api/v1/security-policy";

fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&BASE64URL.decode(body).expect("base64")).expect("JSON")
}

async fn refreshed(app: &TestApp, who: &Persona) -> Value {
    let token = who.refresh_token().await;
    let answer = app.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": token})).await.expect(200);
    claims(answer.data()["accessToken"].as_str().expect("a token"))
}

#[actix_web::test]
async fn an_organisation_says_more_in_its_tokens() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let plan = format!("UPDATE tenants SET plan = 'gold' WHERE id = '{}'", acme.id);
    db::execute(app.control_database(), &plan).await;
    let known = async || app.router().tenant(acme.id).await.is_ok_and(|tenant| tenant.plan.as_deref() == Some("gold"));
    crate::support::eventually(crate::support::seconds(5), "the node knows", known).await;
    let (admin, user) = (acme.another_login().await, acme.user());
    user.signed_in().await;
    let me = user.get("/api/v1/users/me").await.expect(200);
    let id = me.data()["id"].as_str().expect("an id").to_owned();
    let team = admin.post("/api/v1/teams", json!({"name": "Sales", "roles": []})).await.expect(201).id();
    admin.put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
    let wanted = json!([
        {"name": "email", "source": "email"},
        {"name": "https://acme.example/teams", "source": "teams"},
        {"name": "https://acme.example/may", "source": "permissions"},
        {"name": "plan", "source": "plan"},
        {"name": "org", "source": "tenant"},
        {"name": "region", "source": "constant", "value": "eu"},
    ]);
    let set = admin.patch(POLICY, json!({"tokenClaims": wanted})).await.expect(200);
    assert_eq!(set.data()["tokenClaims"], wanted);
    let shown = admin.get(&format!("/api/v1/users/{id}/token-claims")).await.expect(200);
    assert_eq!(shown.data()["leftOut"], json!([]));

    // At the next token, and at each.
    let said = refreshed(app, &user).await;
    assert_eq!(said["https://acme.example/teams"], json!(["Sales"]));
    assert_eq!((&said["plan"], &said["org"], &said["region"]), (&json!("gold"), &json!(acme.slug), &json!("eu")));
    assert_eq!(said["email"], me.data()["email"]);
    for (name, value) in shown.data()["claims"].as_object().expect("an object") {
        assert_eq!(&said[name], value, "{name}");
    }
    let signed_in = acme.another_login().await;
    assert_eq!(claims(&signed_in.token().await)["region"], "eu");
    // They are taken, and nothing is decided by them.
    signed_in.get("/api/v1/users/me").await.expect(200);

    admin.patch(POLICY, json!({"tokenClaims": null})).await.expect(200);
    assert_eq!(claims(&acme.another_login().await.token().await)["region"], Value::Null);
    let noted = "SELECT count(*)::text AS word FROM audit WHERE action = 'security_policy.changed'";
    assert_eq!(db::word(acme.database(), noted).await, "2");
}

#[actix_web::test]
async fn an_app_is_told_what_its_scopes_allow() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let every = ["roles", "permissions", "teams", "email", "name", "tenant"];
    let mut wanted: Vec<Value> =
        every.iter().map(|source| json!({"name": format!("x_{source}"), "source": source})).collect();
    wanted.push(json!({"name": "x_region", "source": "constant", "value": "eu"}));
    acme.another_login().await.patch(POLICY, json!({"tokenClaims": wanted})).await.expect(200);
    let told = |token: &str| -> Vec<String> {
        let claims = claims(token);
        claims.as_object().expect("an object").keys().filter(|name| name.starts_with("x_")).cloned().collect()
    };
    let client = App::new(&acme, &["openid", "email", "profile", "contacts:read"], json!({})).await;
    let all = client.tokens(&acme.user(), "openid email profile contacts:read").await;
    assert_eq!(told(&all.access), ["x_email", "x_name", "x_region", "x_tenant"]);
    let next = Tokens::of(&client.refresh(&all.refresh).await.expect(200));
    assert_eq!(told(&next.access), ["x_email", "x_name", "x_region", "x_tenant"]);
    let few = client.tokens(&acme.user(), "contacts:read").await;
    assert_eq!(told(&few.access), ["x_region", "x_tenant"]);
    let own = Tokens::of(&client.ask("token", &[("grant_type", "client_credentials")]).await.expect(200));
    assert_eq!(told(&own.access), ["x_region", "x_tenant"]);
}

#[actix_web::test]
async fn a_claim_is_never_a_right() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    for name in ["sub", "roles", "Roles", "scope", "client_id", "act", "tid", "ver", "exp", "a b", ""] {
        let claim = json!([{"name": name, "source": "constant", "value": "admin"}]);
        admin.patch(POLICY, json!({"tokenClaims": claim})).await.refused(422, "validation_failed");
    }
    let long = "x".repeat(200);
    let large: Vec<_> =
        (0..6).map(|at| json!({"name": format!("c{at}"), "source": "constant", "value": long})).collect();
    let refused = admin.patch(POLICY, json!({"tokenClaims": large})).await;
    assert!(refused.text.contains("1024 bytes"), "{refused:?}");
    refused.refused(422, "validation_failed");

    let claim = json!([{"name": "permissions", "source": "constant", "value": "users:write"}]);
    admin.patch(POLICY, json!({"tokenClaims": claim})).await.expect(200);
    let user = acme.user();
    assert_eq!(claims(&user.token().await)["permissions"], "users:write");
    let body = json!({"email": "x@example.com", "firstName": "X", "lastName": "X"});
    user.post("/api/v1/users", body).await.refused(403, "permission_denied");
    user.patch(POLICY, json!({"tokenClaims": null})).await.refused(403, "permission_denied");
    // A proof from before does not do.
    let node = TestApp::builder().beside(app).start().await;
    let there = admin.at(node.url());
    node.clock().advance(chrono::TimeDelta::minutes(12));
    there.patch(POLICY, json!({"tokenClaims": null})).await.refused(403, "step_up_required");
}

#[actix_web::test]
async fn who_signs_in_once_more_than_they_may_ends_the_oldest_session() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let set = admin.patch(POLICY, json!({"session": {"maxPerPerson": 2}})).await.expect(200);
    assert_eq!(set.data()["session"]["maxPerPerson"], 2);
    for bad in [0, 101] {
        admin.patch(POLICY, json!({"session": {"maxPerPerson": bad}})).await.refused(422, "validation_failed");
    }
    let (second, third) = (acme.another_login().await, acme.another_login().await);
    second.signed_in().await;
    third.signed_in().await;
    let ended = async || admin.get("/api/v1/users/me").await.status == 401;
    crate::support::eventually(crate::support::seconds(2), "the oldest has ended", ended).await;
    for stays in [&second, &third] {
        stays.get("/api/v1/users/me").await.expect(200);
    }
    let why = "SELECT count(*)::text AS word FROM sessions WHERE revoked_reason = 'too_many_sessions'";
    assert!(db::word(acme.database(), why).await.parse::<i32>().is_ok_and(|count| count >= 1));
}
