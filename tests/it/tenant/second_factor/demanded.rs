//! Organisations that demand a second factor of some roles.

use serde_json::json;

use super::*;

#[actix_web::test]
async fn an_organisation_that_demands_one_has_people_enrol_before_they_come_in() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (_, email, ada) = person(&acme, "user").await;
    ada.get("/api/v1/users/me").await.expect(200);
    let refresh = json!({"refreshToken": ada.refresh_token().await});
    let admin = acme.admin();
    ada.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": []})).await.refused(403, "permission_denied");
    let unknown = admin.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["nobody"]})).await.expect(422);
    assert_eq!(unknown.invalid(), [("mfaRequiredRoles[0]".to_owned(), "unknown_role".to_owned())]);
    let set = admin.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    assert_eq!(set.data()["mfaRequiredRoles"], json!(["user"]));
    // Who has shown none is out, within two seconds everywhere; the session is refreshed no more.
    crate::support::eventually(Duration::from_secs(2), "signed out", async || {
        ada.get("/api/v1/users/me").await.status == 401
    })
    .await;
    acme.anonymous().post("/api/v1/auth/refresh", refresh).await.refused(401, "token_revoked");

    let asked = acme.log_in_as(&email, PASSWORD).await.expect(200);
    assert_eq!(asked.data()["methods"], json!(["enrolment"]), "{asked:?}");
    let mfa = asked.data()["mfaToken"].clone();
    // There is no code yet that would be right.
    second(&acme, mfa.as_str().unwrap(), "000000").await.refused(401, "invalid_credentials");
    let begin = json!({"mfaToken": mfa});
    let told = acme.anonymous().post("/api/v1/auth/mfa/enrolment", begin).await.expect(200);
    let secret = told.data()["secret"].as_str().unwrap().to_owned();
    // What was begun is no factor yet, whoever has begun it.
    second(&acme, mfa.as_str().unwrap(), &code(app, &secret)).await.refused(401, "invalid_credentials");
    let confirm = |code: &str| json!({"mfaToken": mfa, "code": code});
    let path = "/api/v1/auth/mfa/enrolment/confirm";
    acme.anonymous().post(path, confirm("000000")).await.refused(401, "invalid_credentials");
    let inside = acme.anonymous().post(path, confirm(&code(app, &secret))).await.expect(200);
    assert_eq!(inside.data()["recoveryCodes"].as_array().map(Vec::len), Some(10));
    let ada = bearer(&acme, &inside);
    ada.get("/api/v1/users/me").await.expect(200);
    // And cannot be taken away again.
    let body = json!({"code": code_at(app, &secret, 30)});
    ada.post(&format!("{TOTP}/remove"), body.clone()).await.refused(409, "conflict");
    admin.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": null})).await.expect(200);
    ada.post(&format!("{TOTP}/remove"), body).await.expect(204);
    acme.log_in_as(&email, PASSWORD).await.expect(200).data()["accessToken"].as_str().expect("no code is asked for");
}

/// The session that made the demand was spared; once its person has a factor, it has shown none.
#[actix_web::test]
async fn an_enrolment_ends_the_sessions_without_it_at_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let spared = acme.another_login().await;
    spared.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["admin"]})).await.expect(200);
    let asked = acme.log_in_as(acme.email(), acme.password()).await.expect(200);
    let mfa = asked.data()["mfaToken"].clone();
    let told = acme.anonymous().post("/api/v1/auth/mfa/enrolment", json!({"mfaToken": mfa})).await.expect(200);
    let secret = told.data()["secret"].as_str().unwrap().to_owned();
    spared.get("/api/v1/users/me").await.expect(200);
    let confirm = json!({"mfaToken": mfa, "code": code(app, &secret)});
    acme.anonymous().post("/api/v1/auth/mfa/enrolment/confirm", confirm).await.expect(200);
    spared.get("/api/v1/users/me").await.refused(401, "token_revoked");
}
