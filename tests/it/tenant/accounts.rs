//! To an account and back to it by links in mails: as people do it, with a real mail server.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Tenant};

use crate::support::authenticator;
use crate::support::smtp::shared;
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
const NEW: &str = "quite another sentence of words";

fn address(name: &str) -> String {
    format!("{}@example.com", unique(name))
}

fn sign_up(tenant: &Tenant, email: &str) -> Value {
    json!({"tenant": tenant.slug.as_str(), "email": email, "password": PASSWORD, "firstName": "Grace", "lastName": "H"})
}

async fn post(tenant: &Tenant, path: &str, body: Value) -> Answer {
    tenant.anonymous().post(&format!("/api/v1/auth/{path}"), body).await
}

async fn forgot(tenant: &Tenant, email: &str) -> Answer {
    post(tenant, "forgot-password", json!({"tenant": tenant.slug.as_str(), "email": email})).await.expect(202)
}

async fn reset(tenant: &Tenant, token: &str) -> Answer {
    post(tenant, "reset-password", json!({"token": token, "newPassword": NEW})).await
}

async fn policy(tenant: &Tenant, change: Value) {
    tenant.admin().patch("/api/v1/sign-up-policy", change).await.expect(200);
}

/// An answer without what differs from one request to the next.
fn alike(answer: &Answer) -> (u16, Value) {
    let mut body = answer.body.clone();
    body["meta"] = Value::Null;
    (answer.status, body)
}

#[actix_web::test]
async fn an_account_is_made_by_the_link_in_a_mail() {
    let (app, smtp) = shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    policy(&acme, json!({"mode": "open", "verifyEmail": true})).await;
    let email = address("grace");
    let asked = post(&acme, "register", sign_up(&acme, &email)).await.expect(202);
    // Whoever is here already is answered alike, and told by mail.
    let taken = post(&acme, "register", sign_up(&acme, acme.email())).await.expect(202);
    assert_eq!(alike(&asked), alike(&taken));
    smtp.letter(acme.email(), "have an account already").await;
    acme.log_in_as(&email, PASSWORD).await.refused(401, "invalid_credentials");
    let people = acme.admin().get("/api/v1/users?pageSize=100").await.expect(200);
    assert!(!people.text.contains(&email), "nobody is here before the address is verified");

    let first = smtp.letter(&email, "Confirm your address").await;
    assert!(first.text.contains("https://app.example.com/verify-email?token=tev_"), "{first:?}");
    let again = json!({"tenant": acme.slug.as_str(), "email": email});
    let resent = post(&acme, "verify-email/resend", again).await.expect(202);
    let nobody = json!({"tenant": acme.slug.as_str(), "email": address("nobody")});
    assert_eq!(alike(&resent), alike(&post(&acme, "verify-email/resend", nobody).await));
    eventually(seconds(30), "it is sent again", async || smtp.letters(&email).len() == 2).await;

    // A link of one organisation is good at no other, and for nothing else.
    let token = first.token();
    let elsewhere = globex.anonymous().with("x-tenant-id", globex.slug.as_str());
    elsewhere.post("/api/v1/auth/verify-email", json!({"token": token})).await.refused(404, "tenant_mismatch");
    reset(&acme, &token).await.refused(422, "validation_failed");
    post(&acme, "confirm-email", json!({"token": token})).await.refused(422, "validation_failed");

    let tries = join_all((0..100).map(|_| post(&acme, "verify-email", json!({"token": token})))).await;
    let good = tries.iter().filter(|answer| answer.status == 204).count();
    assert_eq!((good, tries.iter().filter(|answer| answer.status == 422).count()), (1, 99));
    let answer = acme.log_in_as(&email, PASSWORD).await.expect(200);
    assert_eq!(answer.data()["user"]["roles"], json!(["user"]));
}

