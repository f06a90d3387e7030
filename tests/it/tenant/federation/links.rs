//! An account here, and the same person's there.

use serde_json::json;

use super::{PASSWORD, add, person, with};
use crate::support::identity::{Begun, REDIRECT, app, back, consent, evil, honest, provider, sign_in};
use crate::support::{db, unique};
use crate::tenant::orders::in_order;

const MINE: &str = "/api/v1/users/me/social-accounts";

#[actix_web::test]
async fn an_account_is_linked_by_its_own_person() {
    let acme = app().await.tenant("acme").await;
    let [one, _] = honest();
    provider(&acme, "one", one, json!({})).await;
    let (ada, bob) = (unique("ada"), unique("bob"));
    let (hers, his) = (format!("{ada}@acme.test"), format!("{bob}@acme.test"));
    let id = add(&acme, &hers).await;
    add(&acme, &his).await;
    let there = person(&ada, &hers, true);
    // Her address is here, and nobody has shown that it is hers: not even a provider that has verified it.
    sign_in(&acme, "one", &there).await.refused(409, "account_link_required");
    let (her, him) = (acme.person(&hers, PASSWORD), acme.person(&his, PASSWORD));
    let body = json!({"provider": "one", "redirectUri": REDIRECT});
    let begun = Begun::of(&her.post(MINE, body.clone()).await.expect(200));
    let came = consent(&begun, &there).await;
    let answer = json!({"state": came["state"], "code": came["code"], "iss": came["iss"]});
    let callback = format!("{MINE}/callback");
    // Neither somebody else nor a sign-in completes it, and the try spends it.
    assert_eq!(him.post(&callback, answer.clone()).await.invalid()[0].0, "state");
    assert_eq!(her.post(&callback, answer).await.invalid()[0].0, "state");
    let begun = Begun::of(&her.post(MINE, body.clone()).await.expect(200));
    let came = consent(&begun, &there).await;
    back(&acme.anonymous(), &came["state"], &came["code"], Some(one)).await.refused(401, "token_invalid");

    let begun = Begun::of(&her.post(MINE, body.clone()).await.expect(200));
    let came = consent(&begun, &there).await;
    let answer = json!({"state": came["state"], "code": came["code"], "iss": came["iss"]});
    let once = her.with("idempotency-key", &unique("key"));
    let linked = once.post(&callback, answer.clone()).await.expect(201).id();
    // Whoever lost the answer asks again, though the state is spent.
    let again = once.post(&callback, answer).await.expect(201);
    assert_eq!((again.header("idempotency-replayed"), again.id()), (Some("true"), linked.clone()));
    assert_eq!(sign_in(&acme, "one", &there).await.expect(200).data()["user"]["id"], json!(id));
    // What is hers is not his, too.
    let begun = Begun::of(&him.post(MINE, body).await.expect(200));
    let came = consent(&begun, &there).await;
    let answer = json!({"state": came["state"], "code": came["code"], "iss": came["iss"]});
    him.post(&callback, answer).await.refused(409, "conflict");
    him.delete(&format!("{MINE}/{linked}")).await.refused(404, "not_found");

    assert_eq!(her.get(MINE).await.expect(200).data()[0]["email"], json!(hers));
    her.delete(&format!("{MINE}/{linked}")).await.expect(204);
    sign_in(&acme, "one", &there).await.refused(409, "account_link_required");
    // Whoever has no other way keeps this one.
    let new = unique("new");
    let made = sign_in(&acme, "one", &person(&new, &format!("{new}@acme.test"), true)).await.expect(200);
    let who = acme.anonymous().bearing(made.data()["accessToken"].as_str().unwrap());
    let only = who.get(MINE).await.expect(200).data()[0]["id"].as_str().unwrap().to_owned();
    who.delete(&format!("{MINE}/{only}")).await.refused(409, "conflict");
    let noted = format!(
        "SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE user_id = '{id}' AND action LIKE 'federation.%'"
    );
    assert_eq!(db::word(acme.database(), &noted).await, "federation.linked federation.unlinked");
}

