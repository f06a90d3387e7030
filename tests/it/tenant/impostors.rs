//! Whoever signs up with an address that is not theirs, and waits for its owner.

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use crate::support::authenticator;
use crate::support::db;
use crate::support::smtp::{Smtp, shared};
use crate::support::unique;

const PASSWORD: &str = "an uncommon sentence of five words";
const NEW: &str = "quite another sentence of words";

async fn post(tenant: &Tenant, path: &str, body: Value) -> Answer {
    tenant.anonymous().post(&format!("/api/v1/auth/{path}"), body).await
}

/// A tenant where anybody signs up, and nobody has to show that the address is theirs.
async fn open(app: &TestApp) -> Tenant {
    let acme = app.tenant("acme").await;
    let anybody = json!({"mode": "open", "verifyEmail": false});
    acme.admin().patch("/api/v1/sign-up-policy", anybody).await.expect(200);
    acme
}

/// Somebody who has signed up.
struct Account {
    id: String,
    email: String,
    person: Persona,
}

async fn sign_up(acme: &Tenant) -> Account {
    let email = format!("{}@example.com", unique("victim"));
    let body =
        json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD, "firstName": "G", "lastName": "H"});
    let id = post(acme, "register", body).await.expect(201).data()["user"]["id"].clone();
    let person = acme.person(&email, PASSWORD);
    Account { id: id.as_str().expect("an id").to_owned(), email, person }
}

/// Leaves in an account all that opens it; gives what acts in its name.
async fn plant(app: &TestApp, acme: &Tenant, Account { id, person, .. }: &Account) -> Persona {
    let provider = json!({"slug": unique("g"), "name": "G", "kind": "google", "clientId": "c",
        "redirectUris": ["https://app.example.com/callback"]});
    let provider = acme.admin().post("/api/v1/identity-providers", provider).await.expect(201).id();
    acme.admin().patch(&format!("/api/v1/users/{id}"), json!({"roles": ["admin"]})).await.expect(200);
    let key = person.post("/api/v1/api-keys", json!({"name": "k", "scopes": ["users:read"]})).await.expect(201);
    let program = acme.anonymous().with("x-api-key", key.data()["key"].as_str().expect("the key"));
    program.get("/api/v1/users").await.expect(200);
    let seed = person.post("/api/v1/auth/mfa/totp", json!({})).await.expect(200).data()["secret"].clone();
    let code = json!({"code": authenticator::code(app, seed.as_str().unwrap())});
    person.post("/api/v1/auth/mfa/totp/confirm", code).await.expect(200);
    let planted = format!(
        "INSERT INTO passkeys (id, user_id, name, credential_id, credential, created_at) \
         VALUES (gen_random_uuid(), '{id}', 'k', sha256('{id}'::bytea), '{{}}', now()); \
         INSERT INTO social_accounts (id, user_id, provider_id, issuer, subject, created_at, last_used_at) \
         VALUES (gen_random_uuid(), '{id}', '{provider}', 'g', '{id}', now(), now()); \
         INSERT INTO scim_tokens (id, name, owner_id, token_hash, hint, created_at) \
         VALUES (gen_random_uuid(), 's', '{id}', sha256('{id}'::bytea), 'hint', now()); \
         INSERT INTO oauth_clients (id, name, owner_id, redirect_uris, grants, scopes, created_at, updated_at) \
         SELECT gen_random_uuid(), 'a', id, '{{}}', '{{client_credentials}}', '{{}}', now(), now() \
         FROM users WHERE id = '{id}' OR email = '{}'; \
         INSERT INTO oauth_consents (user_id, client_id, scopes, created_at, updated_at) \
         SELECT '{id}', id, '{{}}', now(), now() FROM oauth_clients WHERE owner_id <> '{id}'",
        acme.email()
    );
    db::execute(acme.database(), &planted).await;
    program
}

