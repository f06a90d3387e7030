//! What operators ask for with an `Idempotency-Key` is done once.

use std::fmt::Debug;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::authenticator::code;
use crate::support::{db, eventually, seconds, unique};

/// Asks twice with one key, and gives the answer that came both times. `other` is another body, if it takes one.
async fn twice(operator: &Persona, path: &str, body: Value, other: Option<Value>) -> Value {
    fn same<T: PartialEq + Debug>(path: &str, one: T, other: T) {
        assert_eq!(one, other, "{path}");
    }
    let once = operator.with("idempotency-key", &unique("once"));
    let first = once.post(path, body.clone()).await;
    assert!((200..300).contains(&first.status), "{first:?}");
    assert_eq!(first.header("idempotency-replayed"), None, "{path}");
    let again = once.post(path, body).await.expect(first.status);
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{path}");
    same(path, again.data(), first.data());
    for name in ["location", "etag"] {
        same(path, again.header(name), first.header(name));
    }
    if let Some(other) = other {
        once.post(path, other).await.refused(422, "idempotency_key_reused");
    }
    first.data().clone()
}

/// Has a job done.
async fn done(app: &TestApp, job: &Value) {
    let (fleet, operator) = (app.fleet(), app.operator());
    let path = format!("/api/v1/admin/jobs/{}", job["id"].as_str().expect("a job"));
    eventually(seconds(60), "the job is done", async || {
        fleet.work().await.expect("worked");
        let state = operator.get(&path).await.expect(200).data()["state"].clone();
        assert_ne!(state, json!("failed"), "{path}");
        state == json!("done")
    })
    .await;
}

async fn jobs(app: &TestApp, tenant: &Tenant, kind: &str) -> String {
    let count =
        format!("SELECT count(*)::text AS word FROM operations WHERE tenant_id = '{}' AND kind = '{kind}'", tenant.id);
    db::word(app.control_database(), &count).await
}

#[actix_web::test]
async fn what_makes_or_changes_something_does_it_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let operator = app.operator();
    let of = |what: &str| format!("/api/v1/admin/tenants/{}/{what}", acme.slug);

    let person = |name: &str| {
        let password = "an uncommon sentence of five words";
        json!({"email": format!("{name}@example.com"), "password": password, "role": "support"})
    };
    let (one, two) = (unique("ada"), unique("eve"));
    let added = twice(&operator, "/api/v1/admin/operators", person(&one), Some(person(&two))).await;
    assert_eq!(added["email"], json!(format!("{one}@example.com")));

    let issuer = |name: &str| {
        let at = format!("https://{name}.example.com");
        json!({
            "name": name, "issuer": at, "audience": "tenantry", "jwksUrl": format!("{at}/jwks"), "matchBy": "email",
        })
    };
    let registered = twice(&operator, &of("token-issuers"), issuer("one"), Some(issuer("two"))).await;
    assert_eq!(registered["name"], json!("one"));

    twice(&operator, &of("rotate-keys"), json!({}), Some(json!({"now": true}))).await;
    let keys = format!("SELECT count(*)::text AS word FROM signing_keys WHERE tenant_id = '{}'", acme.id);
    assert_eq!(db::word(app.control_database(), &keys).await, "2", "the first, and one more");

    assert_eq!(twice(&operator, &of("suspend"), Value::Null, None).await["status"], json!("suspended"));
    assert_eq!(twice(&operator, &of("resume"), Value::Null, None).await["status"], json!("active"));
    assert_eq!(twice(&operator, &of("archive"), Value::Null, None).await["status"], json!("archived"));
    operator.post(&of("restore"), json!({})).await.expect(200);
    // A key counts for one operation: the same one suspends again, and its first answer does not come back.
    operator.with("idempotency-key", &unique("once")).post(&of("suspend"), Value::Null).await.expect(200);
    operator.post(&of("resume"), Value::Null).await.expect(200);

    // What was refused leaves nothing behind.
    let once = operator.with("idempotency-key", &unique("once"));
    let nowhere = format!("/api/v1/admin/tenants/{}/backups", unique("nobody"));
    for _ in 0..2 {
        let refused = once.post(&nowhere, Value::Null).await.refused(404, "not_found");
        assert_eq!(refused.header("idempotency-replayed"), None);
    }
}

