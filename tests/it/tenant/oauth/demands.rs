//! How an app wants a person to be asked: `max_age` and `prompt`.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, TestApp};

use crate::support::jwt::part;
use crate::support::oauth::{App, parameters};

/// The same person after a step-up.
async fn proven(person: &Persona, password: &str) -> Persona {
    let proof = person.post("/api/v1/auth/step-up", json!({"password": password})).await.expect(200);
    person.bearing(proof.data()["accessToken"].as_str().expect("a token"))
}

async fn id_token(client: &App, accepted: &Answer) -> Value {
    let code = parameters(accepted.data()["redirectTo"].as_str().expect("an address"))["code"].clone();
    let tokens = client.exchange(&code).await.expect(200);
    part(tokens.body["id_token"].as_str().expect("an ID token"), 1)
}

#[actix_web::test]
async fn an_app_gets_a_proof_as_fresh_as_it_asked_for() {
    let app = TestApp::builder().beside(TestApp::shared().await).start().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &["openid"], json!({})).await;
    for (over, prompt, max_age) in [
        (("max_age", "60"), json!([]), json!(60)),
        (("max_age", "0"), json!([]), json!(0)),
        (("prompt", "login"), json!(["login"]), Value::Null),
        (("prompt", "select_account login"), json!(["login", "select_account"]), Value::Null),
    ] {
        let person = acme.another_login().await;
        let signed_in = app.clock().now().timestamp();
        app.clock().advance(TimeDelta::minutes(2));
        let path = format!("/api/v1/oauth/requests/{}", client.request(&[over]).await);
        let shown = person.get(&path).await.expect(200);
        assert_eq!(
            (&shown.data()["prompt"], &shown.data()["maxAge"], &shown.data()["stepUpRequired"]),
            (&prompt, &max_age, &json!(true)),
            "{over:?}"
        );
        let accept = format!("{path}/accept");
        person.post(&accept, json!({})).await.refused(403, "step_up_required");
        app.clock().advance(TimeDelta::seconds(5));
        let now = app.clock().now().timestamp();
        let proven = proven(&person, acme.password()).await;
        let shown = proven.get(&path).await.expect(200);
        assert_eq!(shown.data()["stepUpRequired"], false, "{over:?}");
        let said = id_token(&client, &proven.post(&accept, json!({})).await.expect(200)).await;
        let proved = said["auth_time"].as_i64().expect("a time");
        assert!(proved >= now && proved > signed_in, "{over:?}: {said}");
    }
    // Old enough is good enough, and whoever asks for nothing gets what there is.
    for over in [("max_age", "100000"), ("prompt", "select_account"), ("state", "another")] {
        let person = acme.another_login().await;
        app.clock().advance(TimeDelta::minutes(2));
        let path = format!("/api/v1/oauth/requests/{}", client.request(&[over]).await);
        assert_eq!(person.get(&path).await.expect(200).data()["stepUpRequired"], false, "{over:?}");
        let said = id_token(&client, &person.post(&format!("{path}/accept"), json!({})).await.expect(200)).await;
        assert!(said["auth_time"].is_i64(), "{said}");
    }
}

#[actix_web::test]
async fn who_is_to_be_asked_is_asked_whatever_they_agreed_to() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &["openid"], json!({})).await;
    let person = acme.user();
    client.tokens(&person, "openid").await;
    for (over, consented) in [(("prompt", ""), true), (("prompt", "consent"), false), (("prompt", "login"), true)] {
        let request = client.request(&[("scope", "openid"), over]).await;
        let shown = person.get(&format!("/api/v1/oauth/requests/{request}")).await.expect(200);
        assert_eq!(shown.data()["consented"], consented, "{over:?}");
    }
}
