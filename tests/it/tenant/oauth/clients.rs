//! Registering apps.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::jwt::part;
use crate::support::oauth::{App, REDIRECT, Tokens, refused};
use crate::support::{db, unique};

const PATH: &str = "/api/v1/oauth/clients";
const PASSWORD: &str = "an uncommon sentence of five words";

#[actix_web::test]
async fn an_app_s_secret_is_shown_once_and_kept_as_a_hash() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &["contacts:read"], json!({})).await;
    let secret = client.secret.clone().expect("a secret");
    assert!(secret.starts_with("tos_"));
    let shown = acme.admin().get(&format!("{PATH}/{}", client.id)).await.expect(200);
    assert!(!shown.text.contains(&secret) && shown.header("etag").is_some(), "{shown:?}");
    let list = acme.admin().get(PATH).await.expect(200);
    assert!(!list.text.contains(&secret) && list.text.contains(&client.id), "{list:?}");
    let kept = format!("SELECT c::text AS word FROM oauth_clients c WHERE id = '{}'", client.id);
    assert!(!db::word(acme.database(), &kept).await.contains(&secret[10..]));
    // One that keeps no secret gets none, now or later.
    let open = App::new(&acme, &[], json!({"confidential": false, "grants": ["authorization_code"]})).await;
    assert_eq!(open.secret, None);
    acme.admin().post(&format!("{PATH}/{}/rotate", open.id), json!({})).await.refused(409, "conflict");
    // Whoever sends it again gets no secret.
    let body = json!({"name": "twice", "confidential": true, "grants": ["client_credentials"], "scopes": []});
    let again = acme.admin().with("idempotency-key", &unique("key"));
    let first = again.post(PATH, body.clone()).await.expect(201);
    let repeated = again.post(PATH, body).await.expect(201);
    assert!(first.data()["secret"].is_string() && repeated.data()["secret"].is_null(), "{repeated:?}");
    assert_eq!((repeated.id(), repeated.header("idempotency-replayed")), (first.id(), Some("true")));
    acme.admin().delete(&format!("{PATH}/{}", first.id())).await.expect(204);
    acme.admin().delete(&format!("{PATH}/{}", first.id())).await.refused(404, "not_found");
    let noted =
        format!("SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE reason LIKE '%{}%'", first.id());
    assert_eq!(db::word(acme.database(), &noted).await, "oauth_client.created oauth_client.removed");
}

/// Else it would be longer than the server reads.
#[actix_web::test]
async fn a_scope_that_is_named_often_stands_in_a_token_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &["contacts:read"; 200], json!({})).await;
    let own = Tokens::of(&client.ask("token", &[("grant_type", "client_credentials")]).await.expect(200));
    let theirs = client.tokens(&acme.user(), "contacts:read").await;
    for token in [&own.access, &theirs.access] {
        assert_eq!(part(token, 1)["scope"], "contacts:read");
        acme.anonymous().bearing(token).get("/api/v1/contacts").await.expect(200);
    }
}