#[actix_web::test]
async fn a_job_is_begun_once() {
    let app = TestApp::builder().start().await;
    app.cluster("other", &app.server()).await;
    let acme = app.tenant_on("local", "acme").await;
    let operator = app.operator();
    let of = |what: &str| format!("/api/v1/admin/tenants/{}/{what}", acme.id);

    // The key is remembered longer than the job takes.
    let once = operator.with("idempotency-key", &unique("once"));
    let job = once.post(&of("backups"), Value::Null).await.expect(202);
    done(&app, job.data()).await;
    let again = once.post(&of("backups"), Value::Null).await.expect(202);
    assert_eq!((again.id(), again.header("idempotency-replayed")), (job.id(), Some("true")));
    assert_eq!(again.header("location"), job.header("location"));
    assert_eq!(jobs(&app, &acme, "backup").await, "1");
    let backups = operator.get(&of("backups")).await.expect(200);
    assert_eq!(backups.data().as_array().map(Vec::len), Some(1));

    let backup = backups.data()[0]["id"].clone();
    let beside = |name: &str| json!({"backupId": backup, "as": name});
    let (one, two) = (unique("one"), unique("two"));
    done(&app, &twice(&operator, &of("restore"), beside(&one), Some(beside(&two))).await).await;
    let copy = |name: &str| json!({"slug": name});
    let (one, two) = (unique("one"), unique("two"));
    done(&app, &twice(&operator, &of("clone"), copy(&one), Some(copy(&two))).await).await;
    done(&app, &twice(&operator, &of("rotate-credentials"), Value::Null, None).await).await;
    let to = |name: &str| json!({"to": name});
    let moving = twice(&operator, &of("move"), to("other"), Some(to("local"))).await;
    assert_eq!(jobs(&app, &acme, "move").await, "1");
    let cancel = format!("/api/v1/admin/jobs/{}/cancel", moving["id"].as_str().expect("a job"));
    assert_eq!(twice(&operator, &cancel, Value::Null, None).await["state"], json!("cancelled"));

    // That the tenant is gone is no answer to the repetition of what destroyed it.
    let once = operator.with("idempotency-key", &unique("once"));
    let job = once.post(&of("erase"), Value::Null).await.expect(202);
    done(&app, job.data()).await;
    let again = once.post(&of("erase"), Value::Null).await.expect(202);
    assert_eq!((again.id(), again.header("idempotency-replayed")), (job.id(), Some("true")));
}

/// A new operator, signed in, and how they log in.
async fn operator(app: &TestApp) -> (Persona, Value) {
    let email = format!("{}@operators.test", unique("self"));
    let login = json!({"email": email, "password": "an uncommon sentence of five words"});
    let mut body = login.clone();
    body["role"] = json!("support");
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let nobody = app.anonymous();
    let token = nobody.post("/api/v1/admin/auth/login", login.clone()).await.expect(200);
    (nobody.bearing(token.data()["accessToken"].as_str().expect("a token")), login)
}

