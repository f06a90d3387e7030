//! What people agreed to, and took back.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::oauth::{App, refused};
use crate::support::{db, eventually, seconds};

const PATH: &str = "/api/v1/oauth/consents";

#[actix_web::test]
async fn a_consent_is_remembered_and_its_end_ends_the_tokens() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let elsewhere = TestApp::builder().beside(home).start().await;
    let client = App::new(&acme, &["openid", "contacts:read", "contacts:write"], json!({})).await;
    let person = acme.user();
    let consented = async |scope: &str| {
        let request = client.request(&[("scope", scope)]).await;
        let shown = person.get(&format!("/api/v1/oauth/requests/{request}")).await.expect(200);
        shown.data()["consented"].as_bool().expect("a word")
    };
    let first = client.tokens(&person, "contacts:read").await;
    assert!(consented("contacts:read").await && !consented("contacts:read openid").await);
    let second = client.tokens(&person, "openid contacts:read").await;
    assert!(consented("contacts:read openid").await);
    let list = person.get(PATH).await.expect(200);
    let one = list.data().as_array().unwrap().iter().find(|one| one["clientId"] == client.id).expect("it").clone();
    assert_eq!(one["scopes"], json!(["contacts:read", "openid"]));
    // Somebody else's are their own.
    let admin = client.tokens(&acme.admin(), "contacts:read").await;
    acme.admin().delete(&format!("{PATH}/{}", client.id)).await.expect(204);
    client.bearing(&admin.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
    let there = client.bearing(&second.access).at(elsewhere.url());
    there.get("/api/v1/contacts").await.expect(200);
    client.bearing(&first.access).get("/api/v1/contacts").await.expect(200);
    let pending = client.code(&person, &[]).await;
    person.delete(&format!("{PATH}/{}", client.id)).await.expect(204);
    person.delete(&format!("{PATH}/{}", client.id)).await.refused(404, "not_found");
    for tokens in [&first, &second] {
        client.bearing(&tokens.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
        refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
    }
    refused(&client.exchange(&pending).await, 400, "invalid_grant");
    eventually(seconds(2), "the other node knows", async || there.get("/api/v1/contacts").await.status == 401).await;
    assert!(!consented("contacts:read").await);
    let noted = format!(
        "SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE user_id = '{}' AND action LIKE 'oauth.%'",
        person.user_id().await
    );
    let each = "oauth.consented oauth.consented oauth.consented oauth.consent_withdrawn";
    assert_eq!(db::word(acme.database(), &noted).await, each);
}
