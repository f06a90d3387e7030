//! `tenant token`, and the same over REST: acts as a person for a short time, says so, and is noted.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::binary::run;
use crate::support::jwt::{forge_of, part};
use crate::support::{db, unique};

#[actix_web::test]
async fn a_token_acts_as_its_person_says_so_and_is_noted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let command =
        ["tenant", "token", acme.slug.as_str(), "--user", acme.email(), "--reason", "ticket 4711", "--output", "json"];
    let given = run(app, &command).await.expect(0).json();
    let token = given["accessToken"].as_str().expect("a token");
    let claims = part(token, 1);
    assert!(claims["act"]["sub"].as_str().unwrap().starts_with("cli:") && claims["amr"] == json!(["impersonation"]));
    assert!(given["expiresIn"].as_i64() == Some(900) && claims["sid"] == given["sessionId"], "{given}");
    let someone = app.anonymous().bearing(token);
    let me = someone.get("/api/v1/users/me").await.expect(200);
    assert_eq!(me.data()["email"], acme.email());
    someone.post("/api/v1/contacts", json!({"lastName": "Seen"})).await.expect(201);
    // What is the person's own stays theirs.
    let body = json!({"currentPassword": acme.password(), "newPassword": "another long password, which is good"});
    someone.post("/api/v1/auth/change-password", body).await.refused(403, "permission_denied");
    someone.post("/api/v1/auth/logout-all", json!({})).await.refused(403, "permission_denied");
    let user = someone.get("/api/v1/users/me").await.expect(200).id();
    let key = json!({"name": "for later", "scopes": ["contacts:read"]});
    someone.post("/api/v1/api-keys", key).await.refused(403, "permission_denied");
    someone.patch("/api/v1/security-policy", json!({})).await.refused(403, "permission_denied");
    let new = json!({"password": "another long password, which is good"});
    someone.patch(&format!("/api/v1/users/{user}"), new).await.refused(403, "permission_denied");
    for own in ["mfa", "sessions"] {
        someone.delete(&format!("/api/v1/users/{user}/{own}")).await.refused(403, "permission_denied");
    }
    someone.delete(&format!("/api/v1/users/{user}")).await.refused(403, "permission_denied");
    // Nor is anybody let in, or raised, who would stay.
    let heir = json!({"email": "heir@acme.test", "firstName": "H", "lastName": "E", "roles": ["admin"]});
    someone.post("/api/v1/invitations", json!({"people": [heir]})).await.refused(403, "permission_denied");
    someone.post("/api/v1/users", heir).await.refused(403, "permission_denied");
    let role = json!({"name": "heirs", "permissions": ["users:write"]});
    someone.post("/api/v1/roles", role).await.refused(403, "permission_denied");
    let other = format!("/api/v1/users/{}", acme.user().user_id().await);
    someone.patch(&other, json!({"roles": ["admin"]})).await.refused(403, "permission_denied");
    assert_eq!(someone.get(&other).await.expect(200).data()["roles"], json!(["user"]));
    let noted = db::words(
        acme.database(),
        "SELECT actor || '|' || action || '|' || reason || '|' || user_id || '|' || session_id AS word FROM audit \
         WHERE action LIKE 'session.%' AND request_id IS NULL",
    )
    .await;
    let actor = given["actor"].as_str().unwrap();
    let expected = format!(
        "{actor}|session.impersonated|ticket 4711|{}|{}",
        given["userId"].as_str().unwrap(),
        given["sessionId"].as_str().unwrap()
    );
    assert_eq!(noted, [expected]);
    someone.post("/api/v1/auth/logout", json!({})).await.expect(204);
    someone.get("/api/v1/users/me").await.refused(401, "token_revoked");
}

#[actix_web::test]
async fn it_is_refused_where_nobody_is_to_be_acted_for() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let slug = acme.slug.as_str();
    run(app, &["tenant", "token", slug, "--user", "nobody@acme.test", "--reason", "x"]).await.expect(4);
    run(app, &["tenant", "token", slug, "--user", acme.email(), "--reason", " "]).await.expect(4);
    run(app, &["tenant", "token", "nobody-has-this", "--user", acme.email(), "--reason", "x"]).await.expect(4);
    run(app, &["tenant", "token", slug, "--user", acme.email()]).await.expect(2);
    let noted = "SELECT count(*)::text AS word FROM audit WHERE action <> 'user.created'";
    assert_eq!(db::word(acme.database(), noted).await, "0");
    acme.suspend().await;
    run(app, &["tenant", "token", slug, "--user", acme.email(), "--reason", "x"]).await.expect(4);
}

/// Neither half of the mark counts without the other.
#[actix_web::test]
async fn act_and_amr_go_together() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let forge = forge_of(app, &acme).await;
    let act = json!({"sub": "cli:me@here"});
    for claims in [forge.claims_with("act", act), forge.claims_with("amr", json!(["impersonation"]))] {
        let answer = app.anonymous().bearing(&forge.claiming(&claims)).get("/api/v1/users/me").await;
        answer.refused(401, "token_invalid");
    }
}