/// Whoever lost the answer asks again: that is no wrong guess, and nobody is left without recovery codes.
#[actix_web::test]
async fn operators_change_their_own_access_once() {
    let app = TestApp::shared().await;
    let (old, new) = ("an uncommon sentence of five words", "quite another sentence of words");
    let email = format!("{}@operators.test", unique("self"));
    let body = json!({"email": email, "password": old, "role": "support"});
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let nobody = app.anonymous();
    let log_in = async |password: &str| {
        let body = json!({"email": email, "password": password});
        nobody.post("/api/v1/admin/auth/login", body).await.expect(200).data().clone()
    };
    let who = nobody.bearing(log_in(old).await["accessToken"].as_str().expect("a token"));
    let change = |from: &str, to: &str| json!({"currentPassword": from, "newPassword": to});
    let other = change(old, "a third sentence of good words");
    twice(&who, "/api/v1/admin/auth/change-password", change(old, new), Some(other)).await;

    let totp = "/api/v1/admin/auth/mfa/totp";
    let told = twice(&who, totp, Value::Null, None).await;
    let given = json!({"code": code(app, told["secret"].as_str().expect("a seed"))});
    let (once, confirm) = (who.with("idempotency-key", &unique("once")), format!("{totp}/confirm"));
    let first = once.post(&confirm, given.clone()).await.expect(200);
    let again = once.post(&confirm, given.clone()).await.expect(200);
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), (None, Some("true")));
    once.post(&confirm, json!({"code": "000000"})).await.refused(422, "idempotency_key_reused");
    let (lost, codes) = (&first.data()["recoveryCodes"], &again.data()["recoveryCodes"]);
    assert_eq!(codes.as_array().map(Vec::len), Some(10));
    let kept = "SELECT count(*)::text AS word FROM request_records WHERE scope LIKE '%/mfa/totp%' AND body IS NOT NULL";
    assert_eq!(db::word(app.control_database(), kept).await, "0", "neither seeds nor codes");

    let half = log_in(new).await;
    let further = async |code: &Value| {
        nobody.post("/api/v1/admin/auth/mfa", json!({"mfaToken": half["mfaToken"], "code": code})).await
    };
    further(&lost[0]).await.refused(401, "invalid_credentials");
    further(&codes[0]).await.expect(200);
    let (one, two) = (json!({"code": codes[1]}), json!({"code": codes[2]}));
    twice(&who, &format!("{totp}/remove"), one, Some(two)).await;
    assert!(log_in(new).await["accessToken"].is_string());
    // Where it does not count any more, there are no codes to be had by the same request.
    once.post(&confirm, given).await.refused(409, "conflict");
}

/// Whose codes are repeated is the second factor that the request confirmed, and not the one that is there by now.
#[actix_web::test]
async fn a_late_repetition_leaves_another_second_factor_s_recovery_codes_alone() {
    let app = TestApp::shared().await;
    let (who, login) = operator(app).await;
    let totp = "/api/v1/admin/auth/mfa/totp";
    let confirm = format!("{totp}/confirm");
    let enrolled = async || {
        let told = who.post(totp, Value::Null).await.expect(200);
        json!({"code": code(app, told.data()["secret"].as_str().expect("a seed"))})
    };
    let (first, once) = (enrolled().await, who.with("idempotency-key", &unique("first")));
    let codes = once.post(&confirm, first.clone()).await.expect(200);
    let remove = json!({"code": codes.data()["recoveryCodes"][0]});
    who.post(&format!("{totp}/remove"), remove).await.expect(204);
    let second = enrolled().await;
    let codes = who.with("idempotency-key", &unique("second")).post(&confirm, second).await.expect(200);

    once.post(&confirm, first).await.refused(409, "conflict");
    let half = app.anonymous().post("/api/v1/admin/auth/login", login).await.expect(200);
    let further = json!({"mfaToken": half.data()["mfaToken"], "code": codes.data()["recoveryCodes"][0]});
    app.anonymous().post("/api/v1/admin/auth/mfa", further).await.expect(200);
}

