//! Who is invited, and one person at several organisations.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::{Persona, Tenant};

use super::scim;
use crate::support::smtp::{Smtp, shared};
use crate::support::{authenticator, db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

fn address(name: &str) -> String {
    format!("{}@example.com", unique(name))
}

async fn invite_only(tenant: &Tenant) {
    tenant.admin().patch("/api/v1/sign-up-policy", json!({"mode": "invite"})).await.expect(200);
}

/// Invites one person, and gives the token of their mail.
async fn invite(tenant: &Tenant, smtp: &Smtp, email: &str) -> String {
    let people = json!({"people": [{"email": email, "roles": ["user"]}]});
    tenant.admin().post("/api/v1/invitations", people).await.expect(201);
    smtp.letter(email, tenant.slug.as_str().split('-').next().unwrap()).await.token()
}

#[actix_web::test]
async fn many_are_invited_at_once_and_each_invitation_is_good_once() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    invite_only(&acme).await;
    let admin = acme.admin();
    let emails = [address("a"), address("b"), address("c")];
    let people: Vec<Value> = emails.iter().map(|email| json!({"email": email, "roles": ["user"]})).collect();
    let mut all = people.clone();
    all.push(json!({"email": acme.email()}));
    let answer = admin.post("/api/v1/invitations", json!({"people": all})).await.expect(201);
    let invited: Vec<_> = answer.data().as_array().unwrap().iter().map(|one| one["invited"].clone()).collect();
    assert_eq!(invited, [json!(true), json!(true), json!(true), json!(false)]);
    assert!(!answer.text.contains("tin_"), "{answer:?}");
    let list = admin.get("/api/v1/invitations").await.expect(200);
    let ids: Vec<String> =
        list.data().as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 3);
    let pages = admin.get("/api/v1/invitations?pageSize=2").await.expect(200);
    let next = pages.body["meta"]["pagination"]["nextCursor"].as_str().unwrap();
    let rest = admin.get(&format!("/api/v1/invitations?pageSize=2&cursor={next}")).await.expect(200);
    assert_eq!(rest.data().as_array().unwrap().len(), 1);
    let unknown = json!({"people": [{"email": address("d")}, {"email": address("e"), "roles": ["user", "nobody"]}]});
    let refused = admin.post("/api/v1/invitations", unknown).await.refused(422, "validation_failed");
    assert_eq!(refused.invalid(), [("people[1].roles[1]".to_owned(), "unknown_role".to_owned())]);
    acme.user().post("/api/v1/invitations", json!({"people": people})).await.refused(403, "permission_denied");

    let first = smtp.letter(&emails[0], "You are invited").await.token();
    let accept = |token: &str, email: &str| json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD, "invitation": token});
    let register = async |body: Value| acme.anonymous().post("/api/v1/auth/register", body).await;
    // Not for another address, and not after it was sent again, or taken back.
    register(accept(&first, &emails[1])).await.refused(422, "validation_failed");
    let of = |email: &str| {
        let found = list.data().as_array().unwrap().iter().find(|one| one["email"] == email).unwrap().clone();
        format!("/api/v1/invitations/{}", found["id"].as_str().unwrap())
    };
    admin.post(&format!("{}/resend", of(&emails[0])), json!({})).await.expect(204);
    register(accept(&first, &emails[0])).await.refused(422, "validation_failed");
    let second = smtp.letters(&emails[0]).last().map(|letter| letter.token());
    let second = match second.filter(|token| *token != first) {
        Some(token) => token,
        None => {
            crate::support::eventually(crate::support::seconds(30), "it is sent again", async || {
                smtp.letters(&emails[0]).len() == 2
            })
            .await;
            smtp.letters(&emails[0]).last().unwrap().token()
        }
    };
    // Not all of them find a place to hash in.
    let tries = join_all((0..100).map(|_| register(accept(&second, &emails[0])))).await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(tries.iter().all(|answer| [201, 422, 503].contains(&answer.status)), "{tries:?}");
    let taken_back = smtp.letter(&emails[1], "You are invited").await.token();
    admin.delete(&of(&emails[1])).await.expect(204);
    admin.delete(&of(&emails[1])).await.refused(404, "not_found");
    admin.delete(&of(&emails[0])).await.refused(404, "not_found");
    register(accept(&taken_back, &emails[1])).await.refused(422, "validation_failed");
}