/// Whoever signs up later with somebody's address does not choose the password of their account.
#[actix_web::test]
async fn an_address_with_several_sign_ups_has_the_password_of_none() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    policy(&acme, json!({"mode": "open", "verifyEmail": true})).await;
    let email = address("grace");
    post(&acme, "register", sign_up(&acme, &email)).await.expect(202);
    let first = smtp.letter(&email, "Confirm your address").await.token();
    let mut other = sign_up(&acme, &email);
    other["password"] = json!("a sentence that a stranger made up");
    post(&acme, "register", other).await.expect(202);
    eventually(seconds(30), "the second is sent", async || smtp.letters(&email).len() == 2).await;
    let latest = smtp.letters(&email).into_iter().map(|letter| letter.token()).find(|token| *token != first);
    post(&acme, "verify-email", json!({"token": latest})).await.expect(204);
    for password in [PASSWORD, "a sentence that a stranger made up"] {
        acme.log_in_as(&email, password).await.refused(401, "invalid_credentials");
    }
    // What waited besides is void.
    assert_eq!(post(&acme, "verify-email", json!({"token": first})).await.invalid()[0].0, "token");
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM registrations").await, "0");
    let token = smtp.letter(&email, "Choose a new password").await.token();
    reset(&acme, &token).await.expect(204);
    acme.log_in_as(&email, NEW).await.expect(200);
}

#[actix_web::test]
async fn a_domain_lets_its_own_people_in_once_they_have_shown_it() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let domain = format!("{}.example", unique("domain"));
    policy(&acme, json!({"mode": "domain", "domains": [domain.to_uppercase()]})).await;
    let shown = acme.admin().get("/api/v1/sign-up-policy").await.expect(200);
    assert_eq!((&shown.data()["verifyEmail"], &shown.data()["domains"]), (&json!(true), &json!([domain])));
    for stranger in [format!("eve@sub.{domain}"), format!("eve@x{domain}"), "eve@example.com".into()] {
        post(&acme, "register", sign_up(&acme, &stranger)).await.refused(403, "registration_closed");
    }
    let email = format!("grace@{domain}");
    post(&acme, "register", sign_up(&acme, &email)).await.expect(202);
    let token = smtp.letter(&email, "Confirm your address").await.token();
    post(&acme, "verify-email", json!({"token": token})).await.expect(204);
    acme.log_in_as(&email, PASSWORD).await.expect(200);
    // What the operator has set holds again.
    policy(&acme, json!({"mode": null})).await;
    post(&acme, "register", sign_up(&acme, &format!("two@{domain}"))).await.refused(403, "registration_closed");
    acme.user().get("/api/v1/sign-up-policy").await.refused(403, "permission_denied");
}

/// A link that was sent before an organisation closed its doors opens them to nobody.
#[actix_web::test]
async fn a_sign_up_that_waits_is_judged_by_the_policy_of_the_moment() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let (domain, other) = (format!("{}.example", unique("domain")), format!("{}.example", unique("other")));
    let open = json!({"mode": "open", "verifyEmail": true});
    let by_domain = json!({"mode": "domain", "domains": [domain, other]});
    let without = json!({"mode": "domain", "domains": [other]});
    for (before, after) in [(open, json!({"mode": "closed"})), (by_domain, without)] {
        policy(&acme, before.clone()).await;
        let email = format!("{}@{domain}", unique("grace"));
        post(&acme, "register", sign_up(&acme, &email)).await.expect(202);
        let link = json!({"token": smtp.letter(&email, "Confirm your address").await.token()});
        policy(&acme, after).await;
        let refused = post(&acme, "verify-email", link.clone()).await.refused(422, "validation_failed");
        assert_eq!(refused.invalid()[0].0, "token");
        acme.log_in_as(&email, PASSWORD).await.refused(401, "invalid_credentials");
        // The control: nothing else was wrong with the link.
        policy(&acme, before).await;
        post(&acme, "verify-email", link).await.expect(204);
        acme.log_in_as(&email, PASSWORD).await.expect(200);
    }
}

