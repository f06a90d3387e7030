//! Operators: their own login, their own tokens, and the routes that mirror the commands.

use serde_json::json;
use tenantry::config::{Config, Sources};
use tenantry::control::ControlPlane;
use tenantry::kernel::Clock;
use tenantry::kernel::crypto::MasterKeys;
use tenantry::router::MainDb;
use tenantry::testing::{TestApp, TestCluster};

use super::operator_access::operator;
use crate::support::authenticator::code;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn operators_are_of_another_world() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let operator = app.operator();
    operator.get("/api/v1/admin/tenants").await.expect(200);
    for path in ["/api/v1/users/me", "/api/v1/contacts", "/api/v1/tenants/current"] {
        operator.get(path).await.refused(401, "token_invalid");
        operator.with("x-tenant-id", acme.slug.as_str()).get(path).await.refused(401, "token_invalid");
    }
    acme.admin().get("/api/v1/admin/tenants").await.refused(401, "token_invalid");
    let nobody = app.anonymous();
    let login = |email: &str, password: &str| json!({"email": email, "password": password});
    let path = "/api/v1/admin/auth/login";
    let wrong = nobody.post(path, login("operator@tenantry.test", "wrong")).await.refused(401, "invalid_credentials");
    let unknown = nobody.post(path, login(&format!("{}@tenantry.test", unique("u")), "wrong")).await;
    assert_eq!((unknown.status, unknown.without_request_id()), (wrong.status, wrong.without_request_id()));
    nobody.post(path, login(acme.email(), acme.password())).await.refused(401, "invalid_credentials");
}

#[actix_web::test]
async fn a_new_installation_has_no_account_that_nobody_made() {
    let config = Config::load(&Sources::from_variables(&[])).expect("the defaults");
    assert!(config.master_key().is_err() && config.database_url().is_err());
    assert!(config.smtp_url().is_none() && config.password_pepper().is_none());
    let database = TestCluster::get().await.database("new").await;
    ControlPlane::migrate(database.target()).await.expect("the schema");
    let keys = MasterKeys::parse(&MasterKeys::generate()).expect("a key");
    let plane =
        ControlPlane::new(MainDb::new(database.target().clone(), 2), std::sync::Arc::new(keys), Clock::system());
    plane.ensure_installation().await.expect("an installation");
    assert_eq!(db::word(database.target(), "SELECT count(*)::text AS word FROM operators").await, "0");
    // A tenant has whom it was made with, and no program.
    let acme = TestApp::shared().await.tenant("acme").await;
    assert_eq!(db::word(acme.database(), "SELECT string_agg(email, ' ') AS word FROM users").await, acme.email());
    for table in ["api_keys", "oauth_clients", "scim_tokens", "invitations", "token_issuers"] {
        let count = format!("SELECT count(*)::text AS word FROM {table}");
        assert_eq!(db::word(acme.database(), &count).await, "0", "{table}");
    }
}

