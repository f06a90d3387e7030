//! The second factor of people, from the first code to the lost phone.

mod demanded;

use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::authenticator::{code, code_at};
use crate::support::jwt::part;
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
const TOTP: &str = "/api/v1/auth/mfa/totp";

/// Somebody with a role, signed in.
async fn person(tenant: &Tenant, role: &str) -> (String, String, Persona) {
    let email = format!("{}@example.com", unique(role));
    let body = json!({"email": email, "firstName": "A", "lastName": "B", "password": PASSWORD, "roles": [role]});
    let id = tenant.admin().post("/api/v1/users", body).await.expect(201).id();
    let persona = tenant.person(&email, PASSWORD);
    (id, email, persona)
}

/// Gives somebody a second factor; its seed and recovery codes.
async fn enrol(app: &TestApp, who: &Persona) -> (String, Vec<String>) {
    let told = who.post(TOTP, json!({})).await.expect(200);
    let secret = told.data()["secret"].as_str().expect("a seed").to_owned();
    assert!(told.data()["uri"].as_str().is_some_and(|uri| uri.starts_with("otpauth://totp/")), "{told:?}");
    assert!(told.data()["qrSvg"].as_str().is_some_and(|svg| svg.contains("<svg")), "{told:?}");
    let confirmed = who.post(&format!("{TOTP}/confirm"), json!({"code": code(app, &secret)})).await.expect(200);
    let codes = confirmed.data()["recoveryCodes"].as_array().expect("codes");
    (secret, codes.iter().map(|code| code.as_str().expect("a code").to_owned()).collect())
}

/// The first half of a login.
async fn token(tenant: &Tenant, email: &str) -> String {
    let asked = tenant.log_in_as(email, PASSWORD).await.expect(200);
    assert_eq!(asked.data()["mfaRequired"], true, "{asked:?}");
    assert!(asked.data().get("accessToken").is_none(), "{asked:?}");
    asked.data()["mfaToken"].as_str().expect("a token").to_owned()
}

async fn second(tenant: &Tenant, token: &str, code: &str) -> Answer {
    tenant.anonymous().post("/api/v1/auth/mfa", json!({"mfaToken": token, "code": code})).await
}

fn bearer(tenant: &Tenant, answer: &Answer) -> Persona {
    tenant.anonymous().bearing(answer.data()["accessToken"].as_str().expect("a token"))
}

#[actix_web::test]
async fn a_login_asks_for_the_code_and_the_tokens_say_so() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (_, email, ada) = person(&acme, "user").await;
    let other = bearer(&acme, &acme.log_in_as(&email, PASSWORD).await.expect(200));
    let (secret, codes) = enrol(app, &ada).await;
    assert_eq!(codes.len(), 10);
    // Whoever was signed in as Ada elsewhere has shown no second factor.
    other.get("/api/v1/users/me").await.refused(401, "token_revoked");
    ada.get("/api/v1/users/me").await.expect(200);
    let stands = ada.get("/api/v1/auth/mfa").await.expect(200);
    assert_eq!((&stands.data()["enrolled"], &stands.data()["recoveryCodesLeft"]), (&json!(true), &json!(10)));

    // The session that enrolled has shown it.
    let refresh = json!({"refreshToken": ada.refresh_token().await});
    let refreshed = acme.anonymous().post("/api/v1/auth/refresh", refresh).await.expect(200);
    assert_eq!(part(refreshed.data()["accessToken"].as_str().unwrap(), 1)["amr"], json!(["pwd", "otp"]));

    let mfa = token(&acme, &email).await;
    assert!(mfa.starts_with("tmf_"));
    // It is no access token.
    acme.anonymous().bearing(&mfa).get("/api/v1/users/me").await.refused(401, "token_invalid");
    let code = code_at(app, &secret, 30);
    let answer = second(&acme, &mfa, &code).await.expect(200);
    assert_eq!(part(answer.data()["accessToken"].as_str().unwrap(), 1)["amr"], json!(["pwd", "otp"]));
    bearer(&acme, &answer).get("/api/v1/users/me").await.expect(200);
    // Neither the token nor the code is good again.
    second(&acme, &mfa, &codes[0]).await.refused(401, "token_invalid");
    let mfa = token(&acme, &email).await;
    second(&acme, &mfa, &code).await.refused(401, "invalid_credentials");
    // A recovery code is, once.
    let answer = second(&acme, &mfa, &codes[0].to_uppercase()).await.expect(200);
    let stands = bearer(&acme, &answer).get("/api/v1/auth/mfa").await.expect(200);
    assert_eq!(stands.data()["recoveryCodesLeft"], 9);
    let mfa = token(&acme, &email).await;
    second(&acme, &mfa, &codes[0]).await.refused(401, "invalid_credentials");
    // The refreshed token says the same.
    let refresh = json!({"refreshToken": answer.data()["refreshToken"]});
    let refreshed = acme.anonymous().post("/api/v1/auth/refresh", refresh).await.expect(200);
    assert_eq!(part(refreshed.data()["accessToken"].as_str().unwrap(), 1)["amr"], json!(["pwd", "otp"]));
}

