//! What somebody leaves behind who goes.

use serde_json::{Value, json};
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

/// A person and who they are signed in as.
async fn person(tenant: &Tenant, role: &str) -> (String, Persona) {
    let email = format!("{}@example.com", unique("p"));
    let body = json!({"email": email, "firstName": "P", "lastName": "P", "password": PASSWORD, "roles": [role]});
    let id = tenant.admin().post("/api/v1/users", body).await.expect(201).id();
    let answer = tenant.log_in_as(&email, PASSWORD).await.expect(200);
    let token = answer.data()["accessToken"].as_str().expect("a token").to_owned();
    (id, tenant.anonymous().bearing(&token))
}

/// Somebody in two teams, with an app, a key, a directory's token and a session.
async fn leaver(tenant: &Tenant) -> (String, Persona) {
    let (id, theirs) = person(tenant, "admin").await;
    for _ in 0..2 {
        let team = json!({"name": unique("team"), "roles": ["user"]});
        let team = tenant.admin().post("/api/v1/teams", team).await.expect(201).id();
        tenant.admin().put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
    }
    theirs.post("/api/v1/api-keys", json!({"name": "k", "scopes": []})).await.expect(201);
    theirs.post("/api/v1/scim-tokens", json!({"name": "s"})).await.expect(201);
    let app = json!({
        "name": "Time sheets", "confidential": true, "grants": ["client_credentials"], "scopes": ["contacts:read"],
        "redirectUris": [],
    });
    theirs.post("/api/v1/oauth/clients", app).await.expect(201);
    (id, theirs)
}

async fn teams_of(tenant: &Tenant, id: &str) -> String {
    let count = format!("SELECT count(*)::text AS word FROM team_members WHERE user_id = '{id}'");
    db::word(tenant.database(), &count).await
}

#[actix_web::test]
async fn what_somebody_has_is_handed_over_or_ends() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let ((from, theirs), (to, _)) = (leaver(&acme).await, person(&acme, "user").await);
    let path = format!("/api/v1/users/{from}/reassign");
    let once = admin.with("idempotency-key", "hand-over");
    let done = once.post(&path, json!({"to": to})).await.expect(200);
    let counted = json!({"teams": 2, "apps": 1, "ended": {"apiKeys": 1, "scimTokens": 1, "sessions": 1}});
    assert_eq!(*done.data(), counted);
    assert_eq!(*once.post(&path, json!({"to": to})).await.expect(200).data(), counted, "told again, not done again");
    assert_eq!((teams_of(&acme, &from).await, teams_of(&acme, &to).await), ("0".into(), "2".into()));
    let owner = "SELECT owner_id::text AS word FROM oauth_clients";
    assert_eq!(db::word(acme.database(), owner).await, to);
    theirs.get("/api/v1/users/me").await.refused(401, "token_revoked");
    let left = format!("SELECT count(*)::text AS word FROM api_keys WHERE owner_id = '{from}'");
    assert_eq!(db::word(acme.database(), &left).await, "0");
    let noted = format!(
        "SELECT reason AS word FROM audit WHERE action = 'user.reassigned' AND user_id = '{from}' \
         AND reason LIKE 'to {to}: 2 places in teams, 1 apps; ended: 1 API keys, 1 tokens%'"
    );
    assert_eq!(db::words(acme.database(), &noted).await.len(), 1);
    admin.get(&format!("/api/v1/users/{from}")).await.expect(200);
}

#[actix_web::test]
async fn somebody_goes_and_another_takes_over_in_one_step() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let ((from, _), (to, _)) = (leaver(&acme).await, person(&acme, "user").await);
    let path = format!("/api/v1/users/{from}");
    let (gone, _) = person(&acme, "user").await;
    admin.patch(&format!("/api/v1/users/{gone}"), json!({"status": "deactivated"})).await.expect(200);
    let unknown = "01890000-0000-7000-8000-000000000000";
    for bad in [from.as_str(), gone.as_str(), unknown] {
        admin.delete(&format!("{path}?reassignTo={bad}")).await.refused(422, "validation_failed");
        admin.post(&format!("{path}/reassign"), json!({"to": bad})).await.refused(422, "validation_failed");
    }
    assert_eq!(teams_of(&acme, &from).await, "2", "nothing was done");
    admin.delete(&format!("{path}?reassignTo=nobody")).await.expect(400);
    admin.delete(&format!("{path}?reassignTo={to}")).await.expect(204);
    assert_eq!(teams_of(&acme, &to).await, "2");
    admin.get(&path).await.refused(404, "not_found");
}

/// Nobody gives by handing over what they could not give.
#[actix_web::test]
async fn rights_do_not_grow_by_being_handed_over() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let role = json!({"name": "people", "permissions": ["users:read", "users:write"]});
    admin.post("/api/v1/roles", role).await.expect(201);
    let (_, clerk) = person(&acme, "people").await;
    let ((from, _), (to, _)) = (person(&acme, "user").await, person(&acme, "user").await);
    let team = json!({"name": unique("team"), "roles": ["admin"]});
    let team = admin.post("/api/v1/teams", team).await.expect(201).id();
    admin.put(&format!("/api/v1/teams/{team}/members/{from}"), Value::Null).await.expect(204);
    let path = format!("/api/v1/users/{from}/reassign");
    clerk.post(&path, json!({"to": to})).await.refused(403, "permission_denied");

    // Nor what the apps of somebody who may do no more than the clerk may ask for.
    let (plain, _) = person(&acme, "people").await;
    let app = json!({
        "name": "Reports", "confidential": true, "grants": ["client_credentials"], "scopes": ["contacts:read"],
        "redirectUris": [],
    });
    let made = admin.post("/api/v1/oauth/clients", app).await.expect(201).id();
    db::execute(acme.database(), &format!("UPDATE oauth_clients SET owner_id = '{plain}' WHERE id = '{made}'")).await;
    let of_plain = format!("/api/v1/users/{plain}/reassign");
    let faults = clerk.post(&of_plain, json!({"to": to})).await.invalid();
    assert_eq!(faults, [("to".to_owned(), "beyond_own_permissions".to_owned())]);
    acme.user().post(&path, json!({"to": to})).await.refused(403, "permission_denied");
    assert_eq!(teams_of(&acme, &to).await, "0");
}
