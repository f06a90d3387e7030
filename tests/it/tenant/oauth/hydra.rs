//! The login and consent app of an Ory Hydra.

use std::process::Child;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tenantry::testing::Tenant;

use crate::support::identity::{app, start};
use crate::support::oauth::parameters;

/// The address of a process that answers as Hydra's admin API does.
fn hydra() -> &'static str {
    static RUNNING: OnceLock<(Child, Value)> = OnceLock::new();
    let (_, address) = RUNNING.get_or_init(|| start("hydra.js", include_str!("../../../peers/hydra.js")));
    address.as_str().expect("an address")
}

/// Asks it something that only tests ask.
async fn test(path: &str, body: Value) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let asked = client.post(format!("{}/test/{path}", hydra())).body(body.to_string());
    let text = asked.send().await.expect("an answer").text().await.expect("a text");
    serde_json::from_str(&text).expect("JSON")
}

/// A browser came with a question.
async fn question(kind: &str, body: Value) -> String {
    test(kind, body).await["challenge"].as_str().expect("a challenge").to_owned()
}

/// What it was answered.
async fn answered(challenge: &str) -> Value {
    test("answers", json!({})).await[challenge].clone()
}

async fn tenant() -> Tenant {
    let acme = app().await.tenant("acme").await;
    let settings = json!({"hydraAdminUrl": hydra(), "hydraToken": "of-the-tests"});
    let shown = acme.admin().patch("/api/v1/oauth/settings", settings).await.expect(200);
    assert!(shown.data()["hydraTokenSet"] == true && !shown.text.contains("of-the-tests"), "{shown:?}");
    acme
}

#[actix_web::test]
async fn hydra_is_told_who_somebody_is() {
    let acme = tenant().await;
    let (person, path) = (acme.user(), "/api/v1/oauth/hydra/login");
    let me = person.user_id().await;
    let challenge = question("login", json!({"skip": false, "subject": ""})).await;
    let body = json!({"loginChallenge": challenge, "accept": true});
    acme.anonymous().post(path, body.clone()).await.refused(401, "unauthenticated");
    let answer = person.post(path, body.clone()).await.expect(200);
    assert_eq!(parameters(answer.data()["redirectTo"].as_str().unwrap())["verifier"], challenge);
    let said = answered(&challenge).await;
    assert_eq!((&said["verb"], &said["body"]["subject"]), (&json!("accept"), &json!(me)));
    assert_eq!((&said["body"]["amr"], &said["body"]["acr"]), (&json!(["pwd"]), &json!("aal1")));
    person.post(path, body).await.refused(409, "conflict");
    // Whom it remembers is asked again, and nobody else answers.
    let challenge = question("login", json!({"skip": true, "subject": me})).await;
    let body = json!({"loginChallenge": challenge, "accept": true});
    acme.admin().post(path, body.clone()).await.refused(409, "conflict");
    person.post(path, body).await.expect(200);
    let challenge = question("login", json!({"skip": false, "subject": ""})).await;
    person.post(path, json!({"loginChallenge": challenge, "accept": false})).await.expect(200);
    assert_eq!(answered(&challenge).await["verb"], "reject");
    let unknown = person.post(path, json!({"loginChallenge": "none", "accept": true})).await;
    assert_eq!(unknown.invalid(), [("loginChallenge".to_owned(), "unknown".to_owned())]);
    // A consent's challenge is no login's.
    let consent = question("consent", json!({"subject": me, "requested_scope": []})).await;
    person.post(path, json!({"loginChallenge": consent, "accept": true})).await.expect(422);
}

#[actix_web::test]
async fn hydra_is_told_what_an_app_may_have() {
    let acme = tenant().await;
    let (person, path) = (acme.user(), "/api/v1/oauth/hydra/consent");
    let user = person.signed_in().await["user"].clone();
    let asked = json!({
        "subject": user["id"], "skip": false, "requested_access_token_audience": ["https://api.example.com"],
        "requested_scope": ["openid", "email", "contacts:read", "users:write", "offline_access"],
        "client": {"client_id": "sheets", "client_name": "Time sheets"},
    });
    let challenge = question("consent", asked.clone()).await;
    let shown = person.get(&format!("{path}?consentChallenge={challenge}")).await.expect(200);
    assert_eq!((&shown.data()["clientName"], &shown.data()["consented"]), (&json!("Time sheets"), &json!(false)));
    acme.admin().get(&format!("{path}?consentChallenge={challenge}")).await.refused(409, "conflict");
    let body = json!({"consentChallenge": challenge, "accept": true});
    acme.admin().post(path, body.clone()).await.refused(409, "conflict");
    person.post(path, body).await.expect(200);
    let said = answered(&challenge).await["body"].clone();
    // What is a right here, only who has it gives.
    assert_eq!(said["grant_scope"], json!(["openid", "email", "contacts:read", "offline_access"]));
    assert_eq!(said["grant_access_token_audience"], json!(["https://api.example.com"]));
    let tid = acme.id.to_string();
    assert_eq!(said["session"]["access_token"], json!({"tid": tid, "roles": ["user"]}));
    assert_eq!(said["session"]["id_token"], json!({"tid": tid, "email": user["email"], "email_verified": false}));

    let challenge = question("consent", asked.clone()).await;
    let beyond = json!({"consentChallenge": challenge, "accept": true, "scopes": ["admin"]});
    assert_eq!(person.post(path, beyond).await.invalid()[0].0, "scopes[0]");
    person.post(path, json!({"consentChallenge": challenge, "accept": true, "scopes": ["openid"]})).await.expect(200);
    assert_eq!(answered(&challenge).await["body"]["grant_scope"], json!(["openid"]));
    let challenge = question("consent", asked).await;
    person.post(path, json!({"consentChallenge": challenge, "accept": false})).await.expect(200);
    assert_eq!(answered(&challenge).await["verb"], "reject");
}

#[actix_web::test]
async fn hydra_is_told_whether_somebody_leaves() {
    let acme = tenant().await;
    let (person, path) = (acme.user(), "/api/v1/oauth/hydra/logout");
    let me = person.user_id().await;
    let challenge = question("logout", json!({"subject": me})).await;
    let body = json!({"logoutChallenge": challenge, "accept": true});
    acme.admin().post(path, body.clone()).await.refused(409, "conflict");
    let answer = person.post(path, body).await.expect(200);
    assert_eq!(parameters(answer.data()["redirectTo"].as_str().unwrap())["verifier"], challenge);
    let challenge = question("logout", json!({"subject": me})).await;
    let stays = person.post(path, json!({"logoutChallenge": challenge, "accept": false})).await.expect(200);
    assert!(stays.data()["redirectTo"].is_null() && answered(&challenge).await["verb"] == "reject", "{stays:?}");
}

#[actix_web::test]
async fn hydra_s_token_goes_to_its_own_address_alone() {
    let acme = tenant().await;
    let admin = acme.admin();
    let challenge = question("login", json!({"skip": false, "subject": ""})).await;
    let body = json!({"loginChallenge": challenge, "accept": true});
    // Another address is asked without what the one before was shown.
    let moved = json!({"hydraAdminUrl": format!("{}/", hydra())});
    let shown = admin.patch("/api/v1/oauth/settings", moved).await.expect(200);
    assert_eq!(shown.data()["hydraTokenSet"], false);
    acme.user().post("/api/v1/oauth/hydra/login", body.clone()).await.refused(503, "identity_provider_unavailable");
    admin.patch("/api/v1/oauth/settings", json!({"hydraAdminUrl": null})).await.expect(200);
    acme.user().post("/api/v1/oauth/hydra/login", body).await.refused(404, "not_found");
}
