//! A session in cookies: as an HTTP client sees it, and in a real browser.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::{authenticator, peers};

const ACCESS: &str = "__Host-tenantry-access";
const REFRESH: &str = "__Host-tenantry-refresh";
const DEVICE: &str = "__Host-tenantry-device";

/// The cookies that an answer sets, with their attributes.
fn set(answer: &Answer) -> BTreeMap<String, (String, Vec<String>)> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("text"));
    let read = |line: &str| {
        let mut parts = line.split("; ").map(str::to_owned);
        let (name, value) =
            parts.next().and_then(|pair| pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())))?;
        Some((name, (value, parts.collect())))
    };
    lines.map(|line| read(line).expect("a cookie")).collect()
}

/// A browser's page of ours that bears these cookies.
fn page(app: &Persona, cookies: &BTreeMap<String, (String, Vec<String>)>) -> Persona {
    let cookies: Vec<_> = cookies.iter().map(|(name, (value, _))| format!("{name}={value}")).collect();
    app.with("cookie", &cookies.join("; "))
}

fn login(tenant: &Tenant) -> Value {
    json!({"tenant": tenant.slug.as_str(), "email": tenant.email(), "password": tenant.password()})
}

#[actix_web::test]
async fn who_asks_for_cookies_gets_no_tokens_and_the_others_get_no_cookies() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let nobody = acme.anonymous();
    let plain = nobody.post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert!(set(&plain).is_empty() && plain.data()["accessToken"].is_string(), "{plain:?}");
    let other = nobody.with("x-session-mode", "token").post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert!(set(&other).is_empty(), "{other:?}");

    let browser = nobody.with("x-session-mode", "cookie");
    let signed_in = browser.post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert!(signed_in.data().get("accessToken").is_none() && signed_in.data().get("refreshToken").is_none());
    assert_eq!(signed_in.data()["tokenType"], "Cookie");
    assert_eq!(signed_in.data()["user"]["email"], acme.email());
    let cookies = set(&signed_in);
    assert_eq!(cookies.keys().collect::<Vec<_>>(), [ACCESS, REFRESH]);
    for (name, (value, attributes)) in &cookies {
        for needed in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(attributes.iter().any(|a| a == needed), "{name}: {attributes:?}");
        }
        assert!(!attributes.iter().any(|a| a.starts_with("Domain")), "{name}: {attributes:?}");
        assert!(!signed_in.text.contains(value), "{name} is in the body");
    }
    assert!(cookies[ACCESS].1.contains(&"Max-Age=900".to_owned()), "{cookies:?}");
    // However the path is spelled.
    let spelled = browser.post("/%61pi/v1/%61uth/login", login(&acme)).await.expect(200);
    assert!(spelled.data().get("accessToken").is_none() && set(&spelled).len() == 2, "{spelled:?}");
    let evil = browser.with("origin", "https://evil.example");
    evil.post("/%61pi/v1/%61uth/login", login(&acme)).await.refused(403, "csrf_refused");
    // Reading needs the cookie alone, changing the header too.
    let reading = page(&nobody, &cookies);
    reading.get("/api/v1/users/me").await.expect(200);
    let contact = json!({"lastName": "Lovelace"});
    reading.post("/api/v1/contacts", contact.clone()).await.refused(403, "csrf_refused");
    let ours = page(&browser, &cookies);
    let id = ours.post("/api/v1/contacts", contact).await.expect(201).id();
    ours.patch(&format!("/api/v1/contacts/{id}"), json!({"title": "Countess"})).await.expect(200);
    // A token of one's own counts, whatever cookies come with it.
    let bearer = plain.data()["accessToken"].as_str().unwrap();
    reading.bearing(bearer).delete(&format!("/api/v1/contacts/{id}")).await.expect(204);
    reading.bearing("x").get("/api/v1/users/me").await.refused(401, "token_invalid");
    // The routes of operators know nothing of it.
    ours.get("/api/v1/admin/tenants").await.refused(401, "unauthenticated");
}

