//! Passkeys, from the first one to the lost device.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::device::Device;
use crate::support::identity::{back, begin, evil, provider};
use crate::support::jwt::part;
use crate::support::{authenticator, db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
pub(super) const ORIGIN: &str = "http://localhost:8765";
const KEYS: &str = "/api/v1/auth/passkeys";
pub(super) const LOGIN: &str = "/api/v1/auth/passkeys/login";

/// A node whose public address has a name, and a tenant there.
pub(super) async fn node() -> (TestApp, Tenant) {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_PUBLIC_URL", ORIGIN).start().await;
    let acme = home.tenant("acme").await.at(app.url());
    (app, acme)
}

pub(super) async fn person(acme: &Tenant, role: &str) -> (String, Persona) {
    let email = format!("{}@example.com", unique(role));
    let body = json!({"email": email, "firstName": "A", "lastName": "B", "password": PASSWORD, "roles": [role]});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let who = acme.person(&email, PASSWORD);
    (email, who)
}

/// Adds a passkey to somebody.
pub(super) async fn add(who: &Persona) -> (Device, String) {
    let mut device = Device::new(ORIGIN, "localhost");
    let id = put(who, &mut device).await;
    (device, id)
}

/// Adds this one.
async fn put(who: &Persona, device: &mut Device) -> String {
    let options = who.post(&format!("{KEYS}/options"), json!({})).await.expect(200);
    let body = json!({"ceremonyId": options.data()["ceremonyId"], "name": "Phone", "credential": device.create(options.data())});
    who.post(KEYS, body).await.expect(201).id()
}

pub(super) async fn options(acme: &Tenant) -> Value {
    let asked = acme.anonymous().post(&format!("{LOGIN}/options"), json!({"tenant": acme.slug.as_str()})).await;
    asked.expect(200).data().clone()
}

pub(super) async fn log_in(acme: &Tenant, options: &Value, credential: &Value) -> Answer {
    let body = json!({"tenant": acme.slug.as_str(), "ceremonyId": options["ceremonyId"], "credential": credential});
    acme.anonymous().post(LOGIN, body).await
}

/// Signs in with nothing but the passkey.
pub(super) async fn come_in(acme: &Tenant, device: &mut Device) -> Persona {
    let asked = options(acme).await;
    let signed_in = log_in(acme, &asked, &device.get(&asked)).await.expect(200);
    acme.anonymous().bearing(signed_in.data()["accessToken"].as_str().unwrap())
}

/// A login that waits for the passkey, and what that is asked with.
struct Waiting {
    token: Value,
    options: Value,
}

impl Waiting {
    async fn begin(acme: &Tenant, email: &str) -> Self {
        let token = acme.log_in_as(email, PASSWORD).await.expect(200).data()["mfaToken"].clone();
        let asked = acme.anonymous().post("/api/v1/auth/mfa/webauthn/options", json!({"mfaToken": token})).await;
        Self { options: asked.expect(200).data().clone(), token }
    }

    async fn end(&self, acme: &Tenant, device: &mut Device) -> Answer {
        let credential = device.get(&self.options);
        let body = json!({"mfaToken": self.token, "ceremonyId": self.options["ceremonyId"], "credential": credential});
        acme.anonymous().post("/api/v1/auth/mfa/webauthn", body).await
    }
}

#[actix_web::test]
async fn a_passkey_is_added_used_renamed_and_removed() {
    let (app, acme) = node().await;
    let (_, ada) = person(&acme, "user").await;
    let (mut device, id) = add(&ada).await;
    let asked = options(&acme).await;
    let signed_in = log_in(&acme, &asked, &device.get(&asked)).await.expect(200);
    let token = signed_in.data()["accessToken"].as_str().unwrap();
    assert_eq!(part(token, 1)["amr"], json!(["pop", "mfa"]));
    let here = acme.anonymous().bearing(token);
    let listed = here.get(KEYS).await.expect(200);
    assert!(listed.data()[0]["lastUsedAt"].is_string() && listed.data()[0]["name"] == "Phone", "{listed:?}");
    let path = format!("{KEYS}/{id}");
    here.patch(&path, json!({"name": "Laptop"})).await.expect(200);
    acme.user().patch(&path, json!({"name": "Mine"})).await.refused(404, "not_found");
    acme.user().delete(&path).await.refused(404, "not_found");
    let line = here.get("/api/v1/users/me/login-history").await.expect(200).data()[0].clone();
    assert_eq!((&line["kind"], &line["outcome"]), (&json!("passkey"), &json!("succeeded")));
    // Changing what proves who one is wants fresh proof.
    app.clock().advance(chrono::TimeDelta::minutes(11));
    here.delete(&path).await.refused(403, "step_up_required");
    here.post(&format!("{KEYS}/options"), json!({})).await.refused(403, "step_up_required");
    let fresh = come_in(&acme, &mut device).await;
    fresh.delete(&path).await.expect(204);
    let asked = options(&acme).await;
    log_in(&acme, &asked, &device.get(&asked)).await.refused(401, "invalid_credentials");
    let noted = "SELECT string_agg(action, ' ' ORDER BY at) AS word FROM audit WHERE action LIKE 'passkey%'";
    assert_eq!(db::word(acme.database(), noted).await, "passkey.added passkey.removed");
}

#[actix_web::test]
async fn an_answer_counts_once_and_only_to_its_question() {
    let (app, acme) = node().await;
    let (_, ada) = person(&acme, "user").await;
    let (mut device, _) = add(&ada).await;
    // Of a hundred who bring one answer, one comes in.
    let asked = options(&acme).await;
    let answer = device.get(&asked);
    let all = join_all((0..100).map(|_| log_in(&acme, &asked, &answer))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    app.clock().advance(chrono::TimeDelta::minutes(16));

    let wrong = async |what: &str, answer: Value, asked: &Value| {
        let refused = log_in(&acme, asked, &answer).await;
        assert_eq!((refused.status, refused.code()), (401, "invalid_credentials"), "{what}: {refused:?}");
        // Each stands for itself, whatever the others counted.
        app.clock().advance(chrono::TimeDelta::minutes(16));
    };
    let (one, two) = (options(&acme).await, options(&acme).await);
    wrong("another question's answer", device.get(&one), &two).await;
    let asked = options(&acme).await;
    device.unlocked = false;
    wrong("nobody unlocked it", device.get(&asked), &asked).await;
    device.unlocked = true;
    let asked = options(&acme).await;
    device.origin = "http://localhost.evil.example".to_owned();
    wrong("another page asked", device.get(&asked), &asked).await;
    device.origin = ORIGIN.to_owned();
    let asked = options(&acme).await;
    let user = std::mem::replace(&mut device.user, vec![7; 16]);
    wrong("in somebody else's name", device.get(&asked), &asked).await;
    device.user = user;
    let asked = options(&acme).await;
    let mut forged = device.get(&asked);
    forged["response"]["signature"] = Device::new(ORIGIN, "localhost").get(&asked)["response"]["signature"].clone();
    wrong("another key's signature", forged, &asked).await;
    let asked = options(&acme).await;
    wrong("nobody's passkey", Device::new(ORIGIN, "localhost").get(&asked), &asked).await;
    let asked = options(&acme).await;
    let late = device.get(&asked);
    app.clock().advance(chrono::TimeDelta::minutes(6));
    wrong("too late", late, &asked).await;
    let asked = options(&acme).await;
    let counter = std::mem::replace(&mut device.counter, 0);
    wrong("a copy, whose counter is behind", device.get(&asked), &asked).await;
    device.counter = counter;
    let noted = "SELECT string_agg(reason, ' ') AS word FROM audit WHERE action = 'passkey.copied'";
    assert_eq!(db::word(acme.database(), noted).await, "Phone");
    come_in(&acme, &mut device).await;
    let globex = TestApp::shared().await.tenant("globex").await.at(app.url());
    let asked = options(&globex).await;
    log_in(&globex, &asked, &device.get(&asked)).await.refused(401, "invalid_credentials");
    let nowhere = acme.anonymous().post(&format!("{LOGIN}/options"), json!({"tenant": unique("t")})).await;
    nowhere.refused(401, "invalid_credentials");
}

#[actix_web::test]
async fn a_passkey_is_a_second_factor() {
    let (app, acme) = node().await;
    let (email, ada) = person(&acme, "user").await;
    let seed = ada.post("/api/v1/auth/mfa/totp", json!({})).await.expect(200).data()["secret"].clone();
    let (mut device, _) = add(&ada).await;
    // Nobody asks for a second factor yet.
    assert!(acme.log_in_as(&email, PASSWORD).await.expect(200).data()["accessToken"].is_string());
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let asked = acme.log_in_as(&email, PASSWORD).await.expect(200);
    assert_eq!(asked.data()["methods"], json!(["webauthn"]), "{asked:?}");
    let token = asked.data()["mfaToken"].clone();
    let nobody = acme.anonymous();
    // With the password alone nobody makes themselves another factor, nor completes one that was begun.
    let enrolment = "/api/v1/auth/mfa/enrolment";
    nobody.post(enrolment, json!({"mfaToken": token})).await.refused(409, "conflict");
    let code = authenticator::code(&app, seed.as_str().unwrap());
    let first = json!({"mfaToken": token, "code": code});
    nobody.post(&format!("{enrolment}/confirm"), first).await.refused(409, "conflict");
    let path = "/api/v1/auth/mfa/webauthn";
    let options = nobody.post(&format!("{path}/options"), json!({"mfaToken": token})).await.expect(200);
    let mut stranger = Device::new(ORIGIN, "localhost");
    let with = |credential: Value, options: &Answer| json!({"mfaToken": token, "ceremonyId": options.data()["ceremonyId"], "credential": credential});
    let wrong = nobody.post(path, with(stranger.get(options.data()), &options)).await;
    wrong.refused(401, "invalid_credentials");
    let right = device.get(options.data());
    nobody.post(path, with(right, &options)).await.refused(401, "invalid_credentials");
    let options = nobody.post(&format!("{path}/options"), json!({"mfaToken": token})).await.expect(200);
    let answer = with(device.get(options.data()), &options);
    let signed_in = nobody.post(path, answer.clone()).await.expect(200);
    let bearer = signed_in.data()["accessToken"].as_str().unwrap();
    assert_eq!(part(bearer, 1)["amr"], json!(["pwd", "pop", "mfa"]));
    nobody.post(path, answer).await.refused(401, "token_invalid");
    let refresh = json!({"refreshToken": signed_in.data()["refreshToken"]});
    nobody.post("/api/v1/auth/refresh", refresh).await.expect(200);
    // Whoever lost the device is helped by an administrator.
    let id = signed_in.data()["user"]["id"].as_str().unwrap();
    acme.admin().delete(&format!("/api/v1/users/{id}/mfa")).await.expect(204);
    nobody.bearing(bearer).get("/api/v1/users/me").await.refused(401, "token_revoked");
    let asked = acme.log_in_as(&email, PASSWORD).await.expect(200);
    assert_eq!(asked.data()["methods"], json!(["enrolment"]), "{asked:?}");
}

#[actix_web::test]
async fn a_session_of_a_passkey_shows_more_and_loses_nothing() {
    let (app, acme) = node().await;
    let (_, ada) = person(&acme, "user").await;
    let (mut device, id) = add(&ada).await;
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let here = come_in(&acme, &mut device).await;
    let amr = |answer: &Answer| part(answer.data()["accessToken"].as_str().unwrap(), 1)["amr"].clone();
    let step_up = "/api/v1/auth/step-up";
    let proven = here.post(step_up, json!({"password": PASSWORD})).await.expect(200);
    assert_eq!(amr(&proven), json!(["pop", "mfa", "pwd"]));
    here.get("/api/v1/users/me").await.expect(200);
    let told = here.post("/api/v1/auth/mfa/totp", json!({})).await.expect(200);
    let seed = told.data()["secret"].as_str().unwrap();
    let first = json!({"code": authenticator::code(&app, seed)});
    let confirmed = here.post("/api/v1/auth/mfa/totp/confirm", first).await.expect(200);
    let both = json!({"password": PASSWORD, "code": authenticator::code_at(&app, seed, 30)});
    let proven = here.post(step_up, both).await.expect(200);
    assert_eq!(amr(&proven), json!(["pop", "mfa", "pwd", "otp"]));

    // Of two factors either may go, and the last one stays while one is demanded.
    let (_, second) = add(&here).await;
    here.delete(&format!("{KEYS}/{second}")).await.expect(204);
    let spare = json!({"code": confirmed.data()["recoveryCodes"][0]});
    here.post("/api/v1/auth/mfa/totp/remove", spare).await.expect(204);
    let path = format!("{KEYS}/{id}");
    here.delete(&path).await.refused(409, "conflict");
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": null})).await.expect(200);
    here.delete(&path).await.expect(204);
}

/// What a passkey has made trusted is trusted no longer than the passkey.
#[actix_web::test]
async fn a_removed_passkey_leaves_no_trusted_device() {
    let (_app, acme) = node().await;
    let (email, ada) = person(&acme, "user").await;
    let ((mut phone, first), _) = (add(&ada).await, add(&ada).await);
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let Waiting { token, options } = Waiting::begin(&acme, &email).await;
    let body = json!({"mfaToken": token, "ceremonyId": options["ceremonyId"], "credential": phone.get(&options),
        "trustDevice": true});
    let passed = acme.anonymous().post("/api/v1/auth/mfa/webauthn", body).await.expect(200);
    let login = json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD,
        "deviceToken": passed.data()["deviceToken"]});
    let come = async || acme.anonymous().post("/api/v1/auth/login", login.clone()).await.expect(200);
    assert!(come().await.data()["accessToken"].is_string(), "the control: the device is trusted");
    let here = acme.anonymous().bearing(passed.data()["accessToken"].as_str().unwrap());
    here.delete(&format!("{KEYS}/{first}")).await.expect(204);
    assert_eq!(come().await.data()["methods"], json!(["webauthn"]));
}