/// As a process leaves it that dies between the change and the answer.
#[actix_web::test]
async fn a_change_of_one_s_own_access_without_an_answer_is_no_wrong_guess() {
    let app = TestApp::builder().start().await;
    let (who, mut login) = operator(&app).await;
    let lost = async |path: &str, body: Value, status: u16| {
        let once = who.with("idempotency-key", &unique("once"));
        once.post(path, body.clone()).await.expect(status);
        db::execute(app.control_database(), "UPDATE request_records SET status = NULL").await;
        let again = once.post(path, body).await.expect(status);
        assert_eq!(again.header("idempotency-replayed"), None, "{path}: no answer was kept");
        again
    };
    let new = json!("quite another sentence of words");
    let change = json!({"currentPassword": login["password"], "newPassword": new});
    lost("/api/v1/admin/auth/change-password", change, 204).await;

    let totp = "/api/v1/admin/auth/mfa/totp";
    let told = who.post(totp, Value::Null).await.expect(200);
    let given = json!({"code": code(&app, told.data()["secret"].as_str().expect("a seed"))});
    let confirmed = lost(&format!("{totp}/confirm"), given, 200).await;
    let codes = &confirmed.data()["recoveryCodes"];
    assert_eq!(codes.as_array().map(Vec::len), Some(10));
    lost(&format!("{totp}/remove"), json!({"code": codes[0]}), 204).await;

    let wrong = "SELECT count(*)::text AS word FROM operator_login_attempts";
    assert_eq!(db::word(app.control_database(), wrong).await, "0");
    login["password"] = new;
    let signed_in = app.anonymous().post("/api/v1/admin/auth/login", login).await.expect(200);
    assert!(signed_in.data()["accessToken"].is_string(), "{signed_in:?}");
}

/// As a process leaves it that dies between what it made and the answer: the same request finds that, and makes nothing.
#[actix_web::test]
async fn what_was_made_without_an_answer_is_found_by_the_same_request() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let operator = app.operator();
    let password = "an uncommon sentence of five words";
    let person = json!({"email": "ada@example.com", "password": password, "role": "owner", "tenants": [acme.slug]});
    let url = app.server().to_url();
    let cluster = json!({
        "name": "second", "adminUrl": url.expose_secret(), "tlsMode": "disable", "connectionBudget": 5,
    });
    let rotate = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
    let issuers = format!("/api/v1/admin/tenants/{}/token-issuers", acme.slug);
    let at = "https://one.example.com";
    let issuer = json!({
        "name": "one", "issuer": at, "audience": "tenantry", "jwksUrl": format!("{at}/jwks"), "matchBy": "email",
    });
    for (path, body, status, id) in [
        ("/api/v1/admin/operators", person, 201, "id"),
        ("/api/v1/admin/clusters", cluster, 201, "id"),
        (rotate.as_str(), json!({"algorithm": "ES256"}), 200, "keyId"),
        (issuers.as_str(), issuer, 201, "id"),
    ] {
        let once = operator.with("idempotency-key", &unique("once"));
        let first = once.post(path, body.clone()).await.expect(status);
        let lost = "UPDATE request_records SET status = NULL, location = NULL, version = NULL, body = NULL";
        db::execute(app.control_database(), lost).await;
        let again = once.post(path, body.clone()).await.expect(status);
        assert_eq!(again.header("idempotency-replayed"), None, "{path}: no answer was kept");
        assert!(first.data()[id].is_string(), "{first:?}");
        assert_eq!(again.data()[id], first.data()[id], "{path}");
        for name in ["location", "etag"] {
            assert_eq!(again.header(name), first.header(name), "{path}");
        }
        let kept = once.post(path, body.clone()).await.expect(status);
        assert_eq!(kept.header("idempotency-replayed"), Some("true"), "{path}");
        // Whoever asks for the same by another request is told what there is.
        operator.with("idempotency-key", &unique("other")).post(path, body).await.expect(409);
    }
    let seen = operator.get("/api/v1/admin/operators").await.expect(200);
    let ada = seen.data().as_array().expect("a list").iter().find(|one| one["email"] == "ada@example.com");
    assert_eq!(ada.map(|ada| &ada["tenants"]), Some(&json!([acme.slug])));
    let keys = format!("SELECT count(*)::text AS word FROM signing_keys WHERE tenant_id = '{}'", acme.id);
    assert_eq!(db::word(app.control_database(), &keys).await, "2", "the first, and one more");
}
