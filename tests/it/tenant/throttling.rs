//! Guessing from one address, over many accounts, and from many addresses: slowed, never a way to lock somebody out.

use std::pin::pin;

use chrono::TimeDelta;
use futures_util::future::{Either, select};
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::siteverify::SiteVerify;
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

/// A node behind a proxy that says from where its clients come.
async fn node(home: &TestApp, more: &[(&str, &str)]) -> TestApp {
    let app = TestApp::builder()
        .beside(home)
        .set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .set("TENANTRY_OUTBOUND__ALLOW", "127.0.0.0/8");
    more.iter().fold(app, |app, (name, value)| app.set(name, value)).start().await
}

fn from(app: &TestApp, ip: &str) -> Persona {
    app.anonymous().with("x-forwarded-for", ip)
}

async fn login(who: &Persona, tenant: &str, email: &str, password: &str) -> Answer {
    who.post("/api/v1/auth/login", json!({"tenant": tenant, "email": email, "password": password})).await
}

async fn person(tenant: &Tenant) -> String {
    let email = format!("{}@example.com", unique("p"));
    let body = json!({"email": email, "firstName": "A", "lastName": "B", "password": PASSWORD});
    tenant.admin().post("/api/v1/users", body).await.expect(201);
    email
}

#[actix_web::test]
async fn strangers_elsewhere_lock_nobody_out_where_they_are_known() {
    let home = TestApp::shared().await;
    let app = node(home, &[]).await;
    let acme = home.tenant("acme").await;
    let slug = acme.slug.as_str();
    let (ada, nobody) = (person(&acme).await, format!("{}@example.com", unique("n")));
    let office = from(&app, "203.0.113.7");
    login(&office, slug, &ada, PASSWORD).await.expect(200);
    for round in 0..3 {
        let stranger = from(&app, &format!("198.51.100.{round}"));
        for email in [&ada, &nobody] {
            for _ in 0..5 {
                login(&stranger, slug, email, "wrong").await.refused(401, "invalid_credentials");
            }
            // Not from there, and not from anywhere else that she is not known at.
            login(&stranger, slug, email, PASSWORD).await.refused(429, "too_many_attempts");
            login(&from(&app, "192.0.2.99"), slug, email, PASSWORD).await.refused(429, "too_many_attempts");
        }
        login(&office, slug, &ada, PASSWORD).await.expect(200);
        app.clock().advance(TimeDelta::minutes(16));
    }
    // Where she is known, guessing has its own limit.
    for _ in 0..5 {
        login(&office, slug, &ada, "wrong").await.refused(401, "invalid_credentials");
    }
    login(&office, slug, &ada, PASSWORD).await.refused(429, "too_many_attempts");
    login(&from(&app, "192.0.2.99"), slug, &ada, PASSWORD).await.expect(200);
}

#[actix_web::test]
async fn an_address_that_fails_over_many_accounts_waits_longer_each_time() {
    let home = TestApp::shared().await;
    let app = node(home, &[("TENANTRY_AUTH__ADDRESS_FAILURES", "8")]).await;
    let acme = home.tenant("acme").await;
    let ada = person(&acme).await;
    let nowhere = unique("t");
    let mut told: Vec<Vec<Value>> = Vec::new();
    for (at, slug) in [acme.slug.as_str(), &nowhere].into_iter().enumerate() {
        // One customer's IPv6 network is one address.
        let spray = |n: usize| from(&app, &format!("2001:db8:{at}:1::{n}"));
        for n in 0..8 {
            let email = if n == 3 { ada.clone() } else { format!("{n}@example.com") };
            login(&spray(n), slug, &email, "wrong").await.refused(401, "invalid_credentials");
        }
        let mut answers = Vec::new();
        let waits = async |email: &str| {
            let answer = login(&spray(99), slug, email, PASSWORD).await.refused(429, "too_many_attempts");
            let wait = answer.header("retry-after").and_then(|text| text.parse::<i64>().ok()).expect("seconds");
            (answer.without_request_id(), wait)
        };
        let (answer, first) = waits(&ada).await;
        answers.push(answer);
        assert!(first <= 1, "{first}");
        login(&from(&app, "2001:db8:ffff::1"), slug, "else@example.com", "w").await.refused(401, "invalid_credentials");
        app.clock().advance(TimeDelta::seconds(2));
        login(&spray(7), slug, "eve@example.com", "wrong").await.refused(401, "invalid_credentials");
        let (answer, second) = waits("eve@example.com").await;
        answers.push(answer);
        assert!((1..=2).contains(&second), "{second}");
        for _ in 0..3 {
            app.clock().advance(TimeDelta::seconds(64));
            login(&spray(7), slug, &format!("{}@example.com", unique("e")), "w")
                .await
                .refused(401, "invalid_credentials");
        }
        told.push(answers);
    }
    assert_eq!(told[0], told[1], "a tenant that is none answers alike");
    app.clock().advance(TimeDelta::seconds(64));
    login(&from(&app, "2001:db8:0:1::5"), acme.slug.as_str(), &ada, PASSWORD).await.expect(200);
}