#[actix_web::test]
async fn of_a_hundred_with_one_code_one_comes_in() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    for kind in ["otp", "recovery"] {
        let (_, email, ada) = person(&acme, "user").await;
        let (secret, codes) = enrol(app, &ada).await;
        let code = if kind == "otp" { code_at(app, &secret, 30) } else { codes[0].clone() };
        let mfa = token(&acme, &email).await;
        let answers = join_all((0..100).map(|_| second(&acme, &mfa, &code))).await;
        let inside = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(inside, 1, "{kind}");
        assert!(answers.iter().all(|answer| [200, 401, 429, 503].contains(&answer.status)), "{kind}");
    }
}

#[actix_web::test]
async fn wrong_codes_and_wrong_passwords_count_together() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (_, email, ada) = person(&acme, "user").await;
    let (secret, _) = enrol(app, &ada).await;
    for _ in 0..2 {
        acme.log_in_as(&email, "wrong").await.refused(401, "invalid_credentials");
    }
    // The right password alone forgives nothing.
    let mfa = token(&acme, &email).await;
    for _ in 0..3 {
        second(&acme, &mfa, "000000").await.refused(401, "invalid_credentials");
    }
    let locked = second(&acme, &mfa, &code_at(app, &secret, 30)).await.refused(429, "too_many_attempts");
    assert!(locked.header("retry-after").is_some(), "{locked:?}");
    assert_eq!(locked.header("ratelimit-policy"), Some(r#""login";q=5;w=900"#), "{locked:?}");
    acme.log_in_as(&email, PASSWORD).await.refused(429, "too_many_attempts");
}

#[actix_web::test]
async fn a_challenge_is_of_one_tenant_and_of_five_minutes() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let (_, email, ada) = person(&acme, "user").await;
    let (secret, codes) = enrol(home, &ada).await;
    let mfa = token(&acme, &email).await;
    let elsewhere = acme.anonymous().with("x-tenant-id", globex.slug.as_str());
    let body = json!({"mfaToken": mfa, "code": codes[0]});
    elsewhere.post("/api/v1/auth/mfa", body.clone()).await.refused(404, "tenant_mismatch");
    for bad in ["", "tmf_", &format!("trf_{}", &mfa[4..]), &format!("{}x", &mfa[..mfa.len() - 1])] {
        second(&acme, bad, &codes[0]).await.refused(401, "token_invalid");
    }
    let there = app.at(&acme);
    // Its clock stood since it began: a minute more, for a machine that is slow.
    app.clock().advance(chrono::TimeDelta::minutes(6));
    there.anonymous().post("/api/v1/auth/mfa", body).await.refused(401, "token_expired");
    let _ = secret;
}

/// Whoever has the old password has nothing, halfway in or not.
#[actix_web::test]
async fn a_login_halfway_ends_with_the_sessions_and_the_password() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, email, ada) = person(&acme, "user").await;
    let (_, codes) = enrol(app, &ada).await;
    let mfa = token(&acme, &email).await;
    ada.post("/api/v1/auth/logout-all", json!({})).await.expect(204);
    second(&acme, &mfa, &codes[0]).await.refused(401, "token_invalid");
    let mfa = token(&acme, &email).await;
    acme.admin().delete(&format!("/api/v1/users/{id}/sessions")).await.expect(204);
    second(&acme, &mfa, &codes[0]).await.refused(401, "token_invalid");
    let mfa = token(&acme, &email).await;
    let new = json!({"password": "another uncommon sentence of words"});
    acme.admin().patch(&format!("/api/v1/users/{id}"), new).await.expect(200);
    second(&acme, &mfa, &codes[0]).await.refused(401, "token_invalid");
}

