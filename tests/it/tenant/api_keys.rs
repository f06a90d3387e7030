//! API keys: what a program may do in a person's name, and no more.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::{db, eventually, shared, unique};

const PATH: &str = "/api/v1/api-keys";
const PASSWORD: &str = "an uncommon sentence of five words";

/// A new key of the administrator's, and its program.
async fn key(tenant: &Tenant, wanted: Value) -> (String, String, Persona) {
    let made = tenant.admin().post(PATH, wanted).await.expect(201);
    let text = made.data()["key"].as_str().expect("the key").to_owned();
    let program = tenant.anonymous().with("x-api-key", &text);
    (made.id(), text, program)
}

fn with(scopes: &[&str]) -> Value {
    json!({"name": unique("key"), "scopes": scopes})
}

#[actix_web::test]
async fn a_key_does_what_its_scopes_say() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, text, program) = key(&acme, with(&["contacts:read"])).await;
    assert!(text.starts_with("tak_"));
    program.get("/api/v1/contacts").await.expect(200);
    assert_eq!(program.get("/api/v1/tenants/current").await.expect(200).data()["slug"], acme.slug.as_str());
    program.post("/api/v1/contacts", json!({"lastName": "X"})).await.refused(403, "permission_denied");
    program.get("/api/v1/users").await.refused(403, "permission_denied");
    // What is a person's own affair is no program's.
    for path in ["/api/v1/users/me", "/api/v1/auth/sessions", "/api/v1/auth/mfa"] {
        program.get(path).await.refused(403, "permission_denied");
    }
    program.post("/api/v1/auth/logout", json!({})).await.refused(403, "permission_denied");
    // It is seen without its secret, and its use is noted.
    let one = format!("{PATH}/{id}");
    let noted = async || !acme.admin().get(&one).await.expect(200).data()["lastUsedAt"].is_null();
    eventually(Duration::from_secs(10), "its use is noted", noted).await;
    let shown = acme.admin().get(&one).await.expect(200);
    assert!(
        !shown.text.contains(&text) && shown.data()["hint"].as_str().is_some_and(|hint| hint.len() == 7),
        "{shown:?}"
    );
    let list = acme.admin().get(PATH).await.expect(200);
    assert!(list.data().as_array().is_some_and(|keys| keys.iter().any(|key| key["id"] == id.as_str())), "{list:?}");
    let kept = db::word(acme.database(), &format!("SELECT k::text AS word FROM api_keys k WHERE id = '{id}'")).await;
    assert!(!kept.contains(&text[10..]), "{kept}");
}

/// Whoever holds the key's row keeps none of its requests waiting, and no more than one note.
#[actix_web::test]
async fn no_request_waits_for_the_note_of_a_key_s_use() {
    // The note has a connection alone meanwhile: here no neighbour is short of them.
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let (id, _, old) = key(&acme, with(&["contacts:read"])).await;
    let rotated = acme.admin().post(&format!("{PATH}/{id}/rotate"), json!({"overlapSeconds": 3600})).await.expect(200);
    let new = acme.anonymous().with("x-api-key", rotated.data()["key"].as_str().expect("the key"));
    let mut holder = db::open(acme.database()).await;
    db::words_on(&mut holder, "BEGIN").await;
    db::words_on(&mut holder, &format!("SELECT id::text AS word FROM api_keys WHERE id = '{id}' FOR UPDATE")).await;
    let waiting = "SELECT count(*)::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    let waiting = async || db::word(acme.database(), waiting).await;
    // What is remembered of a key is remembered by its secret.
    for program in [&old, &new] {
        let answered = tokio::time::timeout(shared(Duration::from_secs(10)), program.get("/api/v1/contacts")).await;
        answered.expect("an answer while its row is held").expect(200);
        eventually(Duration::from_secs(10), "the note waits", async || waiting().await != "0").await;
    }
    old.get("/api/v1/contacts").await.expect(200);
    assert_eq!(waiting().await, "1");
    db::words_on(&mut holder, "COMMIT").await;
    let noted = format!("SELECT (last_used_at IS NOT NULL)::text AS word FROM api_keys WHERE id = '{id}'");
    eventually(Duration::from_secs(10), "it is noted", async || db::word(acme.database(), &noted).await == "true")
        .await;
}