#[actix_web::test]
async fn no_app_gets_more_than_its_owner_has() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let role = json!({"name": unique("makers"), "permissions": ["oauth:write", "contacts:read"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@example.com", unique("maker"));
    let body = json!({"email": email, "firstName": "M", "lastName": "M", "password": PASSWORD, "roles": [role.data()["name"]]});
    admin.post("/api/v1/users", body).await.expect(201);
    let maker = acme.person(&email, PASSWORD);
    let wanted = |scopes: &[&str]| json!({"name": "x", "confidential": true, "grants": ["client_credentials"], "scopes": scopes});
    let beyond = maker.post(PATH, wanted(&["openid", "users:write"])).await;
    assert_eq!(beyond.invalid(), [("scopes[1]".to_owned(), "beyond_own_permissions".to_owned())]);
    let none = maker.post(PATH, wanted(&["no:such"])).await;
    assert_eq!(none.invalid(), [("scopes[0]".to_owned(), "beyond_own_permissions".to_owned())]);
    let own = maker.post(PATH, wanted(&["contacts:read"])).await.expect(201).id();
    maker.patch(&format!("{PATH}/{own}"), json!({"name": "y"})).await.expect(200);
    // Whoever may do less by now says neither where its codes go nor that it is open.
    let less = json!({"permissions": ["oauth:write"]});
    admin.patch(&format!("/api/v1/roles/{}", role.id()), less).await.expect(200);
    let elsewhere = json!({"grants": ["authorization_code"], "redirectUris": ["https://evil.example/"]});
    for change in [elsewhere.clone(), json!({"enabled": true})] {
        let beyond = maker.patch(&format!("{PATH}/{own}"), change).await;
        assert_eq!(beyond.invalid(), [("scopes[0]".to_owned(), "beyond_own_permissions".to_owned())]);
    }
    for change in [json!({"name": "z"}), json!({"enabled": false}), json!({"scopes": null})] {
        maker.patch(&format!("{PATH}/{own}"), change).await.expect(200);
    }
    maker.patch(&format!("{PATH}/{own}"), elsewhere).await.expect(200);
    // Nobody takes over the app of somebody who may do more.
    let theirs = App::new(&acme, &["contacts:read"], json!({})).await;
    let path = format!("{PATH}/{}", theirs.id);
    maker.post(&format!("{path}/rotate"), json!({})).await.refused(403, "permission_denied");
    maker.patch(&path, json!({"redirectUris": ["https://evil.example/"]})).await.refused(403, "permission_denied");
    maker.delete(&path).await.refused(403, "permission_denied");
    acme.user().get(PATH).await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn what_is_wrong_with_an_app_is_said_by_field() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let good = json!({
        "name": "x", "confidential": true, "grants": ["authorization_code"], "scopes": [], "redirectUris": [REDIRECT],
    });
    for (change, field) in [
        (json!({"name": " "}), "name"),
        (json!({"grants": []}), "grants"),
        (json!({"grants": ["refresh_token"], "redirectUris": []}), "grants"),
        (json!({"grants": ["authorization_code", "client_credentials"], "confidential": false}), "grants"),
        (json!({"redirectUris": []}), "redirectUris"),
        (json!({"redirectUris": ["http://app.example.com/cb"]}), "redirectUris[0]"),
        (json!({"redirectUris": ["https://app.example.com/cb#x"]}), "redirectUris[0]"),
        (json!({"redirectUris": ["javascript:alert(1)"]}), "redirectUris[0]"),
        (json!({"grants": ["client_credentials"]}), "redirectUris"),
    ] {
        let mut body = good.clone();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = acme.admin().post(PATH, body).await.expect(422);
        assert_eq!(refused.invalid().first().map(|fault| fault.0.as_str()), Some(field), "{change}: {refused:?}");
    }
    for (change, field) in [
        (json!({"consentUrl": "http://front.example.com/"}), "consentUrl"),
        (json!({"hydraAdminUrl": "https://127.0.0.1"}), "hydraAdminUrl"),
        (json!({"hydraToken": "x"}), "hydraToken"),
    ] {
        let refused = acme.admin().patch("/api/v1/oauth/settings", change).await;
        assert_eq!(refused.invalid()[0].0, field);
    }
}

#[actix_web::test]
async fn a_secret_is_rotated_with_an_overlap() {
    let app = TestApp::builder().beside(TestApp::shared().await).start().await;
    let acme = app.tenant("acme").await;
    let old = App::new(&acme, &["contacts:read"], json!({})).await;
    let path = format!("{PATH}/{}/rotate", old.id);
    let rotated = acme.admin().post(&path, json!({"overlapSeconds": 3600})).await.expect(200);
    let new = App { secret: rotated.data()["secret"].as_str().map(str::to_owned), ..old.clone() };
    assert_ne!(old.secret, new.secret);
    acme.admin().post(&path, json!({"overlapSeconds": 3600})).await.refused(409, "conflict");
    let own = [("grant_type", "client_credentials")];
    for client in [&old, &new] {
        client.ask("token", &own).await.expect(200);
    }
    app.clock().advance(chrono::TimeDelta::minutes(61));
    refused(&old.ask("token", &own).await, 401, "invalid_client");
    new.ask("token", &own).await.expect(200);
}