#[actix_web::test]
async fn nobody_invites_beyond_their_own_rights_and_is_told_whom() {
    let (app, _) = shared().await;
    let acme = app.tenant("acme").await;
    invite_only(&acme).await;
    let role = json!({"name": unique("host"), "permissions": ["users:read", "users:write"]});
    let role = acme.admin().post("/api/v1/roles", role).await.expect(201).data()["name"].clone();
    let email = address("host");
    let host = json!({"email": email, "firstName": "H", "lastName": "H", "password": PASSWORD, "roles": [role]});
    acme.admin().post("/api/v1/users", host).await.expect(201);
    let people = json!({"people": [{"email": address("a")}, {"email": address("b"), "roles": ["admin"]}]});
    let refused = acme.person(&email, PASSWORD).post("/api/v1/invitations", people).await;
    let refused = refused.refused(422, "validation_failed");
    assert_eq!(refused.invalid(), [("people[1].roles".to_owned(), "beyond_own_permissions".to_owned())]);
}

/// An invitation leads somewhere, or is not sent.
#[actix_web::test]
async fn where_nobody_signs_up_people_are_added_and_not_invited() {
    let (app, smtp) = shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let admin = acme.admin();
    admin.patch("/api/v1/sign-up-policy", json!({"mode": "closed"})).await.expect(200);
    let people = json!({"people": [{"email": address("nobody"), "roles": ["user"]}]});
    let refused = admin.post("/api/v1/invitations", people).await.refused(409, "conflict");
    assert!(refused.text.contains("/api/v1/sign-up-policy"), "{refused:?}");

    // Whom an administrator adds comes in, as a new person and with an account elsewhere.
    let add = async |email: &str| {
        let body = json!({"email": email, "firstName": "A", "lastName": "A", "roles": ["user"]});
        let made = admin.post("/api/v1/users", body).await.expect(201);
        let token = made.data()["invitationToken"].as_str().expect("a token").to_owned();
        assert_eq!(smtp.letter(email, "You are invited").await.token(), token);
        token
    };
    let email = address("added");
    let slug = acme.slug.as_str();
    let body = json!({"tenant": slug, "email": email, "password": PASSWORD, "invitation": add(&email).await});
    acme.anonymous().post("/api/v1/auth/register", body).await.expect(201);
    let ada = globex.another_login().await;
    let body = json!({"token": add(&address("ada")).await});
    ada.post("/api/v1/invitations/accept", body).await.expect(200);
    switch(&ada, slug).await.expect(200);
    // Nobody comes in without.
    let body = json!({"tenant": slug, "email": address("eve"), "password": PASSWORD});
    acme.anonymous().post("/api/v1/auth/register", body).await.refused(403, "registration_closed");
}

async fn switch(who: &Persona, to: &str) -> tenantry::testing::Answer {
    who.post("/api/v1/auth/switch-tenant", json!({"tenant": to})).await
}