/// A question holds what was so when it was asked; what is so when it is answered counts.
#[actix_web::test]
async fn what_happens_between_question_and_answer_counts() {
    let (_app, acme) = node().await;
    let (email, ada) = person(&acme, "user").await;
    let ((mut phone, first), (mut laptop, second)) = (add(&ada).await, add(&ada).await);
    let (other, bob) = person(&acme, "user").await;
    let mut uncounted = Device::new(ORIGIN, "localhost");
    uncounted.counter = u32::MAX;
    put(&bob, &mut uncounted).await;
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let copied = async || {
        let noted = "SELECT count(*)::text AS word FROM audit WHERE action = 'passkey.copied'";
        db::word(acme.database(), noted).await
    };

    // Used meanwhile: the copy does not know how often.
    let waiting = Waiting::begin(&acme, &email).await;
    come_in(&acme, &mut phone).await;
    phone.counter -= 1;
    waiting.end(&acme, &mut phone).await.refused(401, "invalid_credentials");
    assert_eq!(copied().await, "1");
    let waiting = Waiting::begin(&acme, &email).await;
    phone.unlocked = false;
    waiting.end(&acme, &mut phone).await.refused(401, "invalid_credentials");
    phone.unlocked = true;
    let waiting = Waiting::begin(&acme, &email).await;
    waiting.end(&acme, &mut phone).await.expect(200);

    // Many never count. What has begun to does not stop.
    for _ in 0..2 {
        uncounted.counter = u32::MAX;
        come_in(&acme, &mut uncounted).await;
    }
    let waiting = Waiting::begin(&acme, &other).await;
    come_in(&acme, &mut uncounted).await;
    uncounted.counter = u32::MAX;
    waiting.end(&acme, &mut uncounted).await.refused(401, "invalid_credentials");
    assert_eq!(copied().await, "2");

    // Removed meanwhile, and then somebody else's.
    let waiting = Waiting::begin(&acme, &email).await;
    let here = come_in(&acme, &mut laptop).await;
    here.delete(&format!("{KEYS}/{first}")).await.expect(204);
    waiting.end(&acme, &mut phone).await.refused(401, "invalid_credentials");
    let waiting = Waiting::begin(&acme, &email).await;
    here.delete(&format!("{KEYS}/{second}")).await.refused(409, "conflict");
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": null})).await.expect(200);
    here.delete(&format!("{KEYS}/{second}")).await.expect(204);
    let hers = laptop.user.clone();
    put(&acme.admin(), &mut laptop).await;
    laptop.user = hers;
    waiting.end(&acme, &mut laptop).await.refused(401, "invalid_credentials");
}

