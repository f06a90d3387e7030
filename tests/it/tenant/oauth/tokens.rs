//! Refreshing, revoking and looking at tokens; tokens of apps in their own name.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::jwt::part;
use crate::support::oauth::{App, Tokens, refused};
use crate::support::{eventually, seconds};

const SCOPES: [&str; 3] = ["openid", "contacts:read", "contacts:write"];

#[actix_web::test]
async fn a_refresh_token_is_exchanged_once_and_its_reuse_ends_all_of_it() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_AUTH__REFRESH_GRACE", "30s").start().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &SCOPES, json!({})).await;
    let other = App::new(&acme, &SCOPES, json!({})).await;
    let person = acme.user();
    let first = client.tokens(&person, "contacts:read contacts:write").await;
    refused(&other.refresh(&first.refresh).await, 400, "invalid_grant");
    let second = client.refresh(&first.refresh).await.expect(200);
    // Whoever lost the answer gets the same successor.
    let again = client.refresh(&first.refresh).await.expect(200);
    assert_eq!(second.body["refresh_token"], again.body["refresh_token"]);
    let second = Tokens::of(&second);
    assert_ne!(second.refresh, first.refresh);
    // Less is given, never more, and only for that token.
    let narrow = [("grant_type", "refresh_token"), ("refresh_token", &*second.refresh), ("scope", "contacts:read")];
    let third = client.ask("token", &narrow).await.expect(200);
    assert_eq!(third.body["scope"], "contacts:read");
    let third = Tokens::of(&third);
    let lesser = client.bearing(&third.access);
    lesser.get("/api/v1/contacts").await.expect(200);
    lesser.post("/api/v1/contacts", json!({"lastName": "X"})).await.refused(403, "permission_denied");
    let wide = [("grant_type", "refresh_token"), ("refresh_token", &*third.refresh), ("scope", "openid")];
    refused(&client.ask("token", &wide).await, 400, "invalid_scope");
    let full = client.refresh(&third.refresh).await.expect(200);
    assert_eq!(full.body["scope"], "contacts:read contacts:write");
    let full = Tokens::of(&full);
    app.clock().advance(chrono::TimeDelta::seconds(31));
    refused(&client.refresh(&first.refresh).await, 400, "invalid_grant");
    refused(&client.refresh(&full.refresh).await, 400, "invalid_grant");
    client.bearing(&full.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
}

/// What was stored while lives were longer counts no more.
#[actix_web::test]
async fn lives_that_are_shortened_are_those_of_apps_too() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let [hours, days] = [chrono::TimeDelta::hours(2), chrono::TimeDelta::days(5)];
    for (age, shorter) in [(hours, json!({"absoluteHours": 1})), (days, json!({"idleMinutes": 30}))] {
        let acme = home.tenant("acme").await.at(app.url());
        let client = App::new(&acme, &SCOPES, json!({})).await;
        let old = client.tokens(&acme.user(), "contacts:read").await;
        app.clock().advance(age);
        let admin = acme.another_login().await;
        let young = client.tokens(&admin, "contacts:read").await;
        assert!(client.is_active(&old.refresh).await, "a longer life is not over");
        admin.patch("/api/v1/security-policy", json!({"session": shorter})).await.expect(200);
        assert!(!client.is_active(&old.refresh).await && client.is_active(&young.refresh).await);
        refused(&client.refresh(&old.refresh).await, 400, "invalid_grant");
        let next = client.refresh(&young.refresh).await.expect(200);
        assert!(next.body["expires_in"].as_i64().is_some_and(|life| life > 0), "{next:?}");
    }
}

#[actix_web::test]
async fn a_token_that_is_revoked_is_good_nowhere_in_two_seconds() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let (client, other) = (App::new(&acme, &SCOPES, json!({})).await, App::new(&acme, &SCOPES, json!({})).await);
    let elsewhere = TestApp::builder().beside(home).start().await;
    let person = acme.user();
    for by_refresh in [true, false] {
        let tokens = client.tokens(&person, "contacts:read").await;
        let here = client.bearing(&tokens.access);
        let there = here.at(elsewhere.url());
        for one in [&here, &there] {
            one.get("/api/v1/contacts").await.expect(200);
        }
        let token = if by_refresh { &tokens.refresh } else { &tokens.access };
        // Another client is told the same, and ends nothing.
        other.ask("revoke", &[("token", token)]).await.expect(200);
        here.get("/api/v1/contacts").await.expect(200);
        client.ask("revoke", &[("token", token)]).await.expect(200);
        client.ask("revoke", &[("token", token)]).await.expect(200);
        here.get("/api/v1/contacts").await.refused(401, "token_revoked");
        refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
        eventually(seconds(2), "the other node knows", async || {
            there.get("/api/v1/contacts").await.code() == "token_revoked"
        })
        .await;
    }
    client.ask("revoke", &[("token", "nothing")]).await.expect(200);
    refused(&client.ask("revoke", &[]).await, 400, "invalid_request");
}