#[actix_web::test]
async fn an_operator_is_given_a_token_over_rest_which_is_kept_nowhere() {
    let app = TestApp::shared().await;
    let (acme, globex, operator) = (app.tenant("acme").await, app.tenant("globex").await, app.operator());
    let me = operator.get("/api/v1/admin/auth/me").await.expect(200).id();
    let path = format!("/api/v1/admin/tenants/{}/tokens", acme.slug);
    let (key, reason) = (unique("once"), unique("ticket "));
    let once = operator.with("idempotency-key", &key);
    let body = json!({"user": acme.email(), "reason": reason});
    let given = once.post(&path, body.clone()).await.expect(201);
    assert_eq!(given.header("cache-control"), Some("no-store"), "{given:?}");
    assert!(given.data()["expiresIn"] == 900 && given.data()["expiresAt"].is_string(), "{given:?}");
    let token = given.data()["accessToken"].as_str().expect("a token");
    let claims = part(token, 1);
    assert_eq!((&claims["act"]["sub"], &claims["amr"]), (&json!(format!("operator:{me}")), &json!(["impersonation"])));
    let someone = app.anonymous().bearing(token);
    assert_eq!(someone.get("/api/v1/users/me").await.expect(200).data()["email"], acme.email());
    let elsewhere = someone.with("x-tenant-id", globex.slug.as_str());
    elsewhere.get("/api/v1/users/me").await.refused(404, "tenant_mismatch");
    someone.get("/api/v1/admin/tenants").await.expect(401);

    // Whoever lost the answer gets another: the first is kept nowhere.
    let again = once.post(&path, body).await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = again.data()["accessToken"].as_str().expect("a token");
    assert_ne!(other, token);
    let reused = json!({"user": acme.email(), "reason": "another"});
    once.post(&path, reused).await.refused(422, "idempotency_key_reused");
    let records = format!("SELECT r::text AS word FROM request_records r WHERE key = '{key}'");
    let records = db::words(app.control_database(), &records).await;
    assert!(records.len() == 1 && !records[0].contains(token) && !records[0].contains(other), "{records:?}");

    let noted = "SELECT actor || '|' || reason AS word FROM audit WHERE action = 'session.impersonated'";
    let line = format!("operator:{me}|{reason}");
    assert_eq!(db::words(acme.database(), noted).await, [line.as_str(), line.as_str()], "a line for each session");
    let tried = format!(
        "SELECT action AS word FROM operator_audit WHERE operator_id = '{me}' AND target = '{}' \
         AND action = 'POST /api/v1/admin/tenants/{{id}}/tokens'",
        acme.slug
    );
    assert_eq!(db::words(app.control_database(), &tried).await.len(), 3, "each try, the refused one as well");
}

#[actix_web::test]
async fn over_rest_it_is_refused_as_on_the_command_line() {
    let app = TestApp::shared().await;
    let (acme, operator) = (app.tenant("acme").await, app.operator());
    let of = |name: &str| format!("/api/v1/admin/tenants/{name}/tokens");
    let path = of(acme.slug.as_str());
    let body = |user: &str, reason: &str| json!({"user": user, "reason": reason});
    let good = body(acme.email(), "x");
    operator.post(&path, body("nobody@acme.test", "x")).await.refused(404, "not_found");
    operator.post(&of("nobody-has-this"), good.clone()).await.refused(404, "not_found");
    for (reason, code) in [("", "too_short"), (" ", "invalid"), (&*"x".repeat(501), "too_long")] {
        let refused = operator.post(&path, body(acme.email(), reason)).await;
        assert_eq!(refused.invalid(), [("reason".to_owned(), code.to_owned())], "{refused:?}");
    }
    // Who configures nothing does not become a person who does; not at a tenant of their own either.
    for role in ["support", "owner"] {
        let login = json!({
            "email": format!("{}@operators.test", unique(role)), "password": "an uncommon sentence of five words",
        });
        let mut new = login.clone();
        (new["role"], new["tenants"]) = (json!(role), json!([acme.slug]));
        operator.post("/api/v1/admin/operators", new).await.expect(201);
        let token = app.anonymous().post("/api/v1/admin/auth/login", login).await.expect(200);
        let who = app.anonymous().bearing(token.data()["accessToken"].as_str().expect("a token"));
        who.post(&path, good.clone()).await.refused(403, "permission_denied");
    }
    acme.suspend().await;
    operator.post(&path, good).await.refused(409, "conflict");
    acme.resume().await;
    let noted = "SELECT count(*)::text AS word FROM audit WHERE action = 'session.impersonated'";
    assert_eq!(db::word(acme.database(), noted).await, "0");
}