#[actix_web::test]
async fn a_passkey_is_no_good_where_it_does_not_answer() {
    let (_app, acme) = node().await;
    let (_, ada) = person(&acme, "user").await;
    let asked = ada.post(&format!("{KEYS}/options"), json!({})).await.expect(200);
    let body = |credential: Value, asked: &Answer| json!({"ceremonyId": asked.data()["ceremonyId"], "name": "Phone", "credential": credential});
    for credential in [json!({}), json!("x"), json!({"id": "x", "rawId": "x", "type": "public-key", "response": {}})] {
        ada.post(KEYS, body(credential, &asked)).await.refused(422, "validation_failed");
    }
    let mut device = Device::new("http://evil.example", "localhost");
    ada.post(KEYS, body(device.create(asked.data()), &asked)).await.refused(422, "validation_failed");
    let mut device = Device::new(ORIGIN, "evil.example");
    ada.post(KEYS, body(device.create(asked.data()), &asked)).await.refused(422, "validation_failed");
    let mut device = Device::new(ORIGIN, "localhost");
    device.unlocked = false;
    ada.post(KEYS, body(device.create(asked.data()), &asked)).await.refused(422, "validation_failed");
    // Somebody else's question.
    let mut device = Device::new(ORIGIN, "localhost");
    let theirs = acme.admin().post(&format!("{KEYS}/options"), json!({})).await.expect(200);
    ada.post(KEYS, body(device.create(theirs.data()), &theirs)).await.refused(422, "validation_failed");
    let good = body(device.create(asked.data()), &asked);
    let twice = ada.with("idempotency-key", "one");
    let first = twice.post(KEYS, good.clone()).await.expect(201);
    assert_eq!(twice.post(KEYS, good.clone()).await.expect(201).id(), first.id());
    ada.post(KEYS, good).await.refused(422, "validation_failed");
    // A node whose address has no name.
    let home = acme.at(TestApp::shared().await.url());
    let none = home.admin().post(&format!("{KEYS}/options"), json!({})).await;
    assert!([200, 409].contains(&none.status), "{none:?}");
}