#[actix_web::test]
async fn cookies_are_refreshed_by_cookie_and_cleared_at_the_end() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let nobody = acme.anonymous();
    let browser = nobody.with("x-session-mode", "cookie");
    let first = set(&browser.post("/api/v1/auth/login", login(&acme)).await.expect(200));
    let refreshed = page(&browser, &first).post("/api/v1/auth/refresh", json!({})).await.expect(200);
    let second = set(&refreshed);
    assert!(second[ACCESS].0 != first[ACCESS].0 && second[REFRESH].0 != first[REFRESH].0);
    assert!(refreshed.data().get("refreshToken").is_none(), "{refreshed:?}");
    // By the cookie only from a page of ours; without a cookie, with the token in the body.
    page(&nobody, &second).post("/api/v1/auth/refresh", json!({})).await.refused(422, "validation_failed");
    browser.post("/api/v1/auth/refresh", json!({})).await.refused(422, "validation_failed");
    let third =
        set(&browser.post("/api/v1/auth/refresh", json!({"refreshToken": second[REFRESH].0})).await.expect(200));
    let ours = page(&browser, &third);
    // Proof of who one is gives another access token: in its cookie.
    let proven = ours.post("/api/v1/auth/step-up", json!({"password": acme.password()})).await.expect(200);
    assert_eq!(set(&proven).keys().collect::<Vec<_>>(), [ACCESS]);
    assert!(proven.data().get("accessToken").is_none(), "{proven:?}");
    let out = ours.post("/api/v1/auth/logout", json!({})).await.expect(204);
    for (name, (value, attributes)) in set(&out) {
        assert!(value.is_empty() && attributes.contains(&"Max-Age=0".to_owned()), "{name}: {attributes:?}");
    }
    assert_eq!(set(&out).len(), 2);
    ours.get("/api/v1/users/me").await.refused(401, "token_revoked");
    let dead = ours.post("/api/v1/auth/refresh", json!({})).await.refused(401, "token_revoked");
    assert_eq!(set(&dead).len(), 2, "what is dead is cleared: {dead:?}");
}

/// A trusted device is one by its cookie: no script reads the token, and the next login needs no code.
#[actix_web::test]
async fn a_trusted_device_is_known_by_its_cookie() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let enrolled = admin.post("/api/v1/auth/mfa/totp", json!({})).await.expect(200);
    let seed = enrolled.data()["secret"].as_str().unwrap().to_owned();
    let code = json!({"code": authenticator::code(app, &seed)});
    let codes = admin.post("/api/v1/auth/mfa/totp/confirm", code).await.expect(200);
    let browser = acme.anonymous().with("x-session-mode", "cookie");
    let asked = browser.post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert!(set(&asked).is_empty(), "{asked:?}");
    let second = json!({
        "mfaToken": asked.data()["mfaToken"], "code": codes.data()["recoveryCodes"][0], "trustDevice": true,
    });
    let entered = browser.post("/api/v1/auth/mfa", second).await.expect(200);
    assert!(entered.data().get("deviceToken").is_none() && !entered.text.contains("tdv_"), "{entered:?}");
    let cookies = set(&entered);
    assert_eq!(cookies.keys().collect::<Vec<_>>(), [ACCESS, DEVICE, REFRESH]);
    for needed in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(cookies[DEVICE].1.iter().any(|attribute| attribute == needed), "{cookies:?}");
    }
    // The end of the session is not the end of the trust.
    let out = page(&browser, &cookies).post("/api/v1/auth/logout", json!({})).await.expect(204);
    assert_eq!(set(&out).keys().collect::<Vec<_>>(), [ACCESS, REFRESH]);
    let device = [(DEVICE.to_owned(), cookies[DEVICE].clone())].into();
    let again = page(&browser, &device).post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert!(again.data().get("mfaRequired").is_none() && set(&again).contains_key(ACCESS), "{again:?}");
    // Without the header cookies say nothing, and without the cookie the code is asked for.
    let plain = page(&acme.anonymous(), &device).post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert_eq!(plain.data()["mfaRequired"], true, "{plain:?}");
    let asked = browser.post("/api/v1/auth/login", login(&acme)).await.expect(200);
    assert_eq!(asked.data()["mfaRequired"], true, "{asked:?}");
}