#[actix_web::test]
async fn no_key_does_more_than_its_owner_then_or_later() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let role = json!({"name": unique("makers"), "permissions": ["api-keys:write", "contacts:read", "contacts:write"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@example.com", unique("maker"));
    let body = json!({"email": email, "firstName": "M", "lastName": "M", "password": PASSWORD, "roles": [role.data()["name"]]});
    let person = admin.post("/api/v1/users", body).await.expect(201).id();
    let maker = acme.person(&email, PASSWORD);
    let refused = maker.post(PATH, with(&["contacts:read", "users:write"])).await.expect(422);
    assert_eq!(refused.invalid(), [("scopes[1]".to_owned(), "beyond_own_permissions".to_owned())]);
    let made = maker.post(PATH, with(&["contacts:read", "contacts:write"])).await.expect(201);
    let text = made.data()["key"].as_str().unwrap();
    let program = acme.anonymous().with("x-api-key", text);
    program.post("/api/v1/contacts", json!({"lastName": "X"})).await.expect(201);
    // The owner loses a right, and the key with them.
    let path = format!("/api/v1/roles/{}", role.id());
    admin.patch(&path, json!({"permissions": ["contacts:read"]})).await.expect(200);
    let gone = async || program.post("/api/v1/contacts", json!({"lastName": "Y"})).await.status == 403;
    eventually(Duration::from_secs(2), "the right is gone", gone).await;
    program.get("/api/v1/contacts").await.expect(200);
    // The owner is deactivated, then removed.
    admin.patch(&format!("/api/v1/users/{person}"), json!({"status": "deactivated"})).await.expect(200);
    let gone = async || program.get("/api/v1/contacts").await.code() == "token_revoked";
    eventually(Duration::from_secs(2), "the owner is out", gone).await;
    admin.delete(&format!("/api/v1/users/{person}")).await.expect(204);
    let gone = async || program.get("/api/v1/contacts").await.code() == "token_invalid";
    eventually(Duration::from_secs(2), "the key is gone", gone).await;
}

#[actix_web::test]
async fn no_key_makes_keys_or_takes_another_s_rights() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let all = ["api-keys:read", "api-keys:write", "contacts:read", "users:write", "security:write"];
    let (id, _, program) = key(&acme, with(&all)).await;
    program.get(PATH).await.expect(200);
    program.post(PATH, with(&["contacts:read"])).await.refused(403, "permission_denied");
    let one = format!("{PATH}/{id}");
    program.patch(&one, json!({"scopes": []})).await.refused(403, "permission_denied");
    program.post(&format!("{one}/rotate"), json!({})).await.refused(403, "permission_denied");
    program.delete(&one).await.refused(403, "permission_denied");
    program.patch("/api/v1/security-policy", json!({})).await.refused(403, "permission_denied");
    // Somebody who may do less cannot take the administrator's key over.
    let role = json!({"name": unique("keepers"), "permissions": ["api-keys:write", "api-keys:read"]});
    let role = acme.admin().post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@example.com", unique("keeper"));
    let body = json!({"email": email, "firstName": "K", "lastName": "K", "password": PASSWORD, "roles": [role.data()["name"]]});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let keeper = acme.person(&email, PASSWORD);
    keeper.post(&format!("{one}/rotate"), json!({})).await.refused(403, "permission_denied");
    keeper.delete(&one).await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn a_key_ends_is_rotated_and_revoked() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let ends = (app.clock().now() + chrono::TimeDelta::hours(2)).to_rfc3339();
    let wanted = json!({"name": "ends", "scopes": ["contacts:read"], "expiresAt": ends});
    let (id, old, program) = key(&acme, wanted).await;
    let there = program.at(app.url());
    there.get("/api/v1/contacts").await.expect(200);

    let rotated = acme.admin().post(&format!("{PATH}/{id}/rotate"), json!({"overlapSeconds": 3600})).await.expect(200);
    // A second rotation would forget the secret that programs still use.
    let again = json!({"overlapSeconds": 3600});
    acme.admin().post(&format!("{PATH}/{id}/rotate"), again).await.refused(409, "conflict");
    let new = rotated.data()["key"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    let renewed = acme.anonymous().with("x-api-key", &new).at(app.url());
    for one in [&there, &renewed] {
        one.get("/api/v1/contacts").await.expect(200);
    }
    app.clock().advance(chrono::TimeDelta::minutes(61));
    let expired = async || there.get("/api/v1/contacts").await.code() == "token_expired";
    eventually(Duration::from_secs(2), "the other node knows of the new end", expired).await;
    renewed.get("/api/v1/contacts").await.expect(200);
    app.clock().advance(chrono::TimeDelta::minutes(60));
    renewed.get("/api/v1/contacts").await.refused(401, "token_expired");

    let (id, _, program) = key(&acme, with(&["contacts:read"])).await;
    let there = program.at(app.url());
    for one in [&program, &there] {
        one.get("/api/v1/contacts").await.expect(200);
    }
    acme.admin().delete(&format!("{PATH}/{id}")).await.expect(204);
    acme.admin().delete(&format!("{PATH}/{id}")).await.refused(404, "not_found");
    program.get("/api/v1/contacts").await.refused(401, "token_invalid");
    eventually(Duration::from_secs(2), "the other node knows", async || {
        there.get("/api/v1/contacts").await.status == 401
    })
    .await;
    let noted = format!("SELECT string_agg(action, ' ' ORDER BY at) AS word FROM audit WHERE reason LIKE '%{id}%'");
    assert_eq!(db::word(acme.database(), &noted).await, "api_key.created api_key.revoked");
}

#[actix_web::test]
async fn a_key_comes_from_where_and_as_often_as_it_may() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, _, program) =
        key(&acme, json!({"name": "far", "scopes": ["contacts:read"], "allowedAddresses": ["203.0.113.0/24"]})).await;
    program.get("/api/v1/contacts").await.refused(401, "token_invalid");
    // Nobody is believed who only says so.
    program.with("x-forwarded-for", "203.0.113.7").get("/api/v1/contacts").await.refused(401, "token_invalid");
    let here = json!({"allowedAddresses": ["127.0.0.0/8", "::1"]});
    acme.admin().patch(&format!("{PATH}/{id}"), here).await.expect(200);
    program.get("/api/v1/contacts").await.expect(200);

    let (_, _, program) =
        key(&acme, json!({"name": "slow", "scopes": ["contacts:read"], "requestsPerMinute": 3})).await;
    let mut answers: Vec<Answer> = Vec::new();
    for _ in 0..5 {
        answers.push(program.get("/api/v1/contacts").await);
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 3, "{answers:#?}");
    let refused = program.get("/api/v1/contacts").await.refused(429, "rate_limited");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(answers[0].header("ratelimit"), Some(r#""api-key";r=2;t=20"#), "{:?}", answers[0]);
    for answer in [&answers[0], &refused] {
        assert_eq!(answer.header("ratelimit-policy"), Some(r#""api-key";q=3;w=60"#), "{answer:?}");
    }
    assert_eq!(refused.header("ratelimit"), Some(r#""api-key";r=0;t=60"#), "{refused:?}");
    assert_eq!(acme.admin().get("/api/v1/contacts").await.expect(200).header("ratelimit"), None);
}

#[actix_web::test]
async fn a_key_is_of_one_tenant_and_no_other_token() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (_, text, program) = key(&acme, with(&["contacts:read"])).await;
    program.with("x-tenant-id", globex.slug.as_str()).get("/api/v1/contacts").await.refused(404, "tenant_mismatch");
    program.with("x-tenant-id", acme.slug.as_str()).get("/api/v1/contacts").await.expect(200);
    let theirs = globex.admin().contact("Theirs").await;
    program.get(&format!("/api/v1/contacts/{theirs}")).await.refused(404, "not_found");
    // Neither in the other's place, nor beside it, nor with the operators.
    acme.anonymous().bearing(&text).get("/api/v1/contacts").await.refused(401, "token_invalid");
    let token = acme.admin().token().await;
    program.bearing(&token).get("/api/v1/contacts").await.refused(401, "token_invalid");
    acme.anonymous().with("x-api-key", &token).get("/api/v1/contacts").await.refused(401, "token_invalid");
    program.get("/api/v1/admin/tenants").await.refused(401, "unauthenticated");
    let end = text.len() - 1;
    let forged = format!("{}{}", &text[..end], if text.ends_with('A') { 'B' } else { 'A' });
    acme.anonymous().with("x-api-key", &forged).get("/api/v1/contacts").await.refused(401, "token_invalid");
    acme.suspend().await;
    let held = async || program.get("/api/v1/contacts").await.code() == "tenant_suspended";
    eventually(Duration::from_secs(2), "the suspension holds", held).await;
}

#[actix_web::test]
async fn what_is_wrong_with_a_key_is_said_by_field() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    for (body, field, code) in [
        (json!({"name": "", "scopes": []}), "name", "blank"),
        (json!({"name": " ", "scopes": []}), "name", "blank"),
        (json!({"name": "x", "scopes": ["no:such"]}), "scopes[0]", "beyond_own_permissions"),
        (json!({"name": "x", "scopes": [], "allowedAddresses": ["nowhere"]}), "allowedAddresses[0]", "invalid"),
        (json!({"name": "x", "scopes": [], "requestsPerMinute": 0}), "requestsPerMinute", "range"),
        (json!({"name": "x", "scopes": [], "expiresAt": "2001-01-01T00:00:00Z"}), "expiresAt", "past"),
        (json!({"name": "x", "scopes": [], "expiresAt": "-9999-01-01T00:00:00Z"}), "expiresAt", "past"),
        (json!({"name": "x", "scopes": [], "expiresAt": "+10000-01-01T00:00:00Z"}), "expiresAt", "invalid"),
    ] {
        let refused = acme.admin().post(PATH, body).await.expect(422);
        assert_eq!(refused.invalid().first().map(|fault| fault.0.as_str()), Some(field), "{code}: {refused:?}");
    }
    acme.user().post(PATH, with(&[])).await.refused(403, "permission_denied");
    acme.user().get(PATH).await.refused(403, "permission_denied");
}
