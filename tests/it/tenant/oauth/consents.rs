//! What people agreed to, and took back.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::oauth::{App, Tokens, refused};
use crate::support::{db, eventually, seconds, smtp, unique};

const PATH: &str = "/api/v1/oauth/consents";
const FIRST: &str = "quite a sentence of words";
const SECOND: &str = "quite another sentence of words";

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
    let each = format!("{} oauth.consent_withdrawn", ["oauth.consented oauth.granted"; 3].join(" "));
    assert_eq!(db::word(acme.database(), &noted).await, each);
}

/// Whoever had a person's session may have let an app in: what ends the sessions ends that, too.
#[actix_web::test]
async fn what_ends_somebody_s_sessions_ends_what_apps_were_given() {
    let (home, smtp) = smtp::shared().await;
    let acme = home.tenant("acme").await;
    let client = App::new(&acme, &["openid", "contacts:read"], json!({})).await;
    let scope = "openid contacts:read";
    let admin = acme.admin();
    let of_admin = client.tokens(&admin, scope).await;
    let email = format!("{}@example.com", unique("grace"));
    let body = json!({"email": email, "firstName": "G", "lastName": "H", "password": FIRST, "roles": ["user"]});
    let id = admin.post("/api/v1/users", body).await.expect(201).id();
    let path = format!("/api/v1/users/{id}");
    let person = async |password: &str| {
        let answer = acme.log_in_as(&email, password).await.expect(200);
        acme.anonymous().bearing(answer.data()["accessToken"].as_str().expect("a token"))
    };
    let ended = async |what: &str, tokens: &Tokens, pending: &str| {
        refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
        refused(&client.exchange(pending).await, 400, "invalid_grant");
        let there = client.bearing(&tokens.access);
        eventually(seconds(3), what, async || there.get("/api/v1/contacts").await.status == 401).await;
    };

    let me = person(FIRST).await;
    let (tokens, pending) = (client.tokens(&me, scope).await, client.code(&me, &[("scope", scope)]).await);
    let forgot = json!({"tenant": acme.slug.as_str(), "email": email});
    acme.anonymous().post("/api/v1/auth/forgot-password", forgot).await.expect(202);
    let token = smtp.letter(&email, "Choose a new password").await.token();
    let reset = json!({"token": token, "newPassword": SECOND});
    acme.anonymous().post("/api/v1/auth/reset-password", reset).await.expect(204);
    ended("a reset of the password", &tokens, &pending).await;

    let me = person(SECOND).await;
    let (tokens, pending) = (client.tokens(&me, scope).await, client.code(&me, &[("scope", scope)]).await);
    let change = json!({"currentPassword": SECOND, "newPassword": FIRST});
    me.post("/api/v1/auth/change-password", change).await.ok();
    ended("another password", &tokens, &pending).await;

    let (tokens, pending) = (client.tokens(&me, scope).await, client.code(&me, &[("scope", scope)]).await);
    me.post("/api/v1/auth/logout-all", json!({})).await.expect(204);
    ended("signing out everywhere", &tokens, &pending).await;

    let me = person(FIRST).await;
    let (tokens, pending) = (client.tokens(&me, scope).await, client.code(&me, &[("scope", scope)]).await);
    admin.delete(&format!("{path}/sessions")).await.expect(204);
    ended("an administrator", &tokens, &pending).await;

    let me = person(FIRST).await;
    let (tokens, pending) = (client.tokens(&me, scope).await, client.code(&me, &[("scope", scope)]).await);
    admin.patch(&path, json!({"status": "deactivated"})).await.expect(200);
    admin.patch(&path, json!({"status": "active"})).await.expect(200);
    ended("a closed account that is open again", &tokens, &pending).await;

    // Nobody else's, and the consent stays; each time that an app was let in can be read.
    client.refresh(&of_admin.refresh).await.expect(200);
    let count = |action: &str| {
        format!("SELECT count(*)::text AS word FROM audit WHERE user_id = '{id}' AND action = 'oauth.{action}'")
    };
    assert_eq!(db::word(acme.database(), &count("consented")).await, "1");
    assert_eq!(db::word(acme.database(), &count("granted")).await, "10");
}