#[actix_web::test]
async fn an_operator_runs_a_tenant_s_life_over_rest() {
    let app = TestApp::builder().start().await;
    let operator = app.operator();
    let slug = unique("rest");
    let body = json!({"slug": slug, "name": "By REST", "adminEmail": "admin@rest.test"});
    let made = operator.post("/api/v1/admin/tenants", body.clone()).await;
    assert!([201, 202].contains(&made.status), "{made:?}");
    let listed = async || {
        let list = operator.get("/api/v1/admin/tenants").await.expect(200);
        list.data().as_array().unwrap().iter().find(|tenant| tenant["slug"] == slug.as_str()).cloned()
    };
    let active = async || listed().await.is_some_and(|tenant| tenant["status"] == "active");
    eventually(seconds(20), "active", active).await;
    let tenant = listed().await.unwrap();
    for field in ["id", "slug", "name", "status", "kind", "cluster", "databaseName", "schemaVersion", "createdAt"] {
        assert!(!tenant[field].is_null(), "{field}: {tenant}");
    }
    let path = format!("/api/v1/admin/tenants/{}", tenant["id"].as_str().unwrap());
    let shown = operator.get(&path).await.expect(200);
    for field in shown.data().as_object().unwrap().keys() {
        assert!(made.data().get(field).is_some(), "{field} is read, but was not answered: {made:?}");
    }
    assert!(!shown.text.contains("postgres://") && !shown.text.to_lowercase().contains("password\""), "{shown:?}");
    operator.post("/api/v1/admin/tenants", body).await.refused(409, "already_exists");
    let named = operator.patch(&path, json!({"name": "Renamed"})).await.expect(200);
    assert_eq!(named.data()["name"], "Renamed");
    operator.patch(&path, json!({"databaseName": "x"})).await.expect(422);
    for field in ["name", "registration", "weight"] {
        let null = operator.patch(&path, json!({field: null})).await;
        assert_eq!(null.invalid(), [(field.to_owned(), "required".to_owned())]);
    }
    operator.patch(&path, json!({"maxConnections": null})).await.expect(200);
    assert_eq!(operator.post(&format!("{path}/suspend"), json!({})).await.ok().data()["status"], "suspended");
    assert_eq!(operator.post(&format!("{path}/resume"), json!({})).await.ok().data()["status"], "active");
    let gone = operator.delete(&path).await;
    assert!([200, 202, 204].contains(&gone.status), "{gone:?}");
    let left = async || listed().await.is_none_or(|tenant| tenant["status"] == "archived");
    eventually(seconds(10), "archived", left).await;
    operator.get("/api/v1/admin/tenants/01890000-0000-7000-8000-000000000000").await.refused(404, "not_found");
    for bad in [
        json!({"slug": "Bad Slug", "name": "x"}),
        json!({"slug": "admin", "name": "x"}),
        json!({"name": "x"}),
        json!({"slug": unique("x"), "secret": 1}),
    ] {
        operator.post("/api/v1/admin/tenants", bad).await.expect(422);
    }
    for (email, password, field) in
        [("admin@rest.test", "short", "adminPassword"), ("a@x", "an uncommon sentence of five words", "adminEmail")]
    {
        let bad = json!({"slug": unique("x"), "adminEmail": email, "adminPassword": password});
        let refused = operator.post("/api/v1/admin/tenants", bad).await.invalid();
        assert_eq!(refused.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(), [field]);
    }
}