#[actix_web::test]
async fn a_client_is_told_of_its_own_tokens_alone() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (client, other) = (App::new(&acme, &SCOPES, json!({})).await, App::new(&acme, &SCOPES, json!({})).await);
    let elsewhere = App::new(&globex, &SCOPES, json!({})).await;
    let tokens = client.tokens(&acme.user(), "contacts:read").await;
    let own = Tokens::of(&client.ask("token", &[("grant_type", "client_credentials")]).await.expect(200));
    let said = client.ask("introspect", &[("token", &tokens.access)]).await.expect(200);
    assert_eq!(said.header("cache-control"), Some("no-store"));
    assert_eq!(
        (&said.body["active"], &said.body["scope"], &said.body["client_id"], &said.body["sub"]),
        (&json!(true), &json!("contacts:read"), &json!(client.id), &json!(acme.user().user_id().await))
    );
    assert!(client.is_active(&tokens.refresh).await && client.is_active(&own.access).await);
    let nothing = json!({"active": false});
    for token in [&*tokens.access, &*tokens.refresh, &*own.access, "nothing", &*acme.user().token().await] {
        for stranger in [&other, &elsewhere] {
            assert_eq!(stranger.ask("introspect", &[("token", token)]).await.expect(200).body, nothing);
        }
    }
    elsewhere.ask("revoke", &[("token", &tokens.refresh)]).await.expect(200);
    refused(&elsewhere.refresh(&tokens.refresh).await, 400, "invalid_grant");
    refused(&other.refresh(&tokens.refresh).await, 400, "invalid_grant");
    assert!(client.is_active(&tokens.refresh).await);
    // Not even a person's own token is an app's business.
    let session = acme.user().token().await;
    assert_eq!(client.ask("introspect", &[("token", &session)]).await.expect(200).body, nothing);
    refused(&client.ask_at(&globex, "introspect", &[("token", &tokens.access)]).await, 401, "invalid_client");
    let open = App::new(&acme, &SCOPES, json!({"confidential": false, "grants": ["authorization_code"]})).await;
    refused(&open.ask("introspect", &[("token", &tokens.access)]).await, 401, "invalid_client");
    let rotated = client.refresh(&tokens.refresh).await.expect(200);
    assert!(!client.is_active(&tokens.refresh).await && client.is_active(&Tokens::of(&rotated).refresh).await);
}

#[actix_web::test]
async fn an_app_in_its_own_name_does_what_its_owner_may() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &SCOPES, json!({})).await;
    let given =
        client.ask("token", &[("grant_type", "client_credentials"), ("scope", "contacts:read")]).await.expect(200);
    assert_eq!((&given.body["scope"], given.body.get("refresh_token")), (&json!("contacts:read"), None));
    let token = Tokens::of(&given).access;
    let (head, claims) = (part(&token, 0), part(&token, 1));
    assert_eq!(head["typ"], "at+jwt");
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(client.id), &json!(client.id)));
    let program = client.bearing(&token);
    program.get("/api/v1/contacts").await.expect(200);
    program.post("/api/v1/contacts", json!({"lastName": "X"})).await.refused(403, "permission_denied");
    refused(
        &client.ask("token", &[("grant_type", "client_credentials"), ("scope", "openid")]).await,
        400,
        "invalid_scope",
    );
    refused(
        &client.ask("token", &[("grant_type", "client_credentials"), ("scope", "users:write")]).await,
        400,
        "invalid_scope",
    );
    let without = App::new(&acme, &SCOPES, json!({"grants": ["authorization_code"]})).await;
    refused(&without.ask("token", &[("grant_type", "client_credentials")]).await, 400, "unauthorized_client");
    let info = client.bearing(&token).get(&format!("/t/{}/oauth/userinfo", acme.slug)).await;
    refused(&info, 403, "insufficient_scope");
}

#[actix_web::test]
async fn what_was_taken_from_an_app_is_told_to_no_token_of_its() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let client = App::new(&acme, &["openid", "profile", "email"], json!({})).await;
    let token = client.tokens(&acme.user(), "openid profile email").await.access;
    let told = async || client.bearing(&token).get(&format!("/t/{}/oauth/userinfo", acme.slug)).await;
    let all = told().await.expect(200).body;
    assert!(all["email"].is_string() && all["name"].is_string(), "{all}");
    let path = format!("/api/v1/oauth/clients/{}", client.id);
    acme.admin().patch(&path, json!({"scopes": ["openid", "profile"]})).await.expect(200);
    let less = told().await.expect(200).body;
    assert!(less["email"].is_null() && less["email_verified"].is_null() && less["name"].is_string(), "{less}");
    acme.admin().patch(&path, json!({"scopes": ["profile"]})).await.expect(200);
    refused(&told().await, 403, "insufficient_scope");
}
