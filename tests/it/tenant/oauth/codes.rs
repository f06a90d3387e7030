//! Asking, and exchanging codes: what is bound to what.

use futures_util::future::join_all;
use serde_json::json;
use tenantry::testing::{Tenant, TestApp};

use crate::support::oauth::{App, REDIRECT, Tokens, VERIFIER, challenge, exchange, parameters, refused, send};
use crate::support::{db, unique};

async fn client(tenant: &Tenant) -> App {
    App::new(tenant, &["openid", "contacts:read"], json!({})).await
}

#[actix_web::test]
async fn nobody_is_sent_where_the_app_is_not() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let own_machine =
        json!({"redirectUris": ["http://127.0.0.1/cb"], "confidential": false, "grants": ["authorization_code"]});
    let native = App::new(&acme, &[], own_machine).await;
    for uri in [
        "https://app.example.com/callback/",
        "https://app.example.com/callback/more",
        "https://app.example.com/",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "https://app.example.com/callback?a=b",
        "https://app.example.com/callback#x",
        "https://app.example.com:443/callback",
        "https://app.example.com.evil.example/callback",
        "https://app.example.com@evil.example/callback",
        "http://app.example.com/callback",
        "//app.example.com/callback",
        "javascript:alert(1)",
        "",
    ] {
        let answer = client.authorize(&[("redirect_uri", uri)]).await;
        refused(&answer, 400, "invalid_request");
        assert_eq!(answer.header("location"), None, "{uri}");
    }
    native.authorize(&[("redirect_uri", "http://127.0.0.1:51234/cb")]).await.expect(303);
    refused(&native.authorize(&[("redirect_uri", "http://127.0.0.1:51234/cb2")]).await, 400, "invalid_request");
    // An unknown app, a closed one, another tenant's, and no tenant: alike.
    let globex = app.tenant("globex").await;
    let closed = self::client(&acme).await;
    acme.admin().patch(&format!("/api/v1/oauth/clients/{}", closed.id), json!({"enabled": false})).await.expect(200);
    let unknown = App { id: "01890000-0000-7000-8000-000000000000".into(), ..client.clone() };
    let elsewhere = App { tenant: globex, ..client.clone() };
    let mut told = Vec::new();
    for one in [&unknown, &closed, &elsewhere] {
        let answer = one.authorize(&[]).await;
        refused(&answer, 400, "invalid_request");
        told.push(answer.body);
    }
    let nowhere = acme.anonymous().get(&format!("/t/nobody/oauth/authorize?client_id={}", client.id)).await;
    refused(&nowhere, 400, "invalid_request");
    assert!(told.iter().all(|body| *body == nowhere.body), "{told:?}");
    // A parameter that is there twice is nobody's.
    let twice = format!("/t/{}/oauth/authorize?client_id={}&client_id=x", acme.slug, client.id);
    refused(&acme.anonymous().get(&twice).await, 400, "invalid_request");
}

#[actix_web::test]
async fn what_is_wrong_is_told_the_app_by_redirect_with_the_issuer() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let own = App::new(&acme, &[], json!({"grants": ["authorization_code"], "scopes": []})).await;
    let issuer = app.router().issuer(&acme.slug);
    for (over, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", "code id_token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("response_mode", "fragment"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge", VERIFIER), "invalid_request"),
        (("scope", "contacts:write"), "invalid_scope"),
        (("scope", "contacts:read no:such"), "invalid_scope"),
        (("request", "eyJ"), "request_not_supported"),
        (("request_uri", "https://evil.example/"), "request_uri_not_supported"),
        (("prompt", "none"), "interaction_required"),
        (("prompt", "none login"), "invalid_request"),
        (("prompt", "create"), "invalid_request"),
        (("max_age", "-1"), "invalid_request"),
        (("max_age", "soon"), "invalid_request"),
    ] {
        let answer = client.authorize(&[over]).await.expect(303);
        let to = answer.header("location").expect("an address");
        assert!(to.starts_with(REDIRECT), "{to}");
        let told = parameters(to);
        assert_eq!((&*told["error"], &*told["state"], &*told["iss"]), (error, "a state", &*issuer), "{over:?}");
        assert!(!told.contains_key("code"));
    }
    // What means nothing here is ignored.
    client.request(&[("ui_locales", "de"), ("display", "page")]).await;
    own.request(&[]).await;
}