/// How many passkeys, accounts at providers, API keys, second factors, tokens for directories, apps and consents to the apps
/// of others there are.
async fn left(acme: &Tenant, id: &str) -> String {
    let left = format!(
        "SELECT (SELECT count(*) FROM passkeys WHERE user_id = '{id}') || ' ' || \
         (SELECT count(*) FROM social_accounts WHERE user_id = '{id}') || ' ' || \
         (SELECT count(*) FROM api_keys WHERE owner_id = '{id}') || ' ' || \
         (SELECT count(*) FROM second_factors WHERE user_id = '{id}') || ' ' || \
         (SELECT count(*) FROM scim_tokens WHERE owner_id = '{id}') || ' ' || \
         (SELECT count(*) FROM oauth_clients WHERE owner_id = '{id}') || ' ' || \
         (SELECT count(*) FROM oauth_consents WHERE user_id = '{id}') AS word"
    );
    db::word(acme.database(), &left).await
}

async fn said(acme: &Tenant, id: &str, action: &str) -> String {
    let said =
        format!("SELECT coalesce(reason, 'none') AS word FROM audit WHERE user_id = '{id}' AND action = '{action}'");
    db::word(acme.database(), &said).await
}

/// Follows the link that verifies an address, as somebody who asks for it once more.
async fn verify(acme: &Tenant, smtp: &Smtp, email: &str, who: &Persona) {
    post(acme, "verify-email/resend", json!({"tenant": acme.slug.as_str(), "email": email})).await.expect(202);
    let token = smtp.letter(email, "Confirm your address").await.token();
    who.post("/api/v1/auth/verify-email", json!({"token": token})).await.expect(204);
}

/// Chooses a new password, and logs in with it.
async fn reset(acme: &Tenant, smtp: &Smtp, email: &str) -> Answer {
    let token = smtp.letter(email, "Choose a new password").await.token();
    post(acme, "reset-password", json!({"token": token, "newPassword": NEW})).await.expect(204);
    acme.log_in_as(email, NEW).await.expect(200)
}

async fn forgot(acme: &Tenant, email: &str) {
    post(acme, "forgot-password", json!({"tenant": acme.slug.as_str(), "email": email})).await.expect(202);
}

#[actix_web::test]
async fn an_impostor_leaves_nothing_in_an_account_whose_owner_chooses_a_password() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    let program = plant(app, &acme, &account).await;
    forgot(&acme, &account.email).await;
    let came = reset(&acme, smtp, &account.email).await;
    assert_ne!(came.data()["mfaRequired"], true, "{came:?}");
    program.get("/api/v1/users").await.refused(401, "token_invalid");
    assert_eq!(left(&acme, &account.id).await, "0 0 0 0 0 0 0");
    let said = said(&acme, &account.id, "password.reset").await;
    assert!(said.contains("passkeys: 1"), "{said}");
}

/// The link is genuine, and it is the impostor who has it sent.
#[actix_web::test]
async fn an_impostor_leaves_nothing_in_an_account_whose_owner_follows_a_link() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    let program = plant(app, &acme, &account).await;
    let session = account.person.token().await;
    verify(&acme, smtp, &account.email, &acme.anonymous()).await;
    assert_eq!(left(&acme, &account.id).await, "0 0 0 0 0 0 0");
    program.get("/api/v1/users").await.refused(401, "token_invalid");
    let me = acme.anonymous().bearing(&session).get("/api/v1/users/me").await;
    me.refused(401, "token_revoked");
    acme.log_in_as(&account.email, PASSWORD).await.refused(401, "invalid_credentials");
    let said = said(&acme, &account.id, "email.verified").await;
    assert!(said.contains("passkeys: 1"), "{said}");
    // The mail is there without being asked for.
    let came = reset(&acme, smtp, &account.email).await;
    assert_ne!(came.data()["mfaRequired"], true, "{came:?}");
}

