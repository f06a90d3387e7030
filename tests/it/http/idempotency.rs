//! `Idempotency-Key`: an effect once, however often it is asked for.

use std::collections::BTreeSet;

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::authenticator::code;
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn the_same_request_is_answered_the_same() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let once = admin.with("idempotency-key", "key-1");
    let first = once.post("/api/v1/contacts", json!({"lastName": "Once"})).await.expect(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let again = once.post("/api/v1/contacts", json!({"lastName": "Once"})).await.expect(201);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.data(), first.data());
        assert_eq!((again.header("location"), again.header("etag")), (first.header("location"), first.header("etag")));
    }
    once.post("/api/v1/contacts", json!({"lastName": "Twice"})).await.refused(422, "idempotency_key_reused");
    // A key is one caller's, of one address.
    let other = json!({"email": "once@example.com", "firstName": "a", "lastName": "b"});
    once.post("/api/v1/users", other).await.expect(201);
    let list = admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(list.data().as_array().map(Vec::len), Some(1));
}

/// A person and each of their programs number their requests by themselves.
#[actix_web::test]
async fn a_key_is_a_caller_s_and_not_their_owner_s() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let mut callers = vec![admin.clone()];
    for name in ["one", "two"] {
        let wanted = json!({"name": name, "scopes": ["contacts:write"]});
        let made = admin.post("/api/v1/api-keys", wanted).await.expect(201);
        callers.push(acme.anonymous().with("x-api-key", made.data()["key"].as_str().expect("the key")));
    }
    let mut ids = BTreeSet::new();
    for caller in &callers {
        let once = caller.with("idempotency-key", "order-1");
        let made = once.post("/api/v1/contacts", json!({"lastName": "Same"})).await.expect(201);
        assert_eq!(made.header("idempotency-replayed"), None, "{made:?}");
        let again = once.post("/api/v1/contacts", json!({"lastName": "Same"})).await.expect(201);
        assert_eq!((again.header("idempotency-replayed"), again.id()), (Some("true"), made.id()));
        ids.insert(made.id());
    }
    assert_eq!(ids.len(), callers.len());
}

#[actix_web::test]
async fn a_failed_effect_is_not_remembered() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let once = admin.with("idempotency-key", "key-2");
    once.post("/api/v1/contacts", json!({})).await.expect(422);
    once.post("/api/v1/contacts", json!({"lastName": "Now"})).await.expect(201);
    for bad in ["", &"x".repeat(256)] {
        let answer = admin.with("idempotency-key", bad).post("/api/v1/contacts", json!({"lastName": "L"})).await;
        assert_eq!((answer.status, answer.code()), (400, "malformed_request"), "{answer:?}");
    }
}

#[actix_web::test]
async fn two_at_once_have_one_effect() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let once = acme.admin().with("idempotency-key", "key-3");
    acme.admin().signed_in().await;
    let answers = join_all((0..10).map(|_| once.post("/api/v1/contacts", json!({"lastName": "Race"})))).await;
    let mut ids = Vec::new();
    for answer in answers {
        match answer.status {
            201 => ids.push(answer.id()),
            _ => drop(answer.refused(409, "idempotency_in_progress")),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM contacts").await, "1");
}

/// Whoever lost the answer is shown the seed that waits, and not another one in its place.
#[actix_web::test]
async fn a_second_factor_is_begun_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let who = acme.another_login().await;
    let once = who.with("idempotency-key", "key-totp");
    let path = "/api/v1/auth/mfa/totp";
    let first = once.post(path, json!({})).await.expect(200);
    let again = once.post(path, json!({})).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), first.data()));
    let kept = "SELECT count(*)::text AS word FROM idempotency_records WHERE body IS NOT NULL";
    assert_eq!(db::word(acme.database(), kept).await, "0");
    let secret = first.data()["secret"].as_str().unwrap();
    who.post(&format!("{path}/confirm"), json!({"code": code(app, secret)})).await.expect(200);
    once.post(path, json!({})).await.refused(409, "conflict");
}

/// The first request is held up in its own transaction by somebody who has the table: the second is told so at once.
#[actix_web::test]
async fn one_that_still_runs_is_told_so() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.signed_in().await;
    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let once = admin.with("idempotency-key", "key-4");
    let running = {
        let once = once.clone();
        actix_web::rt::spawn(async move { once.post("/api/v1/contacts", json!({"lastName": "Slow"})).await })
    };
    let waiting = "SELECT count(*)::text AS word FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                   WHERE NOT granted AND d.datname = current_database()";
    eventually(seconds(10), "the first one waits", async || db::word(acme.database(), waiting).await != "0").await;
    let ask = async || once.post("/api/v1/contacts", json!({"lastName": "Slow"})).await;
    // The other tests' tenants may have all connections for a moment.
    eventually(seconds(10), "it is asked", async || ask().await.code() != "tenant_pool_exhausted").await;
    let second = ask().await.refused(409, "idempotency_in_progress");
    assert!(second.header("retry-after").is_some(), "{second:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    let first = running.await.unwrap().expect(201);
    let replayed = once.post("/api/v1/contacts", json!({"lastName": "Slow"})).await.expect(201);
    assert_eq!((replayed.id(), replayed.header("idempotency-replayed")), (first.id(), Some("true")));
}

#[actix_web::test]
async fn no_record_holds_a_token_or_a_password() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let nobody = acme.anonymous().with("idempotency-key", "key-5");
    let body = json!({"tenant": acme.slug.as_str(), "email": acme.email(), "password": acme.password()});
    let login = nobody.post("/api/v1/auth/login", body).await.expect(200);
    let refresh = login.data()["refreshToken"].as_str().unwrap();
    nobody.post("/api/v1/auth/refresh", json!({"refreshToken": refresh})).await.expect(200);
    let password = "an uncommon sentence of five words";
    let user = json!({"email": "eve@example.com", "firstName": "E", "lastName": "E", "password": password});
    acme.admin().with("idempotency-key", "key-6").post("/api/v1/users", user).await.expect(201);
    let records = db::words(acme.database(), "SELECT r::text AS word FROM idempotency_records r").await;
    for record in &records {
        for secret in [login.data()["accessToken"].as_str().unwrap(), refresh, acme.password(), password, "$argon2"] {
            assert!(!record.contains(secret), "{record}");
        }
    }
    assert!(!records.is_empty(), "the user's is there");
}

/// What nobody comes back for goes, some at a time.
#[actix_web::test]
async fn answers_that_ran_out_are_swept() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let old = "INSERT INTO idempotency_records (scope, key, fingerprint, status, headers, created_at, expires_at) \
               SELECT 'POST /old', n::text, '\\x00', 201, '{}', now() - interval '2 days', now() - interval '1 day' \
               FROM generate_series(1, 150) n";
    db::execute(acme.database(), old).await;
    let left = async || {
        let left = "SELECT count(*)::text AS word FROM idempotency_records WHERE scope = 'POST /old'";
        db::word(acme.database(), left).await
    };
    for (key, expected) in [("sweep-1", "50"), ("sweep-2", "0")] {
        let once = acme.admin().with("idempotency-key", key);
        once.post("/api/v1/contacts", json!({"lastName": key})).await.expect(201);
        assert_eq!(left().await, expected);
        let again = once.post("/api/v1/contacts", json!({"lastName": key})).await.expect(201);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
}