#[actix_web::test]
async fn a_request_is_answered_once_by_a_person_of_this_tenant() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let client = client(&acme).await;
    let request = client.request(&[("scope", "openid contacts:read")]).await;
    let path = format!("/api/v1/oauth/requests/{request}");
    let shown = acme.user().get(&path).await.expect(200);
    assert_eq!(
        (&shown.data()["scopes"], &shown.data()["redirectUri"], &shown.data()["consented"]),
        (&json!(["openid", "contacts:read"]), &json!(REDIRECT), &json!(false))
    );
    assert_eq!(shown.data()["client"]["id"], client.id);
    globex.admin().get(&path).await.refused(404, "not_found");
    globex.admin().post(&format!("{path}/accept"), json!({})).await.refused(404, "not_found");
    acme.anonymous().get(&path).await.refused(401, "unauthenticated");
    let beyond = acme.user().post(&format!("{path}/accept"), json!({"scopes": ["contacts:write"]})).await;
    assert_eq!(beyond.invalid(), [("scopes[0]".to_owned(), "not_asked".to_owned())]);
    let kept = db::word(acme.database(), "SELECT string_agg(q::text, ' ') AS word FROM oauth_requests q").await;
    assert!(!kept.contains(&request), "{kept}");
    // A person may agree to less.
    let person = acme.user();
    let accept = format!("{path}/accept");
    let answers = join_all((0..20).map(|_| person.post(&accept, json!({"scopes": ["openid"]})))).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(good.len(), 1);
    bad.into_iter().for_each(|answer| drop(answer.refused(404, "not_found")));
    let back = parameters(good[0].data()["redirectTo"].as_str().unwrap());
    assert_eq!((&*back["state"], &*back["iss"]), ("a state", &*app.router().issuer(&acme.slug)));
    let tokens = client.exchange(&back["code"]).await.expect(200);
    assert_eq!(tokens.body["scope"], "openid");
    // Who somebody is, is no key to anything.
    let id_token = tokens.body["id_token"].as_str().expect("an ID token");
    client.bearing(id_token).get("/api/v1/contacts").await.refused(401, "token_invalid");
    // Or to nothing.
    let request = client.request(&[]).await;
    let path = format!("/api/v1/oauth/requests/{request}");
    let once = acme.user().with("idempotency-key", "deny");
    let denied = once.post(&format!("{path}/deny"), json!({})).await.expect(200);
    let again = once.post(&format!("{path}/deny"), json!({})).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), denied.data()));
    let back = parameters(denied.data()["redirectTo"].as_str().unwrap());
    assert_eq!((&*back["error"], back.get("code")), ("access_denied", None));
    acme.user().post(&format!("{path}/accept"), json!({})).await.refused(404, "not_found");
}

#[actix_web::test]
async fn requests_and_codes_are_good_for_a_short_while() {
    let app = TestApp::builder().beside(TestApp::shared().await).start().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let person = acme.user();
    let request = client.request(&[]).await;
    let code = client.code(&person, &[]).await;
    app.clock().advance(chrono::TimeDelta::seconds(61));
    refused(&client.exchange(&code).await, 400, "invalid_grant");
    app.clock().advance(chrono::TimeDelta::minutes(10));
    person.get(&format!("/api/v1/oauth/requests/{request}")).await.refused(404, "not_found");
}

#[actix_web::test]
async fn a_code_is_its_own_client_s_with_its_own_address_and_verifier() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (client, other) = (client(&acme).await, self::client(&acme).await);
    let elsewhere = self::client(&globex).await;
    let person = acme.user();
    let code = client.code(&person, &[]).await;
    // Others cannot have it, nor spend it.
    refused(&other.exchange(&code).await, 400, "invalid_grant");
    refused(&elsewhere.exchange(&code).await, 400, "invalid_grant");
    refused(&client.ask_at(&globex, "token", &exchange(&code)).await, 401, "invalid_client");
    let answer = client.exchange(&code).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body.get("success").is_none() && answer.body["token_type"] == "Bearer", "{answer:?}");
    // Who has it without what it was asked for with has stolen it: it is spent.
    for (name, wrong) in [
        ("redirect_uri", "https://app.example.com/callback/"),
        ("code_verifier", "another-verifier-of-more-than-forty-three-characters"),
        ("code_verifier", &VERIFIER[..42]),
    ] {
        let code = client.code(&person, &[]).await;
        let mut parameters = exchange(&code);
        parameters.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, value)| *value = wrong);
        refused(&client.ask("token", &parameters).await, 400, "invalid_grant");
        refused(&client.exchange(&code).await, 400, "invalid_grant");
    }
    for missing in ["redirect_uri", "code_verifier", "code", "grant_type"] {
        let code = client.code(&person, &[]).await;
        let parameters: Vec<_> = exchange(&code).into_iter().filter(|(name, _)| *name != missing).collect();
        refused(&client.ask("token", &parameters).await, 400, "invalid_request");
        client.exchange(&code).await.expect(200);
    }
    refused(&client.exchange(&unique("toc_")).await, 400, "invalid_grant");
    refused(&client.ask("token", &[("grant_type", "password")]).await, 400, "unsupported_grant_type");
    let json = acme.anonymous().post(&format!("/t/{}/oauth/token", acme.slug), json!({"grant_type": "x"})).await;
    refused(&json, 400, "invalid_request");
}