/// Whoever comes to the others is served five times meanwhile.
#[actix_web::test]
async fn in_a_tenant_that_is_attacked_every_try_is_held_back() {
    let home = TestApp::shared().await;
    let app = node(home, &[("TENANTRY_AUTH__TENANT_FAILURES", "2")]).await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    for n in 0..4 {
        let somewhere = from(&app, &format!("198.51.100.{n}"));
        let refused = login(&somewhere, acme.slug.as_str(), &format!("{n}@example.com"), "wrong").await;
        refused.refused(401, "invalid_credentials");
    }
    let office = from(&app, "203.0.113.7");
    let come_in = async |tenant: &Tenant| {
        login(&office, tenant.slug.as_str(), tenant.email(), tenant.password()).await.expect(200);
    };
    come_in(&globex).await;
    let overtaken = async || {
        let others = async {
            for _ in 0..3 {
                come_in(&globex).await;
            }
        };
        matches!(select(pin!(come_in(&acme)), pin!(others)).await, Either::Right(_))
    };
    eventually(seconds(20), "three logins elsewhere overtake one here", overtaken).await;
}

#[actix_web::test]
async fn a_forged_forwarded_address_is_no_address() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_AUTH__ADDRESS_FAILURES", "6").start().await;
    let acme = home.tenant("acme").await;
    let at = |n: usize| from(&app, &format!("198.51.100.{n}"));
    for n in 0..6 {
        login(&at(n), acme.slug.as_str(), &format!("{n}@example.com"), "wrong")
            .await
            .refused(401, "invalid_credentials");
    }
    login(&at(99), acme.slug.as_str(), "9@example.com", "wrong").await.refused(429, "too_many_attempts");
}