#[actix_web::test]
async fn a_trusted_device_is_asked_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (ada_s, email, ada) = person(&acme, "user").await;
    let (secret, codes) = enrol(app, &ada).await;
    let mfa = token(&acme, &email).await;
    let body = json!({"mfaToken": mfa, "code": code_at(app, &secret, 30), "trustDevice": true});
    let answer = acme.anonymous().post("/api/v1/auth/mfa", body).await.expect(200);
    let device = answer.data()["deviceToken"].as_str().expect("a token").to_owned();
    let login = |email: &str, device: &str| json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD, "deviceToken": device});
    let again = acme.anonymous().post("/api/v1/auth/login", login(&email, &device)).await.expect(200);
    assert_eq!(part(again.data()["accessToken"].as_str().unwrap(), 1)["amr"], json!(["pwd", "mfa"]));
    // It is Ada's alone.
    let (_, bob_s, bob) = person(&acme, "user").await;
    enrol(app, &bob).await;
    let asked = acme.anonymous().post("/api/v1/auth/login", login(&bob_s, &device)).await.expect(200);
    assert_eq!(asked.data()["mfaRequired"], true);
    // She sees it, Bob does not, and forgotten it is asked again.
    let me = bearer(&acme, &again);
    let list = me.get("/api/v1/auth/mfa/devices").await.expect(200);
    let id = list.data()[0]["id"].as_str().expect("a device").to_owned();
    bob.delete(&format!("/api/v1/auth/mfa/devices/{id}")).await.refused(404, "not_found");
    me.delete(&format!("/api/v1/auth/mfa/devices/{id}")).await.expect(204);
    let asked = acme.anonymous().post("/api/v1/auth/login", login(&email, &device)).await.expect(200);
    assert_eq!(asked.data()["mfaRequired"], true);
    // Nor is one trusted after the password has changed that it was trusted with.
    let body = json!({"mfaToken": asked.data()["mfaToken"], "code": codes[0], "trustDevice": true});
    let answer = acme.anonymous().post("/api/v1/auth/mfa", body).await.expect(200);
    let device = answer.data()["deviceToken"].as_str().expect("a token").to_owned();
    let new = json!({"password": "another uncommon sentence of words"});
    acme.another_login().await.patch(&format!("/api/v1/users/{ada_s}"), new.clone()).await.expect(200);
    let mut body = login(&email, &device);
    body["password"] = new["password"].clone();
    let asked = acme.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    assert_eq!(asked.data()["mfaRequired"], true);
}

#[actix_web::test]
async fn what_changes_the_factor_wants_fresh_proof() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let (_, email, _) = person(&acme, "user").await;
    let there = app.at(&acme);
    let ada = bearer(&there, &there.log_in_as(&email, PASSWORD).await.expect(200));
    app.clock().advance(chrono::TimeDelta::minutes(11));
    for (path, body) in [
        (TOTP, json!({})),
        ("/api/v1/auth/mfa/totp/confirm", json!({"code": "000000"})),
        ("/api/v1/auth/mfa/totp/remove", json!({"code": "000000"})),
        ("/api/v1/auth/mfa/recovery-codes", json!({"code": "000000"})),
    ] {
        ada.post(path, body).await.refused(403, "step_up_required");
    }
    let wrong = ada.post("/api/v1/auth/step-up", json!({"password": "wrong"})).await.expect(422);
    assert_eq!(wrong.invalid(), [("password".to_owned(), "incorrect".to_owned())]);
    // Where a factor is demanded, a password alone proves nothing any more.
    let demanded = acme.admin();
    let other = bearer(&there, &there.log_in_as(&email, PASSWORD).await.expect(200));
    demanded.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let refused = other.post("/api/v1/auth/step-up", json!({"password": PASSWORD})).await;
    assert_eq!((refused.status, refused.code()), (401, "token_revoked"), "{refused:?}");
    demanded.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": null})).await.expect(200);
    let ada = bearer(&there, &there.log_in_as(&email, PASSWORD).await.expect(200));
    let proof = ada.post("/api/v1/auth/step-up", json!({"password": PASSWORD})).await.expect(200);
    let fresh = bearer(&there, &proof);
    let (secret, codes) = enrol(&app, &fresh).await;
    // From here on a password is not enough.
    let without = fresh.post("/api/v1/auth/step-up", json!({"password": PASSWORD})).await.expect(422);
    assert_eq!(without.invalid(), [("code".to_owned(), "incorrect".to_owned())]);
    let body = json!({"password": PASSWORD, "code": code_at(&app, &secret, 30)});
    let proof = fresh.post("/api/v1/auth/step-up", body).await.expect(200);
    assert_eq!(part(proof.data()["accessToken"].as_str().unwrap(), 1)["amr"], json!(["pwd", "otp"]));
    let renewed = bearer(&there, &proof);
    app.clock().advance(chrono::TimeDelta::minutes(1));
    let body = json!({"code": code(&app, &secret)});
    let new = renewed.post("/api/v1/auth/mfa/recovery-codes", body).await.expect(200);
    let new: Vec<Value> = new.data()["recoveryCodes"].as_array().unwrap().clone();
    assert!(!new.contains(&json!(codes[0])) && new.len() == 10);
}