#[actix_web::test]
async fn a_forgotten_password_is_replaced_by_the_link_in_a_mail() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let session = acme.another_login().await;
    let (known, unknown) = (forgot(&acme, acme.email()).await, forgot(&acme, &address("nobody")).await);
    assert_eq!(alike(&known), alike(&unknown));
    let nowhere = json!({"tenant": unique("nowhere"), "email": acme.email()});
    assert_eq!(alike(&known), alike(&post(&acme, "forgot-password", nowhere).await));
    let letter = smtp.letter(acme.email(), "Choose a new password").await;
    let token = letter.token();
    let dropped = "SELECT state AS word FROM mail_outbox WHERE kind = 'password-reset' ORDER BY 1";
    let done = async || db::words(acme.database(), dropped).await == ["dropped", "sent"];
    eventually(seconds(30), "nobody else is written to", done).await;

    reset(&acme, "tpr_made_up").await.refused(422, "validation_failed");
    let weak = json!({"token": token, "newPassword": acme.email()});
    let refused = post(&acme, "reset-password", weak).await.refused(422, "validation_failed");
    assert_eq!(refused.invalid()[0].0, "newPassword");
    // A hundred at once: one gets it. Not all of them find a place to hash in.
    let tries = join_all((0..100).map(|_| reset(&acme, &token))).await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 204).count(), 1);
    assert!(tries.iter().all(|answer| [204, 422, 503].contains(&answer.status)));
    reset(&acme, &token).await.refused(422, "validation_failed");
    session.get("/api/v1/users/me").await.refused(401, "token_revoked");
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
    acme.log_in_as(acme.email(), NEW).await.expect(200);
    smtp.letter(acme.email(), "password was reset").await;
    // Only the hash of a token is kept, and none of one that was used.
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM account_tokens").await, "0");
}

#[actix_web::test]
async fn whoever_changes_a_password_voids_the_links_that_were_sent_before() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let (admin, email) = (acme.another_login().await, address("grace"));
    let grace = json!({"email": email, "firstName": "Grace", "lastName": "H", "password": PASSWORD, "roles": ["user"]});
    let grace = admin.post("/api/v1/users", grace).await.expect(201).id();
    forgot(&acme, acme.email()).await;
    forgot(&acme, &email).await;
    let mine = smtp.letter(acme.email(), "Choose a new password").await.token();
    let hers = smtp.letter(&email, "Choose a new password").await.token();
    // By an administrator, and by oneself.
    let set = json!({"password": "a sentence that an administrator made up"});
    admin.patch(&format!("/api/v1/users/{grace}"), set).await.expect(200);
    assert_eq!(reset(&acme, &hers).await.invalid()[0].0, "token");
    let change = json!({"currentPassword": acme.password(), "newPassword": "my own sentence from here on"});
    admin.post("/api/v1/auth/change-password", change).await.expect(204);
    assert_eq!(reset(&acme, &mine).await.invalid()[0].0, "token");
    acme.log_in_as(acme.email(), "my own sentence from here on").await.expect(200);
}

/// Whoever asked for another address with the former password, and agreed to it from the old one, does not get the account
/// after all with the link that is left.
#[actix_web::test]
async fn a_new_password_ends_a_change_of_address_that_is_half_agreed_to() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let (thief, new) = (acme.another_login().await, address("thief"));
    thief.post("/api/v1/users/me/email", json!({"email": new})).await.expect(202);
    let confirm = smtp.letter(&new, "new address of your account").await.token();
    let approve = smtp.letter(acme.email(), &new).await.token();
    post(&acme, "confirm-email", json!({"token": approve})).await.expect(204);
    forgot(&acme, acme.email()).await;
    let token = smtp.letter(acme.email(), "Choose a new password").await.token();
    reset(&acme, &token).await.expect(204);
    assert_eq!(post(&acme, "confirm-email", json!({"token": confirm})).await.invalid()[0].0, "token");
    acme.log_in_as(acme.email(), NEW).await.expect(200);
}

#[actix_web::test]
async fn a_new_password_is_no_way_around_the_second_factor_nor_around_a_lock() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let seed = admin.post("/api/v1/auth/mfa/totp", json!({})).await.expect(200).data()["secret"].clone();
    let code = json!({"code": authenticator::code(app, seed.as_str().unwrap())});
    admin.post("/api/v1/auth/mfa/totp/confirm", code).await.expect(200);
    smtp.letter(acme.email(), "second factor was added").await;
    for _ in 0..5 {
        acme.log_in_as(acme.email(), "wrong").await.refused(401, "invalid_credentials");
    }
    acme.log_in_as(acme.email(), acme.password()).await.refused(429, "too_many_attempts");
    forgot(&acme, acme.email()).await;
    let token = smtp.letter(acme.email(), "Choose a new password").await.token();
    reset(&acme, &token).await.expect(204);
    let answer = acme.log_in_as(acme.email(), NEW).await.expect(200);
    assert_eq!(answer.data()["mfaRequired"], true, "whoever reads the mail still needs the authenticator");
}

