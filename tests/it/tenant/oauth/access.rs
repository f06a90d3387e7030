//! What an app may do with its tokens.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::oauth::{App, refused};
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

#[actix_web::test]
async fn an_app_does_what_was_granted_and_no_more_than_the_person_may() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let elsewhere = TestApp::builder().beside(home).start().await;
    let admin = acme.admin();
    let client = App::new(&acme, &["openid", "contacts:read", "contacts:write", "users:write"], json!({})).await;
    let role = json!({"name": unique("writers"), "permissions": ["contacts:read", "contacts:write"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@example.com", unique("writer"));
    let body = json!({"email": email, "firstName": "W", "lastName": "W", "password": PASSWORD, "roles": [role.data()["name"]]});
    let id = admin.post("/api/v1/users", body.clone()).await.expect(201).id();
    let person = acme.person(&email, PASSWORD);
    let tokens = client.tokens(&person, "contacts:write users:write").await;
    let program = client.bearing(&tokens.access);
    let there = program.at(elsewhere.url());
    program.post("/api/v1/contacts", json!({"lastName": "X"})).await.expect(201);
    there.post("/api/v1/contacts", json!({"lastName": "X"})).await.expect(201);
    // Not what was not granted, and not what the person may not do.
    program.get("/api/v1/contacts").await.refused(403, "permission_denied");
    program.post("/api/v1/users", body).await.refused(403, "permission_denied");
    // The person loses a right, and the app with them; then the app may ask for less, then for nothing.
    let path = format!("/api/v1/roles/{}", role.id());
    admin.patch(&path, json!({"permissions": ["contacts:read"]})).await.expect(200);
    for one in [&program, &there] {
        let gone = async || one.post("/api/v1/contacts", json!({"lastName": "Y"})).await.status == 403;
        eventually(seconds(2), "the right is gone", gone).await;
    }
    admin.patch(&path, json!({"permissions": ["contacts:read", "contacts:write"]})).await.expect(200);
    for one in [&program, &there] {
        let back = async || one.post("/api/v1/contacts", json!({"lastName": "Y"})).await.status == 201;
        eventually(seconds(2), "the right is back", back).await;
    }
    let client_path = format!("/api/v1/oauth/clients/{}", client.id);
    admin.patch(&client_path, json!({"scopes": ["openid"]})).await.expect(200);
    program.post("/api/v1/contacts", json!({"lastName": "Z"})).await.refused(403, "permission_denied");
    // What the app may not ask for any more is not said to be its own.
    let told = client.ask("introspect", &[("token", &tokens.access)]).await.expect(200);
    assert_eq!((&told.body["active"], &told.body["scope"]), (&json!(true), &json!("")));
    admin.patch(&client_path, json!({"scopes": ["contacts:write"]})).await.expect(200);
    let told = client.ask("introspect", &[("token", &tokens.refresh)]).await.expect(200);
    assert_eq!(told.body["scope"], "contacts:write");
    program.post("/api/v1/contacts", json!({"lastName": "Z"})).await.expect(201);
    admin.patch(&client_path, json!({"enabled": false})).await.expect(200);
    program.post("/api/v1/contacts", json!({"lastName": "Z"})).await.refused(401, "token_revoked");
    refused(&client.refresh(&tokens.refresh).await, 401, "invalid_client");
    let closed = async || there.post("/api/v1/contacts", json!({"lastName": "Z"})).await.code() == "token_revoked";
    eventually(seconds(2), "the app is closed", closed).await;
    admin.patch(&client_path, json!({"enabled": true})).await.expect(200);
    program.post("/api/v1/contacts", json!({"lastName": "Z"})).await.expect(201);
    // The person is out.
    assert!(client.is_active(&tokens.refresh).await);
    admin.patch(&format!("/api/v1/users/{id}"), json!({"status": "deactivated"})).await.expect(200);
    for one in [&program, &there] {
        let out = async || one.post("/api/v1/contacts", json!({"lastName": "Z"})).await.code() == "token_revoked";
        eventually(seconds(2), "the person is out", out).await;
    }
    assert!(!client.is_active(&tokens.refresh).await);
    refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
}

/// Whoever verifies a token by our keys alone asks nobody whether its app still has an owner.
#[actix_web::test]
async fn an_app_without_an_owner_gets_no_token_of_its_own() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let email = format!("{}@example.com", unique("boss"));
    let body = json!({"email": email, "firstName": "B", "lastName": "B", "password": PASSWORD, "roles": ["admin"]});
    let id = admin.post("/api/v1/users", body).await.expect(201).id();
    let wanted = json!({
        "name": unique("app"), "confidential": true, "scopes": ["contacts:read"], "grants": ["client_credentials"],
    });
    let made = acme.person(&email, PASSWORD).post("/api/v1/oauth/clients", wanted).await.expect(201);
    let secret = made.data()["secret"].as_str().map(str::to_owned);
    let client = App { tenant: acme.clone(), id: made.id(), secret };
    let own = [("grant_type", "client_credentials")];
    client.ask("token", &own).await.expect(200);
    admin.patch(&format!("/api/v1/users/{id}"), json!({"status": "deactivated"})).await.expect(200);
    refused(&client.ask("token", &own).await, 400, "unauthorized_client");
}

#[actix_web::test]
async fn an_app_is_let_in_anew_where_a_second_factor_is_demanded_by_now() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let elsewhere = TestApp::builder().beside(home).start().await;
    let admin = acme.admin();
    let client = App::new(&acme, &["contacts:read"], json!({})).await;
    let (kept, waiting) = (client.tokens(&acme.user(), "contacts:read").await, client.code(&acme.user(), &[]).await);
    let theirs = client.tokens(&admin, "contacts:read").await;
    let role = json!({"mfaRequiredRoles": ["user"]});
    // As the database was when nobody looked: an app that is refreshed finds it out.
    let unnoticed = client.tokens(&acme.user(), "contacts:read").await;
    let demand = "UPDATE security_policy SET mfa_required_roles = '{user}'";
    db::execute(acme.database(), demand).await;
    refused(&client.refresh(&unnoticed.refresh).await, 400, "invalid_grant");
    refused(&client.exchange(&waiting).await, 400, "invalid_grant");
    client.bearing(&unnoticed.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
    // And who says so ends all of them at once, on every node.
    let program = client.bearing(&kept.access);
    let there = program.at(elsewhere.url());
    for one in [&program, &there] {
        one.get("/api/v1/contacts").await.expect(200);
    }
    admin.patch("/api/v1/security-policy", role).await.expect(200);
    program.get("/api/v1/contacts").await.refused(401, "token_revoked");
    eventually(seconds(2), "the other node knows", async || {
        there.get("/api/v1/contacts").await.code() == "token_revoked"
    })
    .await;
    refused(&client.refresh(&kept.refresh).await, 400, "invalid_grant");
    // Of whom none is demanded, nothing ends.
    client.bearing(&theirs.access).get("/api/v1/contacts").await.expect(200);
    client.refresh(&theirs.refresh).await.expect(200);
}

#[actix_web::test]
async fn what_is_a_person_s_own_affair_is_no_app_s() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let rights = acme.admin().get("/api/v1/permissions?pageSize=100").await.expect(200);
    let rights = rights.data().as_array().expect("a list").clone();
    let all: Vec<&str> = rights.iter().map(|right| right["name"].as_str().expect("a name")).collect();
    let client = App::new(&acme, &all, json!({})).await;
    let tokens = client.tokens(&acme.admin(), &all.join(" ")).await;
    let own = client.ask("token", &[("grant_type", "client_credentials")]).await.expect(200);
    for token in [&*tokens.access, own.body["access_token"].as_str().unwrap()] {
        let program = client.bearing(token);
        program.get("/api/v1/contacts").await.expect(200);
        program.get("/api/v1/oauth/clients").await.expect(200);
        for path in [
            "/api/v1/users/me",
            "/api/v1/auth/sessions",
            "/api/v1/auth/mfa",
            "/api/v1/oauth/consents",
            "/api/v1/users/me/social-accounts",
        ] {
            program.get(path).await.refused(403, "permission_denied");
        }
        let key = json!({"name": "x", "scopes": ["contacts:read"]});
        program.post("/api/v1/api-keys", key).await.refused(403, "permission_denied");
        let another = json!({"name": "x", "confidential": true, "grants": ["client_credentials"], "scopes": []});
        program.post("/api/v1/oauth/clients", another).await.refused(403, "permission_denied");
        let one = format!("/api/v1/oauth/clients/{}", client.id);
        program.patch(&one, json!({"name": "y"})).await.refused(403, "permission_denied");
        program.post(&format!("{one}/rotate"), json!({})).await.refused(403, "permission_denied");
        program.delete(&one).await.refused(403, "permission_denied");
        program
            .patch("/api/v1/oauth/settings", json!({"consentUrl": "https://evil.example/"}))
            .await
            .refused(403, "permission_denied");
        program.patch("/api/v1/security-policy", json!({})).await.refused(403, "permission_denied");
        program.post("/api/v1/auth/logout", json!({})).await.refused(403, "permission_denied");
        let password = json!({"currentPassword": acme.password(), "newPassword": "another uncommon sentence of words"});
        program.post("/api/v1/auth/change-password", password).await.refused(403, "permission_denied");
        let request = client.request(&[]).await;
        program
            .post(&format!("/api/v1/oauth/requests/{request}/accept"), json!({}))
            .await
            .refused(403, "permission_denied");
        // Another tenant's, and an operator's, it never is.
        program.with("x-tenant-id", globex.slug.as_str()).get("/api/v1/contacts").await.refused(404, "tenant_mismatch");
        program.get("/api/v1/admin/tenants").await.refused(401, "token_invalid");
    }
    let info = client.bearing(&tokens.access).get(&format!("/t/{}/oauth/userinfo", globex.slug)).await;
    refused(&info, 401, "invalid_token");
}