/// What ends a login that waits ends it though its second half has come already.
#[actix_web::test]
async fn a_second_half_waits_for_what_happens_to_its_person() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, email, ada) = person(&acme, "user").await;
    let (secret, _) = enrol(app, &ada).await;
    let mfa = token(&acme, &email).await;
    let mut holder = db::open(acme.database()).await;
    let change = format!("BEGIN; UPDATE users SET auth_version = auth_version + 1 WHERE id = '{id}'");
    holder.batch_execute(&change).await.unwrap();
    let waiting = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'",
        acme.role()
    );
    let right = code_at(app, &secret, 30);
    let end = async {
        eventually(seconds(10), "it waits", async || db::word(&app.server(), &waiting).await != "0").await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (answer, ()) = join(second(&acme, &mfa, &right), end).await;
    answer.refused(401, "token_invalid");
}

#[actix_web::test]
async fn a_lost_phone_is_an_administrator_s_to_mend_and_noted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, email, ada) = person(&acme, "user").await;
    enrol(app, &ada).await;
    let (_, _, bob) = person(&acme, "user").await;
    let path = format!("/api/v1/users/{id}/mfa");
    bob.delete(&path).await.refused(403, "permission_denied");
    acme.admin().delete(&path).await.expect(204);
    acme.admin().delete(&path).await.refused(404, "not_found");
    ada.get("/api/v1/users/me").await.refused(401, "token_revoked");
    acme.log_in_as(&email, PASSWORD).await.expect(200).data()["accessToken"].as_str().expect("no code is asked for");
    let noted =
        format!("SELECT actor || ' ' || action AS word FROM audit WHERE user_id = '{id}' AND action LIKE 'mfa.%'");
    let noted = db::word(acme.database(), &noted).await;
    assert_eq!(noted, format!("user:{} mfa.reset", acme.admin().user_id().await));
}

#[actix_web::test]
async fn a_seed_is_kept_sealed() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (id, _, ada) = person(&acme, "user").await;
    let (secret, codes) = enrol(app, &ada).await;
    let rows = format!(
        "SELECT second_factors::text || (SELECT string_agg(r::text, ',') FROM recovery_codes r) AS word \
         FROM second_factors WHERE user_id = '{id}'"
    );
    let rows = db::word(acme.database(), &rows).await;
    let seed = totp_rs::Secret::try_from_base32(&secret).unwrap();
    let hex: String = seed.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(rows.len() > 100 && !rows.contains(&hex) && !rows.contains(&secret) && !rows.contains(&codes[0]), "{rows}");
}

/// Whoever loses the answer with the recovery codes asks again with the same key, and has codes that work.
#[actix_web::test]
async fn a_confirmation_whose_answer_was_lost_gives_other_codes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (_, email, ada) = person(&acme, "user").await;
    let told = ada.post(TOTP, json!({})).await.expect(200);
    let secret = told.data()["secret"].as_str().expect("a seed").to_owned();
    let keyed = ada.with("idempotency-key", "confirm-1");
    // A wrong one is counted, and not kept as the answer.
    keyed.post(&format!("{TOTP}/confirm"), json!({"code": "000000"})).await.refused(422, "validation_failed");
    let body = json!({"code": code(app, &secret)});
    let lost = keyed.post(&format!("{TOTP}/confirm"), body.clone()).await.expect(200);
    let again = keyed.post(&format!("{TOTP}/confirm"), body).await.expect(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_ne!(again.data()["recoveryCodes"], lost.data()["recoveryCodes"]);
    let kept =
        "SELECT count(*)::text AS word FROM idempotency_records WHERE scope LIKE '%totp/confirm%' AND body IS NOT NULL";
    assert_eq!(db::word(acme.database(), kept).await, "0", "no record holds a secret");
    let one = |answer: &Answer| answer.data()["recoveryCodes"][0].as_str().expect("a code").to_owned();
    second(&acme, &token(&acme, &email).await, &one(&lost)).await.refused(401, "invalid_credentials");
    second(&acme, &token(&acme, &email).await, &one(&again)).await.expect(200);
}

/// Who had the password of before comes in by none of the halves that it opened.
#[actix_web::test]
async fn a_login_that_waits_ends_with_what_an_administrator_changes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, (id, email, ada)) = (acme.another_login().await, person(&acme, "user").await);
    let path = format!("/api/v1/users/{id}");
    let (_, codes) = enrol(app, &ada).await;
    let waits = token(&acme, &email).await;
    admin.patch(&path, json!({"status": "deactivated"})).await.expect(200);
    let left = format!("SELECT count(*)::text AS word FROM mfa_challenges WHERE user_id = '{id}'");
    assert_eq!(db::word(acme.database(), &left).await, "0");
    admin.patch(&path, json!({"status": "active"})).await.expect(200);
    assert_eq!(second(&acme, &waits, &codes[0]).await.status, 401);
    let waits = token(&acme, &email).await;
    admin.patch(&path, json!({"password": "quite another sentence of words"})).await.expect(200);
    assert_eq!(db::word(acme.database(), &left).await, "0");
    assert_eq!(second(&acme, &waits, &codes[0]).await.status, 401);
}