#[actix_web::test]
async fn one_person_belongs_to_several_organisations() {
    let (app, smtp) = shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    invite_only(&globex).await;
    let ada = acme.another_login().await;
    let mine = ada.get("/api/v1/users/me/tenants").await.expect(200);
    assert_eq!(mine.data(), &json!([{"id": acme.id, "slug": acme.slug, "name": "acme", "current": true}]));
    let stranger = switch(&ada, globex.slug.as_str()).await.refused(404, "not_found");
    let nowhere = switch(&ada, "nowhere-at-all").await.refused(404, "not_found");
    assert_eq!(stranger.body["error"]["detail"], nowhere.body["error"]["detail"]);

    let token = invite(&globex, smtp, &address("ada")).await;
    let accept = async || ada.post("/api/v1/invitations/accept", json!({"token": token})).await;
    let tries = join_all((0..100).map(|_| accept())).await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(tries.iter().all(|answer| [200, 422].contains(&answer.status)), "{tries:?}");
    let tenants = ada.get("/api/v1/users/me/tenants").await.expect(200);
    let slugs: Vec<_> = tenants.data().as_array().unwrap().iter().map(|tenant| tenant["slug"].clone()).collect();
    assert_eq!(slugs, [json!(acme.slug), json!(globex.slug)]);

    let there = switch(&ada, globex.slug.as_str()).await.expect(200);
    let at_globex = globex.anonymous().bearing(there.data()["accessToken"].as_str().unwrap());
    assert_eq!(at_globex.get("/api/v1/users/me").await.expect(200).data()["roles"], json!(["user"]));
    at_globex.get("/api/v1/permissions").await.refused(403, "permission_denied");
    ada.get("/api/v1/users/me").await.expect(200);
    // Trust has one direction: where she came from, she is signed in already.
    switch(&at_globex, acme.slug.as_str()).await.refused(404, "not_found");
    ada.get("/api/v1/users/me").await.expect(200);

    // Nothing of who it is, is in the control plane.
    let links = db::words(app.control_database(), "SELECT l::text AS word FROM person_links l").await;
    assert!(links.len() >= 2 && links.iter().all(|link| !link.contains('@')), "{links:?}");
    // A link that the account does not agree to is none.
    let id = there.data()["user"]["id"].as_str().unwrap().to_owned();
    let listed = async || {
        let tenants = ada.get("/api/v1/users/me/tenants").await.expect(200);
        tenants.data().as_array().unwrap().iter().any(|tenant| tenant["slug"] == json!(globex.slug))
    };
    // Whoever may not come in there is not told of it, as long as that is so.
    let path = format!("/api/v1/users/{id}");
    globex.admin().patch(&path, json!({"status": "deactivated"})).await.expect(200);
    assert!(!listed().await);
    db::execute(globex.database(), &format!("UPDATE users SET status = 'active' WHERE id = '{id}'")).await;
    assert!(listed().await);
    db::execute(globex.database(), &format!("UPDATE users SET person_id = gen_random_uuid() WHERE id = '{id}'")).await;
    switch(&ada, globex.slug.as_str()).await.refused(404, "not_found");
    assert!(!listed().await);
    globex.admin().delete(&path).await.expect(204);
    assert!(!listed().await);
    // Nor does one that is gone keep her from the next; or one that came to nothing, which nobody has confirmed.
    let again = async |email: &str| {
        let token = invite(&globex, smtp, email).await;
        ada.post("/api/v1/invitations/accept", json!({"token": token})).await.expect(200);
        let there = switch(&ada, globex.slug.as_str()).await.expect(200);
        there.data()["user"]["id"].as_str().unwrap().to_owned()
    };
    let second = again(&address("ada")).await;
    let token = invite(&globex, smtp, &address("ada")).await;
    ada.post("/api/v1/invitations/accept", json!({"token": token})).await.refused(409, "already_exists");
    globex.admin().delete(&format!("/api/v1/users/{second}")).await.expect(204);
    let vain = format!(
        "UPDATE person_links SET confirmed_at = NULL, user_id = gen_random_uuid() \
         WHERE tenant_id = '{}' AND user_id = '{second}'",
        globex.id
    );
    db::execute(app.control_database(), &vain).await;
    again(&address("ada")).await;
}