#[actix_web::test]
async fn operators_are_locked_out_like_anybody() {
    let app = TestApp::builder().start().await;
    let (path, nobody, password) = ("/api/v1/admin/auth/login", app.anonymous(), "an uncommon sentence of five words");
    let body = json!({"email": "known@tenantry.test", "password": password, "role": "support", "tenants": []});
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let policy = Some(r#""login";q=5;w=900"#);
    for email in ["guessed@tenantry.test", "known@tenantry.test"] {
        let login = json!({"email": email, "password": "wrong"});
        for left in [4, 3, 2, 1, 0] {
            let refused = nobody.post(path, login.clone()).await.refused(401, "invalid_credentials");
            // Alike, whether there is one or not.
            let told = refused.header("ratelimit").unwrap_or_default();
            assert!(told.starts_with(&format!(r#""login";r={left};t="#)), "{refused:?}");
            assert_eq!(refused.header("ratelimit-policy"), policy, "{refused:?}");
        }
        let refused = nobody.post(path, login).await.refused(429, "too_many_attempts");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(refused.header("ratelimit-policy"), policy, "{refused:?}");
    }
    app.clock().advance(chrono::TimeDelta::minutes(16));
    let right = json!({"email": "known@tenantry.test", "password": password});
    let signed_in = nobody.post(path, right).await.expect(200);
    assert_eq!(signed_in.header("ratelimit"), Some(r#""login";r=5;t=0"#), "{signed_in:?}");
}

/// What counts is what failed, and tries at the same moment get no more of it.
#[actix_web::test]
async fn logins_at_the_same_moment_are_no_failures_of_each_other() {
    let app = TestApp::shared().await;
    let (path, password) = ("/api/v1/admin/auth/login", "an uncommon sentence of five words");
    let email = format!("{}@operators.test", unique("script"));
    let body = json!({"email": email, "password": password, "role": "support", "tenants": []});
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let nobody = app.anonymous();
    let at_once = async |email: &str, password: &str| {
        let log_in = || nobody.post(path, json!({"email": email, "password": password}));
        futures_util::future::join_all((0..12).map(|_| log_in())).await
    };
    let right = at_once(&email, password).await;
    assert!(right.iter().all(|answer| answer.status == 200), "{right:#?}");
    let unknown = format!("{}@operators.test", unique("nobody"));
    for whose in [&email, &unknown] {
        let wrong = at_once(whose, "wrong").await;
        let judged = wrong.iter().filter(|answer| answer.status == 401).count();
        let locked = wrong.iter().filter(|answer| answer.status == 429).count();
        assert_eq!((judged, locked), (5, 7), "{wrong:#?}");
    }
    nobody.post(path, json!({"email": email, "password": password})).await.refused(429, "too_many_attempts");
}

/// Strangers who know an operator's address keep strangers out, not the operator.
#[actix_web::test]
async fn an_operator_gets_in_from_where_they_came_in_before() {
    let app = TestApp::builder().set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.1").start().await;
    let (path, password) = ("/api/v1/admin/auth/login", "an uncommon sentence of five words");
    let email = format!("{}@operators.test", unique("desk"));
    let body = json!({"email": email, "password": password, "role": "support", "tenants": []});
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let (desk, elsewhere) = ("198.51.100.7", "203.0.113.9");
    let log_in = async |from: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        app.anonymous().with("x-forwarded-for", from).post(path, body).await
    };
    log_in(desk, password).await.expect(200);
    // Long after that session has ended, too.
    app.clock().advance(chrono::TimeDelta::days(3));
    for at in 0..5 {
        log_in(&format!("203.0.113.{at}"), "wrong").await.refused(401, "invalid_credentials");
    }
    log_in(elsewhere, password).await.refused(429, "too_many_attempts");
    log_in(desk, password).await.expect(200);
    log_in(elsewhere, password).await.refused(429, "too_many_attempts");
    // Guesses from there are counted all the same.
    for _ in 0..5 {
        log_in(desk, "wrong").await.refused(401, "invalid_credentials");
    }
    log_in(desk, password).await.refused(429, "too_many_attempts");
    app.clock().advance(chrono::TimeDelta::days(31));
    for _ in 0..5 {
        log_in(elsewhere, "wrong").await.refused(401, "invalid_credentials");
    }
    log_in(desk, password).await.refused(429, "too_many_attempts");
}

/// Tries that are not looked at keep no connections of the control plane's busy.
#[actix_web::test]
async fn a_try_at_a_second_factor_that_is_locked_waits_for_no_other() {
    let app = TestApp::builder().start().await;
    let (_, email, who) = operator(&app, "support", &[]).await;
    let totp = "/api/v1/admin/auth/mfa/totp";
    let (confirm, remove) = (format!("{totp}/confirm"), format!("{totp}/remove"));
    let told = who.post(totp, json!({})).await.expect(200);
    let right = code(&app, told.data()["secret"].as_str().expect("a secret"));
    who.post(&confirm, json!({"code": right})).await.expect(200);
    let login = json!({"email": email, "password": "an uncommon sentence of five words"});
    let half = app.anonymous().post("/api/v1/admin/auth/login", login).await.expect(200);
    let wrong = json!({"code": "000000"});
    for _ in 0..5 {
        who.post(&remove, wrong.clone()).await.refused(422, "validation_failed");
    }
    // As somebody's try does that is being judged.
    let mut other = db::open(app.control_database()).await;
    let hold = "SELECT pg_advisory_lock(('x' || left(encode(subject, 'hex'), 16))::bit(64)::bigint)::text AS word \
                FROM operator_login_attempts";
    assert_eq!(db::words_on(&mut other, hold).await.len(), 1, "the second factor alone");
    who.post(&remove, wrong.clone()).await.refused(429, "too_many_attempts");
    who.post(&confirm, wrong).await.refused(429, "too_many_attempts");
    let further = json!({"mfaToken": half.data()["mfaToken"], "code": "000000"});
    app.anonymous().post("/api/v1/admin/auth/mfa", further).await.refused(429, "too_many_attempts");
}