#[actix_web::test]
async fn the_history_says_what_was_tried_and_a_step_up_counts_with_it() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let email = person(&acme).await;
    let ada = acme.person(&email, PASSWORD);
    ada.signed_in().await;
    for _ in 0..4 {
        ada.post("/api/v1/auth/step-up", json!({"password": "wrong"})).await.refused(422, "validation_failed");
    }
    acme.log_in_as(&email, "wrong").await.refused(401, "invalid_credentials");
    acme.log_in_as(&email, PASSWORD).await.refused(429, "too_many_attempts");
    let refused = ada.post("/api/v1/auth/step-up", json!({"password": PASSWORD})).await;
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""login";q=5;w=900"#), "{refused:?}");
    refused.refused(429, "too_many_attempts");
    let history = ada.get("/api/v1/users/me/login-history").await.expect(200);
    let lines = history.data().as_array().unwrap().iter();
    let lines: Vec<_> = lines.map(|line| (line["kind"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect();
    let step_up = ("step_up", "failed");
    let expected = [("password", "failed"), step_up, step_up, step_up, step_up, ("password", "succeeded")];
    assert_eq!(lines, expected, "{history:?}");
}

#[actix_web::test]
async fn spraying_is_noted_once_and_then_asks_for_a_captcha() {
    let home = TestApp::shared().await;
    let (turnstile, hcaptcha) = (SiteVerify::start().await, SiteVerify::start().await);
    let urls = [("TENANTRY_AUTH__TURNSTILE_URL", turnstile.url()), ("TENANTRY_AUTH__HCAPTCHA_URL", hcaptcha.url())];
    let app = node(home, &[(urls[0].0, &urls[0].1), (urls[1].0, &urls[1].1)]).await;
    let acme = home.tenant("acme").await;
    let slug = acme.slug.as_str();
    let ada = person(&acme).await;
    let site = async || {
        let asked = app.anonymous().with("x-tenant-id", slug).get("/api/v1/auth/captcha").await.expect(200);
        asked.data().clone()
    };
    assert_eq!(site().await, json!({"provider": null, "siteKey": null}));
    let nowhere = app.anonymous().with("x-tenant-id", &unique("t")).get("/api/v1/auth/captcha").await.expect(200);
    assert_eq!(nowhere.data(), &site().await);
    let spray = from(&app, "198.51.100.1");
    for n in 0..12 {
        login(&spray, slug, &format!("{n}@example.com"), "wrong").await.refused(401, "invalid_credentials");
    }
    let noted = "SELECT count(*)::text AS word FROM audit WHERE action = 'login.spray'";
    assert_eq!(db::word(acme.database(), noted).await, "1");
    // Without a CAPTCHA there is none to solve.
    login(&spray, slug, &ada, "wrong").await.refused(401, "invalid_credentials");

    let policy = "/api/v1/security-policy";
    let captcha = |provider: &str| json!({"captcha": {"provider": provider, "siteKey": "site", "secret": "s3cret&="}});
    let admin = acme.at(app.url()).admin();
    for (at, (provider, server)) in [("turnstile", &turnstile), ("hcaptcha", &hcaptcha)].into_iter().enumerate() {
        let set = admin.patch(policy, captcha(provider)).await.expect(200);
        assert_eq!(set.data()["captcha"], json!({"provider": provider, "siteKey": "site"}), "{set:?}");
        assert!(!admin.get(policy).await.expect(200).text.contains("s3cret"));
        assert_eq!(site().await, json!({"provider": provider, "siteKey": "site"}));
        let with = async |who: &Persona, email: &str, password: &str, token: Value| {
            let body = json!({"tenant": slug, "email": email, "password": password, "captchaToken": token});
            who.post("/api/v1/auth/login", body).await
        };
        let nobody = format!("{}@example.com", unique("n"));
        for email in [&ada, &nobody] {
            with(&spray, email, PASSWORD, Value::Null).await.refused(403, "captcha_required");
            with(&spray, email, PASSWORD, json!("unsolved")).await.refused(403, "captcha_required");
            with(&spray, email, "wrong", json!("solved")).await.refused(401, "invalid_credentials");
        }
        with(&spray, &ada, PASSWORD, json!("solved")).await.expect(200);
        let seen = server.seen();
        assert!(seen.iter().all(|form| form.contains("secret=s3cret%26%3D") && form.contains("remoteip=198.51.100.1")));
        // From elsewhere nothing is asked.
        with(&from(&app, &format!("203.0.113.{at}")), &ada, PASSWORD, Value::Null).await.expect(200);
    }
    // A provider that does not answer holds up nobody.
    hcaptcha.stop();
    let body = json!({"tenant": slug, "email": ada, "password": PASSWORD, "captchaToken": "whatever"});
    spray.post("/api/v1/auth/login", body).await.expect(200);
    // The suspicion ends by itself.
    app.clock().advance(TimeDelta::minutes(16));
    login(&spray, slug, &ada, PASSWORD).await.expect(200);
    let stored =
        "SELECT (position('s3cret' IN encode(captcha_secret_sealed, 'escape')) > 0)::text AS word FROM security_policy";
    assert_eq!(db::word(acme.database(), stored).await, "false");
    let admin = acme.at(app.url()).admin();
    admin.patch(policy, json!({"captcha": null})).await.expect(200);
    let another = json!({"captcha": {"provider": "turnstile", "siteKey": "site"}});
    admin.patch(policy, another).await.refused(422, "validation_failed");
}

/// A foreign key would be looked up for those who have an account alone, and the time of an answer would tell; what a person
/// leaves behind goes with them without one.
#[actix_web::test]
async fn a_guess_costs_the_same_whoever_it_is_about_and_is_forgotten_with_them() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let keys = "SELECT count(*)::text AS word FROM pg_constraint WHERE contype = 'f' \
                AND conrelid IN ('login_attempts'::regclass, 'mail_outbox'::regclass)";
    assert_eq!(db::word(acme.database(), keys).await, "0");
    let email = person(&acme).await;
    for _ in 0..5 {
        acme.log_in_as(&email, "wrong").await.refused(401, "invalid_credentials");
    }
    let id = db::word(acme.database(), &format!("SELECT id::text AS word FROM users WHERE email = '{email}'")).await;
    let left = async |table: &str| {
        let count = format!("SELECT count(*)::text AS word FROM {table} WHERE user_id = '{id}'");
        db::word(acme.database(), &count).await
    };
    assert_eq!((&*left("login_attempts").await, &*left("mail_outbox").await), ("5", "1"));
    acme.admin().delete(&format!("/api/v1/users/{id}")).await.expect(204);
    assert_eq!((&*left("login_attempts").await, &*left("mail_outbox").await), ("0", "0"));
}