/// Whoever runs an organisation signs in as any of its people, and is nobody elsewhere for that.
#[actix_web::test]
async fn who_takes_a_linked_account_over_does_not_come_back_through_it() {
    let (app, smtp) = shared().await;
    let (evil, globex, initech) = (app.tenant("evil").await, app.tenant("globex").await, app.tenant("initech").await);
    for tenant in [&evil, &initech] {
        invite_only(tenant).await;
    }
    let (bob, email) = (globex.admin(), address("bob"));
    let token = invite(&evil, smtp, &email).await;
    bob.post("/api/v1/invitations/accept", json!({"token": token})).await.expect(200);
    let entered = switch(&bob, evil.slug.as_str()).await.expect(200);
    let id = entered.data()["user"]["id"].as_str().unwrap().to_owned();
    let bob_at_evil = evil.anonymous().bearing(entered.data()["accessToken"].as_str().unwrap());
    // With the account there he accepts another invitation: that organisation trusts this one, not his own.
    let token = invite(&initech, smtp, &address("bob")).await;
    bob_at_evil.post("/api/v1/invitations/accept", json!({"token": token})).await.expect(200);
    switch(&bob_at_evil, initech.slug.as_str()).await.expect(200);
    switch(&bob, initech.slug.as_str()).await.refused(404, "not_found");

    let password = json!({"password": PASSWORD});
    evil.admin().patch(&format!("/api/v1/users/{id}"), password).await.expect(200);
    let taken = evil.log_in_as(&email, PASSWORD).await.expect(200);
    let taken = evil.anonymous().bearing(taken.data()["accessToken"].as_str().unwrap());
    switch(&taken, globex.slug.as_str()).await.refused(404, "not_found");

    // Nor does it help to write into one's own database whose an account is.
    let theirs = format!(
        "UPDATE users SET (person_id, person_from) = (SELECT person_id, person_from FROM users WHERE id = '{id}') \
         WHERE email = '{}'",
        evil.email()
    );
    db::execute(evil.database(), &theirs).await;
    for tenant in [&globex, &initech] {
        switch(&evil.admin(), tenant.slug.as_str()).await.refused(404, "not_found");
    }
    let told = evil.admin().get("/api/v1/users/me/tenants").await.expect(200);
    assert_eq!(told.data().as_array().unwrap().len(), 1, "{told:?}");
    // A link of before it was kept where it came from leads nowhere.
    switch(&taken, initech.slug.as_str()).await.expect(200);
    db::execute(initech.database(), "UPDATE users SET person_from = NULL").await;
    switch(&taken, initech.slug.as_str()).await.refused(404, "not_found");
}

#[actix_web::test]
async fn who_changes_over_is_met_by_the_target_s_own_rules() {
    let (app, smtp) = shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    invite_only(&globex).await;
    let ada = acme.another_login().await;
    let token = invite(&globex, smtp, &address("ada")).await;
    ada.post("/api/v1/invitations/accept", json!({"token": token})).await.expect(200);
    globex.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let asked = switch(&ada, globex.slug.as_str()).await.expect(200);
    assert_eq!((&asked.data()["mfaRequired"], &asked.data()["methods"]), (&json!(true), &json!(["enrolment"])));
    let waiting = json!({"mfaToken": asked.data()["mfaToken"]});
    let seed = globex.anonymous().post("/api/v1/auth/mfa/enrolment", waiting.clone()).await.expect(200);
    let code = authenticator::code(app, seed.data()["secret"].as_str().unwrap());
    let confirm = json!({"mfaToken": asked.data()["mfaToken"], "code": code});
    let entered = globex.anonymous().post("/api/v1/auth/mfa/enrolment/confirm", confirm).await.expect(200);
    assert!(entered.data()["accessToken"].is_string());
    let asked = switch(&ada, globex.slug.as_str()).await.expect(200);
    assert_eq!(asked.data()["methods"], json!(["otp", "recovery"]));

    globex.suspend().await;
    let gone = async || switch(&ada, globex.slug.as_str()).await.status == 404;
    crate::support::eventually(crate::support::seconds(5), "it looks unknown", gone).await;
    let tenants = ada.get("/api/v1/users/me/tenants").await.expect(200);
    assert_eq!(tenants.data().as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn an_invitation_that_came_by_mail_verifies_the_address() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    invite_only(&acme).await;
    let accept = async |token: &str, email: &str| {
        let body = json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD, "invitation": token});
        acme.anonymous().post("/api/v1/auth/register", body).await.expect(201);
        let verified =
            format!("SELECT (email_verified_at IS NOT NULL)::text AS word FROM users WHERE email_key = '{email}'");
        db::word(acme.database(), &verified).await
    };
    let (mailed, shown) = (address("mailed"), address("shown"));
    let token = invite(&acme, smtp, &mailed).await;
    assert_eq!(accept(&token, &mailed).await, "true");
    // Of one that an administrator was shown too, it is not known who read it where.
    let body = json!({"email": shown, "firstName": "S", "lastName": "S", "roles": ["user"]});
    let made = acme.admin().post("/api/v1/users", body).await.expect(201);
    let token = made.data()["invitationToken"].as_str().expect("a token").to_owned();
    assert_eq!(accept(&token, &shown).await, "false");
}