#[actix_web::test]
async fn an_app_may_ask_by_a_form_as_by_an_address() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let challenge = challenge(VERIFIER);
    let mut asked = vec![
        ("response_type", "code"),
        ("client_id", &*client.id),
        ("redirect_uri", REDIRECT),
        ("scope", "openid"),
        ("state", "a state"),
        ("code_challenge", &*challenge),
        ("code_challenge_method", "S256"),
    ];
    // As a browser sends it from a page of the app's.
    let browser = acme.anonymous().with("origin", "https://app.example.com").with("sec-fetch-site", "cross-site");
    let sent = send(&browser, &acme, "authorize", &asked).await.expect(303);
    let request = parameters(sent.header("location").expect("an address"))["request"].clone();
    let path = format!("/api/v1/oauth/requests/{request}/accept");
    let accepted = acme.user().post(&path, json!({})).await.expect(200);
    let code = parameters(accepted.data()["redirectTo"].as_str().unwrap())["code"].clone();
    let token = Tokens::of(&client.exchange(&code).await.expect(200)).access;
    // And is told in both ways of whom the token is.
    let bearer = client.bearing(&token);
    let told = bearer.get(&format!("/t/{}/oauth/userinfo", acme.slug)).await.expect(200);
    assert_eq!(send(&bearer, &acme, "userinfo", &[]).await.expect(200).body, told.body);
    refused(&send(&acme.anonymous(), &acme, "userinfo", &[]).await, 401, "invalid_token");
    // What is wrong is wrong in both.
    let elsewhere = [("client_id", &*client.id), ("redirect_uri", "https://evil.example/")];
    refused(&send(&acme.anonymous(), &acme, "authorize", &elsewhere).await, 400, "invalid_request");
    asked.push(("prompt", "none"));
    let back = send(&acme.anonymous(), &acme, "authorize", &asked).await.expect(303);
    assert_eq!(parameters(back.header("location").unwrap())["error"], "interaction_required");
    let json = acme.anonymous().post(&format!("/t/{}/oauth/authorize", acme.slug), json!({})).await;
    refused(&json, 400, "invalid_request");
}

#[actix_web::test]
async fn an_address_that_was_taken_from_an_app_gets_no_more_codes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let person = acme.user();
    let (request, code) = (client.request(&[]).await, client.code(&person, &[]).await);
    let change = async |change: serde_json::Value| {
        acme.admin().patch(&format!("/api/v1/oauth/clients/{}", client.id), change).await.expect(200);
    };
    change(json!({"redirectUris": ["https://app.example.com/elsewhere"]})).await;
    let path = format!("/api/v1/oauth/requests/{request}");
    person.get(&path).await.refused(404, "not_found");
    person.post(&format!("{path}/accept"), json!({})).await.refused(404, "not_found");
    refused(&client.exchange(&code).await, 400, "invalid_grant");
    // Nor does one that comes by tokens in its own name alone by now. What was refused was not answered.
    change(json!({"grants": ["client_credentials"], "redirectUris": []})).await;
    person.post(&format!("{path}/accept"), json!({})).await.refused(404, "not_found");
    change(json!({"grants": ["authorization_code"], "redirectUris": [REDIRECT]})).await;
    person.post(&format!("{path}/accept"), json!({})).await.expect(200);
}

#[actix_web::test]
async fn of_a_hundred_exchanges_of_one_code_one_succeeds() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let code = client.code(&acme.user(), &[]).await;
    let answers = join_all((0..100).map(|_| client.exchange(&code))).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(good.len(), 1);
    bad.iter().for_each(|answer| refused(answer, 400, "invalid_grant"));
    // Somebody had a copy: what the one got is good no more.
    let tokens = Tokens::of(&good[0]);
    client.bearing(&tokens.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
    refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
}

#[actix_web::test]
async fn a_code_that_comes_twice_ends_what_it_was_exchanged_for() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let client = client(&acme).await;
    let person = acme.user();
    let code = client.code(&person, &[]).await;
    let tokens = Tokens::of(&client.exchange(&code).await.expect(200));
    client.bearing(&tokens.access).get("/api/v1/contacts").await.expect(200);
    refused(&client.exchange(&code).await, 400, "invalid_grant");
    client.bearing(&tokens.access).get("/api/v1/contacts").await.refused(401, "token_revoked");
    refused(&client.refresh(&tokens.refresh).await, 400, "invalid_grant");
    assert!(!client.is_active(&tokens.access).await && !client.is_active(&tokens.refresh).await);
    let noted = format!(
        "SELECT string_agg(action, ' ') AS word FROM audit WHERE action = 'oauth.code_replayed' AND reason LIKE '%{}%'",
        client.id
    );
    assert_eq!(db::word(acme.database(), &noted).await, "oauth.code_replayed");
    let other = client.tokens(&person, "contacts:read").await;
    client.bearing(&other.access).get("/api/v1/contacts").await.expect(200);
    // Nobody without the client's secret exchanges anything.
    let code = client.code(&person, &[]).await;
    let mut parameters = exchange(&code).to_vec();
    parameters.push(("client_id", &client.id));
    let bare = send(&acme.anonymous(), &acme, "token", &parameters).await;
    refused(&bare, 401, "invalid_client");
}
