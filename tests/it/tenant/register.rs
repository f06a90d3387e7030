//! Who may register, and who is invited.

use serde_json::json;
use tenantry::router::Registration;
use tenantry::testing::TestApp;

fn body(tenant: &str, email: &str) -> serde_json::Value {
    json!({"tenant": tenant, "email": email, "password": "an uncommon sentence of five words", "firstName": "N", "lastName": "N"})
}

#[actix_web::test]
async fn an_open_tenant_takes_anybody_as_a_user() {
    let app = TestApp::shared().await;
    let acme = app.tenant_with("acme", Registration::Open).await;
    let nobody = acme.anonymous();
    let answer = nobody.post("/api/v1/auth/register", body(acme.slug.as_str(), "new@example.com")).await.expect(201);
    assert_eq!(answer.data()["user"]["roles"], json!(["user"]));
    let me = nobody.bearing(answer.data()["accessToken"].as_str().unwrap());
    me.get("/api/v1/contacts").await.expect(200);
    me.get("/api/v1/permissions").await.refused(403, "permission_denied");
    acme.log_in_as("new@example.com", "an uncommon sentence of five words").await.expect(200);
    // A role cannot be asked for, and a weak password not be had.
    let mut cunning = body(acme.slug.as_str(), "other@example.com");
    cunning["roles"] = json!(["admin"]);
    nobody.post("/api/v1/auth/register", cunning).await.expect(422);
    let mut weak = body(acme.slug.as_str(), "other@example.com");
    weak["password"] = json!("12345678");
    nobody.post("/api/v1/auth/register", weak).await.expect(422);
}

#[actix_web::test]
async fn others_take_nobody_and_say_so() {
    let app = TestApp::shared().await;
    for policy in [Registration::Closed, Registration::Invite] {
        let acme = app.tenant_with("acme", policy).await;
        let register =
            async |tenant: &str| acme.anonymous().post("/api/v1/auth/register", body(tenant, "new@example.com")).await;
        register(acme.slug.as_str()).await.refused(403, "registration_closed");
    }
}

#[actix_web::test]
async fn a_person_without_a_password_cannot_come_in() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let invited = json!({"email": "invited@example.com", "firstName": "I", "lastName": "I"});
    let answer = acme.admin().post("/api/v1/users", invited).await.expect(201);
    assert_eq!(answer.data()["status"], "invited");
    for password in ["", "null", "invited@example.com"] {
        acme.log_in_as("invited@example.com", password).await.refused(401, "invalid_credentials");
    }
    // Nobody makes them active past the invitation, not by a way round either: it is taken back.
    let id = answer.id();
    for status in ["active", "deactivated"] {
        let refused = acme.admin().patch(&format!("/api/v1/users/{id}"), json!({"status": status})).await;
        assert_eq!(refused.invalid(), [("status".to_owned(), "not_possible".to_owned())], "{status}");
    }
    acme.admin().delete(&format!("/api/v1/invitations/{id}")).await.expect(204);
    // With a password given by the administrator, at once.
    let active = json!({"email": "b@example.com", "firstName": "B", "lastName": "B", "password": "an uncommon sentence of five words"});
    let answer = acme.admin().post("/api/v1/users", active).await.expect(201);
    assert_eq!(answer.data()["status"], "active");
    acme.log_in_as("b@example.com", "an uncommon sentence of five words").await.expect(200);
}