#[actix_web::test]
async fn an_acceptance_whose_answer_was_lost_is_told_again() {
    let (app, smtp) = shared().await;
    let (home, other) = (app.tenant("home").await, app.tenant("other").await);
    invite_only(&other).await;
    let token = invite(&other, smtp, &address("grace")).await;
    let ada = home.another_login().await;
    let keyed = ada.with("idempotency-key", "accept-1");
    let body = json!({"token": token});
    let first = keyed.post("/api/v1/invitations/accept", body.clone()).await.expect(200);
    let again = keyed.post("/api/v1/invitations/accept", body.clone()).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), first.data()));
    let another = json!({"token": "tin_other"});
    keyed.post("/api/v1/invitations/accept", another).await.expect(422);
    // Without the key, it is good once.
    ada.post("/api/v1/invitations/accept", body.clone()).await.refused(422, "validation_failed");
    home.user().post("/api/v1/invitations/accept", body).await.refused(422, "validation_failed");
}

/// Whoever was never here is not told that they are here again.
#[actix_web::test]
async fn who_was_only_invited_is_told_that_they_were_activated() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let directory = scim::directory(&acme).await;
    for by_directory in [false, true] {
        let email = address("activated");
        let body = json!({"email": email, "firstName": "A", "lastName": "A", "roles": ["user"]});
        let id = admin.post("/api/v1/users", body).await.expect(201).id();
        if by_directory {
            let active = json!([{"op": "replace", "path": "active", "value": true}]);
            scim::patch(&directory, &format!("{}/{id}", scim::USERS), active).await.expect(200);
        } else {
            admin.patch(&format!("/api/v1/users/{id}"), json!({"password": PASSWORD})).await.expect(200);
        }
        smtp.letter(&email, "administrator activated your account").await;
        assert!(smtp.letters(&email).iter().all(|letter| !letter.text.contains("reactivated")), "{by_directory}");
        let path = format!("/api/v1/users/{id}");
        for status in ["deactivated", "active"] {
            admin.patch(&path, json!({"status": status})).await.expect(200);
        }
        smtp.letter(&email, "administrator reactivated your account").await;
    }
}

#[actix_web::test]
async fn an_invitation_is_sent_again_at_a_measured_pace_and_noted() {
    let (app, _) = shared().await;
    let acme = app.tenant("acme").await;
    invite_only(&acme).await;
    let admin = acme.admin();
    let people = json!({"people": [{"email": address("often")}, {"email": address("other")}]});
    let invited = admin.post("/api/v1/invitations", people).await.expect(201);
    let ids = [0, 1].map(|at| invited.data()[at]["id"].as_str().expect("an id").to_owned());
    let again = async |id: &str| admin.post(&format!("/api/v1/invitations/{id}/resend"), json!({})).await;
    for _ in 0..4 {
        again(&ids[0]).await.expect(204);
    }
    let link = "SELECT string_agg(token_hash::text, ' ' ORDER BY user_id) AS word FROM invitations";
    let before = db::word(acme.database(), link).await;
    let refused = again(&ids[0]).await.refused(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=3600).contains(&wait), "{refused:?}");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""invitation";q=5;w=3600"#), "{refused:?}");
    assert_eq!(db::word(acme.database(), link).await, before, "the link that was sent last stays good");
    // Nobody else waits for that, and they not for ever.
    again(&ids[1]).await.expect(204);
    db::execute(acme.database(), "UPDATE mail_outbox SET created_at = created_at - interval '61 minutes'").await;
    again(&ids[0]).await.expect(204);
    let noted = format!(
        "SELECT count(*)::text AS word FROM audit WHERE action = 'invitation.sent' AND user_id = '{}' \
         AND actor = 'user:{}'",
        ids[0],
        admin.user_id().await
    );
    assert_eq!(db::word(acme.database(), &noted).await, "6");
}