#[actix_web::test]
async fn a_newcomer_who_verifies_keeps_session_and_password() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    let session = account.person.token().await;
    verify(&acme, smtp, &account.email, &acme.anonymous()).await;
    acme.anonymous().bearing(&session).get("/api/v1/users/me").await.expect(200);
    acme.log_in_as(&account.email, PASSWORD).await.expect(200);
    assert_eq!(said(&acme, &account.id, "email.verified").await, "none");
    let sent = "SELECT count(*)::text AS word FROM mail_outbox WHERE kind = 'password-reset'";
    assert_eq!(db::word(acme.database(), sent).await, "0");
}

/// Who signed up, and reads the mail, is the same person: mail alone is no way around what they have enrolled.
#[actix_web::test]
async fn a_newcomer_who_verifies_signed_in_keeps_what_they_have_enrolled() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    let program = plant(app, &acme, &account).await;
    verify(&acme, smtp, &account.email, &account.person).await;
    forgot(&acme, &account.email).await;
    let came = reset(&acme, smtp, &account.email).await;
    assert_eq!(came.data()["mfaRequired"], true, "{came:?}");
    program.get("/api/v1/users").await.expect(200);
    assert_eq!(left(&acme, &account.id).await, "1 1 1 1 1 1 1");
    assert_eq!(said(&acme, &account.id, "password.reset").await, "none");
}

/// A passkey or an account elsewhere may be what was left there: who comes in by one may be the impostor.
#[actix_web::test]
async fn an_impostor_keeps_nothing_by_a_session_that_no_password_has_opened() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    plant(app, &acme, &account).await;
    let opened = format!("UPDATE sessions SET amr = '{{pop,mfa}}' WHERE user_id = '{}'", account.id);
    db::execute(acme.database(), &opened).await;
    let by = json!({"refreshToken": account.person.refresh_token().await});
    let session = post(&acme, "refresh", by).await.expect(200).data()["accessToken"].clone();
    let session = acme.anonymous().bearing(session.as_str().expect("a token"));
    verify(&acme, smtp, &account.email, &session).await;
    assert_eq!(left(&acme, &account.id).await, "0 0 0 0 0 0 0");
    session.get("/api/v1/users/me").await.refused(401, "token_revoked");
}

/// In a copy of the database nobody's address is verified, nor is one that an administrator has given: the audit knows that
/// its person has shown one before.
#[actix_web::test]
async fn mail_alone_is_no_way_around_what_somebody_has_enrolled_who_had_shown_an_address() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    verify(&acme, smtp, &account.email, &acme.anonymous()).await;
    plant(app, &acme, &account).await;
    let other = format!("{}@example.com", unique("other"));
    acme.admin().patch(&format!("/api/v1/users/{}", account.id), json!({"email": other})).await.expect(200);
    let verified = format!("SELECT (email_verified_at IS NULL)::text AS word FROM users WHERE id = '{}'", account.id);
    assert_eq!(db::word(acme.database(), &verified).await, "true");
    forgot(&acme, &other).await;
    let came = reset(&acme, smtp, &other).await;
    assert_eq!(came.data()["mfaRequired"], true, "{came:?}");
    assert_eq!(left(&acme, &account.id).await, "1 1 1 1 1 1 1");
}

/// The first person was set up with the organisation, and the audit says so: whoever is the oldest one later was not.
#[actix_web::test]
async fn an_impostor_does_not_become_the_first_person() {
    let (app, smtp) = shared().await;
    let acme = open(app).await;
    let account = sign_up(&acme).await;
    plant(app, &acme, &account).await;
    let first = "SELECT count(*)::text || string_agg(actor, ' ') AS word FROM audit WHERE action = 'user.created'";
    assert_eq!(db::word(acme.database(), first).await, "1system");
    db::execute(acme.database(), &format!("DELETE FROM users WHERE id <> '{}'", account.id)).await;
    forgot(&acme, &account.email).await;
    let came = reset(&acme, smtp, &account.email).await;
    assert_ne!(came.data()["mfaRequired"], true, "{came:?}");
    assert_eq!(left(&acme, &account.id).await, "0 0 0 0 0 0 0");
}