/// Every call that changes something, and what another origin can make a browser send along.
#[actix_web::test]
async fn whatever_changes_something_is_refused_to_other_origins() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let nobody = acme.anonymous();
    let browser = nobody.with("x-session-mode", "cookie");
    let cookies = set(&browser.post("/api/v1/auth/login", login(&acme)).await.expect(200));
    let openapi = crate::support::openapi::OpenApi::of(app).await;
    let mut tried = 0;
    for operation in openapi.operations() {
        let open = crate::support::matrix::OPEN.contains(&operation.name().as_str());
        if operation.method == Method::GET || operation.is_admin() || open {
            continue;
        }
        let path = crate::support::matrix::fill_with_nothing(&operation);
        let ask = async |who: &Persona| {
            let body = Some(("application/json", "{}".to_owned()));
            who.send(operation.method.clone(), &path, body).await.refused(403, "csrf_refused");
        };
        // A form, or a request that needs no leave.
        ask(&page(&nobody, &cookies)).await;
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            ask(&page(&browser, &cookies).with(name, value)).await;
        }
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
    // Nobody is signed in as somebody else unawares.
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let refused = browser.with(name, value).post("/api/v1/auth/login", login(&acme)).await;
        assert!(set(&refused.refused(403, "csrf_refused")).is_empty());
        let plain = nobody.with(name, value).post("/api/v1/auth/login", login(&acme)).await.expect(200);
        assert!(set(&plain).is_empty());
    }
    let form = Some(("application/x-www-form-urlencoded", "email=x".to_owned()));
    browser.send(Method::POST, "/api/v1/auth/login", form).await.expect(415);
    // Still signed in: nothing of it had an effect.
    page(&nobody, &cookies).get("/api/v1/users/me").await.expect(200);
}

#[actix_web::test]
async fn a_browser_keeps_the_session_and_keeps_others_out() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let script = include_str!("../../peers/browser.mjs");
    let seen = peers::drive("browser.mjs", script, app.url(), &login(&acme)).await;
    assert_eq!(seen["login"], json!({"status": 200, "tokenType": "Cookie", "tokens": false}), "{seen}");
    assert_eq!(seen["scriptsSee"], "", "{seen}");
    let jar = seen["jar"].as_array().expect("cookies");
    assert_eq!(jar.len(), 2, "{seen}");
    let closed =
        |cookie: &Value| cookie["httpOnly"] == true && cookie["secure"] == true && cookie["sameSite"] == "Strict";
    assert!(jar.iter().all(closed), "{seen}");
    assert_eq!(
        (&seen["me"], &seen["made"], &seen["refresh"], &seen["after"]),
        (&json!(200), &json!(201), &json!(200), &json!(200))
    );
    assert_eq!(seen["refreshed"], true, "{seen}");
    // The other origin is of the same site: its requests bear the cookies, and are refused all the same.
    for attack in ["form", "fetch", "header", "loginForm"] {
        let heard = &seen["attacks"][attack];
        assert!(
            heard.as_array().is_some_and(|statuses| statuses.iter().all(|s| s != 200 && s != 201)),
            "{attack}: {seen}"
        );
    }
    assert_eq!(seen["attacks"]["form"], json!([403]), "{seen}");
    assert_eq!(seen["attacks"]["fetch"], json!([403]), "{seen}");
    assert_eq!(seen["bore"], true, "the attack bore the cookies: {seen}");
    assert_eq!((&seen["contacts"], &seen["logout"], &seen["left"]), (&json!(1), &json!(204), &json!(0)), "{seen}");
}

#[actix_web::test]
async fn a_passkey_opens_the_door_in_a_browser_on_our_own_page_alone() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).named().start().await;
    let acme = home.tenant("acme").await;
    let url = app.url().replace("127.0.0.1", "localhost");
    let seen = peers::drive("passkeys.mjs", include_str!("../../peers/passkeys.mjs"), &url, &login(&acme)).await;
    assert_eq!((&seen["added"], &seen["out"]["status"]), (&json!(201), &json!(401)), "{seen}");
    assert_eq!(seen["login"], json!({"status": 200, "tokenType": "Cookie"}), "{seen}");
    let me = json!({"status": 200, "email": acme.email()});
    assert_eq!((&seen["me"], &seen["policy"]), (&me, &json!(200)), "{seen}");
    // The browser asks for what it takes to unlock the device, and so does the server.
    assert_eq!(seen["locked"], json!({"refused": "NotAllowedError"}), "{seen}");
    assert_eq!(seen["lowered"]["status"], 401, "{seen}");
    // No other site gets an answer; one from another port of the same name is worth nothing.
    assert_eq!(seen["evil"], json!({"refused": "SecurityError"}), "{seen}");
    assert_eq!(seen["elsewhere"], json!({"given": true, "status": 401}), "{seen}");
    assert_eq!(seen["still"]["status"], 401, "{seen}");
    assert_eq!(seen["second"], json!({"methods": ["webauthn"], "status": 200, "me": me}), "{seen}");
}