/// Whoever signs out everywhere while the provider is asked has ended the linking, too.
#[actix_web::test]
async fn a_session_that_ends_meanwhile_links_nothing() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/late", evil()), json!({"allowedDomains": []})).await;
    let email = format!("{}@acme.test", unique("ada"));
    let id = add(&acme, &email).await;
    let her = acme.person(&email, PASSWORD);
    let begun = Begun::of(&her.post(MINE, json!({"provider": "evil", "redirectUri": REDIRECT})).await.expect(200));
    let wish = json!({"claims": {"sub": unique("s"), "email": email}});
    let answer = json!({"state": begun.state, "code": begun.code(&wish)});
    // The session is good when the request comes, and ends before anything is written.
    let held = format!("SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
    let ended = format!("UPDATE sessions SET revoked_at = now(), revoked_reason = 'ended' WHERE user_id = '{id}'");
    let path = format!("{MINE}/callback");
    in_order(&acme, her.post(&path, answer), &held, &ended).await.refused(401, "token_revoked");
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM social_accounts").await, "0");
}

#[actix_web::test]
async fn an_address_that_both_sides_verified_links_by_itself() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/both", evil()), json!({"allowedDomains": []})).await;
    let email = format!("{}@acme.test", unique("ada"));
    let id = add(&acme, &email).await;
    let wish = json!({"claims": {"sub": unique("s"), "email": email}});
    with(&acme, "evil", wish.clone()).await.refused(409, "account_link_required");
    let verified = format!(
        "ALTER TABLE users ADD COLUMN IF NOT EXISTS email_verified_at timestamptz; \
         UPDATE users SET email_verified_at = now() WHERE id = '{id}'"
    );
    db::execute(acme.database(), &verified).await;
    assert_eq!(with(&acme, "evil", wish).await.expect(200).data()["user"]["id"], json!(id));
    // Nobody could come in yet as who was invited: the invitation is taken by who shows the address.
    let email = format!("{}@elsewhere.test", unique("ivy"));
    let body = json!({"email": email, "firstName": "I", "lastName": "I", "roles": ["user"]});
    let invited = acme.admin().post("/api/v1/users", body).await.expect(201).id();
    let wish = json!({"claims": {"sub": unique("s"), "email": email}});
    let came = with(&acme, "evil", wish.clone()).await.expect(200);
    assert_eq!((&came.data()["user"]["id"], &came.data()["user"]["status"]), (&json!(invited), &json!("active")));
    let noted =
        format!("SELECT actor AS word FROM audit WHERE user_id = '{invited}' AND action = 'invitation.accepted'");
    assert_eq!(db::word(acme.database(), &noted).await, "provider:evil");
    // Who may not come in does not come in this way either.
    let path = format!("/api/v1/users/{invited}");
    acme.admin().patch(&path, json!({"status": "deactivated"})).await.expect(200);
    with(&acme, "evil", wish).await.refused(401, "federation_failed");
}

/// An account that was accepted with one elsewhere is taken, though it has no password; its person comes in from there.
#[actix_web::test]
async fn a_linked_account_is_its_person_s_who_has_a_way_in() {
    let app = app().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    provider(&acme, "evil", &format!("{}/linked", evil()), json!({"allowedDomains": []})).await;
    let email = format!("{}@acme.test", unique("bob"));
    let body = json!({"email": email, "firstName": "B", "lastName": "B", "roles": ["user"]});
    let made = acme.admin().post("/api/v1/users", body).await.expect(201);
    let bob = globex.another_login().await;
    let accept = json!({"token": made.data()["invitationToken"]});
    bob.post("/api/v1/invitations/accept", accept).await.expect(200);
    let wish = json!({"claims": {"sub": unique("s"), "email": email}});
    with(&acme, "evil", wish.clone()).await.refused(409, "account_link_required");

    let entered = bob.post("/api/v1/auth/switch-tenant", json!({"tenant": acme.slug.as_str()})).await.expect(200);
    let there = acme.anonymous().bearing(entered.data()["accessToken"].as_str().unwrap());
    let begun = json!({"provider": "evil", "redirectUri": REDIRECT});
    let begun = Begun::of(&there.post(MINE, begun).await.expect(200));
    let answer = json!({"state": begun.state, "code": begun.code(&wish)});
    let linked = there.post(&format!("{MINE}/callback"), answer).await.expect(201).id();
    there.delete(&format!("{MINE}/{linked}")).await.expect(204);
}