#[actix_web::test]
async fn whoever_is_deactivated_does_not_come_in_by_a_passkey() {
    let (_app, acme) = node().await;
    let (email, ada) = person(&acme, "user").await;
    let (mut device, _) = add(&ada).await;
    come_in(&acme, &mut device).await;
    db::execute(acme.database(), &format!("UPDATE users SET status = 'deactivated' WHERE email = '{email}'")).await;
    let asked = options(&acme).await;
    log_in(&acme, &asked, &device.get(&asked)).await.refused(401, "invalid_credentials");
}

/// Whoever has no password keeps what they come in with, or a mail would be all that is left.
#[actix_web::test]
async fn the_last_way_to_sign_in_stays() {
    let home = TestApp::shared().await;
    let node = TestApp::builder().beside(home).set("TENANTRY_PUBLIC_URL", ORIGIN);
    let app = node.set("TENANTRY_OUTBOUND__ALLOW", "127.0.0.0/8").start().await;
    let acme = home.tenant("acme").await.at(app.url());
    provider(&acme, "evil", &format!("{}/ways", evil()), json!({})).await;
    let begun = begin(&acme, "evil").await;
    let code = begun.code(&json!({"claims": {"sub": unique("s"), "email": "ada@acme.test"}}));
    let came = back(&acme.anonymous(), &begun.state, &code, None).await.expect(200);
    let ada = acme.anonymous().bearing(came.data()["accessToken"].as_str().unwrap());
    let (_, first) = add(&ada).await;
    let accounts = "/api/v1/users/me/social-accounts";
    let account = ada.get(accounts).await.expect(200).data()[0]["id"].as_str().unwrap().to_owned();
    ada.delete(&format!("{accounts}/{account}")).await.expect(204);
    ada.delete(&format!("{KEYS}/{first}")).await.refused(409, "conflict");
    // Of two either may go.
    let (mut device, second) = add(&ada).await;
    ada.delete(&format!("{KEYS}/{first}")).await.expect(204);
    ada.delete(&format!("{KEYS}/{second}")).await.refused(409, "conflict");
    come_in(&acme, &mut device).await.get("/api/v1/users/me").await.expect(200);
}