#[actix_web::test]
async fn nobody_is_flooded_with_links() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    for _ in 0..10 {
        forgot(&acme, acme.email()).await;
    }
    let waiting = "SELECT count(*)::text AS word FROM mail_outbox WHERE state = 'queued'";
    eventually(seconds(30), "all are done", async || db::word(acme.database(), waiting).await == "0").await;
    assert_eq!(smtp.letters(acme.email()).len(), 1);

    policy(&acme, json!({"mode": "open", "verifyEmail": true})).await;
    let victim = address("victim");
    for _ in 0..7 {
        post(&acme, "register", sign_up(&acme, &victim)).await.expect(202);
        post(&acme, "register", sign_up(&acme, acme.email())).await.expect(202);
    }
    eventually(seconds(30), "all are done", async || db::word(acme.database(), waiting).await == "0").await;
    assert_eq!((smtp.letters(&victim).len(), smtp.letters(acme.email()).len()), (5, 2));
}

#[actix_web::test]
async fn an_address_changes_once_both_have_agreed() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let new = address("new");
    let change = async |email: &str| admin.post("/api/v1/users/me/email", json!({"email": email})).await;
    change("nobody").await.refused(422, "validation_failed");
    change(acme.email()).await.refused(409, "already_exists");
    change(&new).await.expect(202);
    let confirm = smtp.letter(&new, "new address of your account").await.token();
    let approve = smtp.letter(acme.email(), &new).await.token();
    let agree = async |token: &str| post(&acme, "confirm-email", json!({"token": token})).await;
    agree(&confirm).await.expect(204);
    agree(&confirm).await.refused(422, "validation_failed");
    acme.log_in_as(&new, acme.password()).await.refused(401, "invalid_credentials");
    let tries = join_all((0..100).map(|_| agree(&approve))).await;
    let good = tries.iter().filter(|answer| answer.status == 204).count();
    assert_eq!((good, tries.iter().filter(|answer| answer.status == 422).count()), (1, 99));
    acme.log_in_as(&new, acme.password()).await.expect(200);
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
    smtp.letter(acme.email(), "was changed to n***@example.com").await;
}

#[actix_web::test]
async fn an_invitation_arrives_by_mail() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    policy(&acme, json!({"mode": "invite", "verifyEmail": true})).await;
    let email = address("invited");
    let body = json!({"email": email, "firstName": "Grace", "lastName": "H", "roles": ["user"]});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let letter = smtp.letter(&email, "You are invited").await;
    assert!(
        letter.text.contains("Hello Grace,") && letter.text.contains("/accept-invitation?token=tin_"),
        "{letter:?}"
    );
    let mut accept = sign_up(&acme, &email);
    accept["invitation"] = json!(letter.token());
    post(&acme, "register", accept).await.expect(201);
    acme.log_in_as(&email, PASSWORD).await.expect(200);
}

/// Whoever has an account is no way to write to others as often as one likes.
#[actix_web::test]
async fn another_address_is_asked_for_at_a_measured_pace() {
    let (app, _) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let change = async || admin.post("/api/v1/users/me/email", json!({"email": address("third")})).await;
    let later = async |by: &str| {
        let later = format!("UPDATE mail_outbox SET created_at = created_at - interval '{by}'");
        db::execute(acme.database(), &later).await;
    };
    for _ in 0..5 {
        change().await.expect(202);
    }
    let refused = change().await.refused(429, "rate_limited");
    let wait: u32 = refused.header("retry-after").expect("a while").parse().expect("seconds");
    assert!((1..=3600).contains(&wait), "{refused:?}");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""email-change";q=5;w=3600"#), "{refused:?}");
    assert_eq!(refused.header("ratelimit"), Some(&*format!(r#""email-change";r=0;t={wait}"#)), "{refused:?}");
    later("1 hour").await;
    change().await.expect(202);
}
