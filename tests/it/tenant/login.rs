//! Signing in, and what it does not tell.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::jwt::part;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn a_login_gives_a_pair_of_tokens_and_the_person() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let answer = acme.log_in_as(&format!("  {} ", acme.email().to_uppercase()), acme.password()).await.expect(200);
    let data = answer.data();
    assert_eq!((&data["tokenType"], &data["expiresIn"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(data["user"]["email"], acme.email());
    assert!(data["user"].get("passwordHash").is_none(), "{answer:?}");
    let claims = part(data["accessToken"].as_str().unwrap(), 1);
    for claim in ["iss", "aud", "sub", "tid", "sid", "jti", "iat", "exp", "roles", "amr", "auth_time", "ver"] {
        assert!(!claims[claim].is_null(), "{claim} is missing: {claims}");
    }
    assert_eq!((&claims["sub"], &claims["tid"]), (&data["user"]["id"], &json!(acme.id.to_string())));
    assert_eq!((&claims["roles"], &claims["amr"]), (&json!(["admin"]), &json!(["pwd"])));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert!(data["refreshToken"].as_str().unwrap().starts_with("trf_"));
}

#[actix_web::test]
async fn refusals_do_not_tell_who_exists() {
    let app = TestApp::shared().await;
    let (acme, suspended) = (app.tenant("acme").await, app.tenant("suspended").await);
    suspended.suspend().await;
    let invited = json!({"email": "invited@example.com", "firstName": "I", "lastName": "I"});
    acme.admin().post("/api/v1/users", invited).await.expect(201);
    let left = json!({"email": "left@example.com", "firstName": "L", "lastName": "L", "password": "an uncommon sentence of five words"});
    let left = acme.admin().post("/api/v1/users", left).await.expect(201).id();
    acme.admin().patch(&format!("/api/v1/users/{left}"), json!({"status": "deactivated"})).await.expect(200);

    let nobody = acme.anonymous();
    let attempt = async |tenant: &str, email: &str, password: &str| {
        nobody.post("/api/v1/auth/login", json!({"tenant": tenant, "email": email, "password": password})).await
    };
    let slug = acme.slug.to_string();
    let wrong = attempt(&slug, acme.email(), "wrong").await.refused(401, "invalid_credentials");
    let others = [
        ("unknown tenant", attempt(&unique("t"), acme.email(), acme.password()).await),
        ("a name that is no slug", attempt("No Slug!", acme.email(), acme.password()).await),
        ("suspended tenant", attempt(suspended.slug.as_str(), suspended.email(), suspended.password()).await),
        ("unknown address", attempt(&slug, "nobody@example.com", "wrong").await),
        ("no address", attempt(&slug, "nobody", "wrong").await),
        ("invited, without a password", attempt(&slug, "invited@example.com", "").await),
        ("deactivated, right password", attempt(&slug, "left@example.com", "an uncommon sentence of five words").await),
        ("another tenant's person", attempt(&slug, suspended.email(), suspended.password()).await),
    ];
    for (what, answer) in others {
        assert_eq!(answer.status, wrong.status, "{what}: {answer:?}");
        assert_eq!(answer.without_request_id(), wrong.without_request_id(), "{what}");
        let names = |a: &tenantry::testing::Answer| {
            let mut names: Vec<_> = a.headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(&answer), names(&wrong), "{what}");
    }
}

/// The history of an account goes back 90 days; what is older goes, some at a time.
#[actix_web::test]
async fn an_old_login_history_is_swept() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let log_in = async || drop(acme.log_in_as(acme.email(), acme.password()).await.expect(200));
    log_in().await;
    for (days, rows) in [(91, 150), (89, 1)] {
        let old = format!(
            "INSERT INTO login_attempts (id, email_hash, user_id, at, outcome) \
             SELECT gen_random_uuid(), a.email_hash, a.user_id, now() - interval '{days} days', 'succeeded' \
             FROM (SELECT email_hash, user_id FROM login_attempts LIMIT 1) a, generate_series(1, {rows})"
        );
        db::execute(acme.database(), &old).await;
    }
    let old = async || {
        let old = "SELECT count(*)::text AS word FROM login_attempts WHERE at < now() - interval '1 day'";
        db::word(acme.database(), old).await
    };
    for expected in ["51", "1", "1"] {
        log_in().await;
        assert_eq!(old().await, expected);
    }
}

/// Another name beside it does not bring out that there is a tenant which does not serve.
#[actix_web::test]
async fn a_second_name_tells_no_more_of_a_tenant() {
    let app = TestApp::shared().await;
    let (acme, suspended) = (app.tenant("acme").await, app.tenant("suspended").await);
    suspended.suspend().await;
    let elsewhere = [
        app.anonymous().with("x-tenant-id", acme.slug.as_str()),
        app.anonymous().with("x-tenant-id", "zzz"),
        app.anonymous().with("host", &format!("{}.tenantry.test", acme.slug)),
    ];
    for stranger in elsewhere {
        let attempt = async |tenant: &str| {
            let email = format!("{}@example.com", unique("p"));
            stranger.post("/api/v1/auth/login", json!({"tenant": tenant, "email": email, "password": "wrong"})).await
        };
        let unknown = attempt(&unique("t")).await.refused(401, "invalid_credentials");
        let known = attempt(suspended.slug.as_str()).await.refused(401, "invalid_credentials");
        assert_eq!(known.without_request_id(), unknown.without_request_id());
    }
}

#[actix_web::test]
async fn a_tenant_that_is_being_made_is_worth_waiting_for() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let status = |status: &str| format!("UPDATE tenants SET status = '{status}' WHERE id = '{}'", acme.id);
    db::execute(app.control_database(), &status("provisioning")).await;
    let attempt = async || acme.log_in_as(acme.email(), acme.password()).await;
    eventually(seconds(10), "it is to wait", async || attempt().await.code() == "tenant_unavailable").await;
    let early = attempt().await.refused(503, "tenant_unavailable");
    assert!(early.header("retry-after").is_some(), "{early:?}");
    let mail = json!({"tenant": acme.slug.as_str(), "email": acme.email()});
    acme.anonymous().post("/api/v1/auth/forgot-password", mail).await.refused(503, "tenant_unavailable");
    db::execute(app.control_database(), &status("active")).await;
    eventually(seconds(10), "it serves", async || attempt().await.status == 200).await;
}
