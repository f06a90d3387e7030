//! Whose word a link is, and through which provider it counts.

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant};

use super::{PASSWORD, keeper, with};
use crate::support::identity::{Begun, REDIRECT, app, claims, evil, provider};
use crate::support::{db, unique};

const MINE: &str = "/api/v1/users/me/social-accounts";
const PROVIDERS: &str = "/api/v1/identity-providers";

/// A provider that its keeper sets up.
async fn of_keeper(who: &Persona, slug: &str, issuer: &str) -> Answer {
    let body = json!({
        "slug": slug, "name": slug, "kind": "oidc", "issuer": issuer, "clientId": "tenantry",
        "clientSecret": "a secret of thirty-two characters", "redirectUris": [REDIRECT], "allowedDomains": ["acme.test"],
    });
    who.post(PROVIDERS, body).await.expect(201)
}

fn somebody() -> Value {
    json!({"claims": {"sub": unique("s"), "email": format!("{}@acme.test", unique("bob"))}})
}

/// Links an account to somebody who has signed in.
async fn link(who: &Persona, slug: &str, wish: &Value) -> Answer {
    let begun = Begun::of(&who.post(MINE, json!({"provider": slug, "redirectUri": REDIRECT})).await.expect(200));
    who.post(&format!("{MINE}/callback"), json!({"state": begun.state, "code": begun.code(wish)})).await
}

async fn comes_in(acme: &Tenant, slug: &str, wish: &Value) {
    with(acme, slug, wish.clone()).await.expect(200);
}

async fn is_kept_out(acme: &Tenant, slug: &str, wish: &Value) {
    with(acme, slug, wish.clone()).await.refused(409, "account_link_required");
}

/// A second provider with the same issuer may be somebody else's client: to them come the codes of whom they send there.
#[actix_web::test]
async fn a_link_counts_through_the_provider_that_it_was_made_with() {
    let acme = app().await.tenant("acme").await;
    let issuer = format!("{}/trust", evil());
    provider(&acme, "one", &issuer, json!({"defaultRole": "admin"})).await;
    let (hers, own) = (somebody(), somebody());
    comes_in(&acme, "one", &hers).await;
    link(&acme.admin(), "one", &own).await.expect(201);
    of_keeper(&keeper(&acme).await, "two", &issuer).await;
    for wish in [&hers, &own] {
        is_kept_out(&acme, "two", wish).await;
        comes_in(&acme, "one", wish).await;
    }
    // Not even an administrator's, until its person says so.
    provider(&acme, "three", &issuer, json!({})).await;
    is_kept_out(&acme, "three", &own).await;
    link(&acme.admin(), "one", &own).await.refused(409, "conflict");
    link(&acme.admin(), "three", &own).await.expect(201);
    comes_in(&acme, "three", &own).await;
    is_kept_out(&acme, "one", &own).await;
}

/// Whoever was linked by a provider's word, and may do more since, does not come in by its word any more.
#[actix_web::test]
async fn a_provider_s_word_is_held_to_its_ceiling_each_time() {
    let acme = app().await.tenant("acme").await;
    of_keeper(&keeper(&acme).await, "hers", &format!("{}/trust", evil())).await;
    let bob = somebody();
    let came = with(&acme, "hers", bob.clone()).await.expect(200);
    comes_in(&acme, "hers", &bob).await;
    let path = format!("/api/v1/users/{}", came.data()["user"]["id"].as_str().unwrap());
    acme.admin().patch(&path, json!({"roles": ["admin"]})).await.expect(200);
    is_kept_out(&acme, "hers", &bob).await;
    acme.admin().patch(&path, json!({"roles": []})).await.expect(200);
    comes_in(&acme, "hers", &bob).await;
    // A session that the provider has opened says no more than the provider does.
    let signed_in = with(&acme, "hers", bob.clone()).await.expect(200);
    let its = acme.anonymous().bearing(signed_in.data()["accessToken"].as_str().unwrap());
    link(&its, "hers", &bob).await.refused(409, "conflict");
    let another = somebody();
    link(&its, "hers", &another).await.expect(201);
    // A code adds nothing: the authenticator may have been enrolled in such a session.
    db::execute(acme.database(), "UPDATE sessions SET amr = '{fed,otp}' WHERE amr = '{fed}'").await;
    let by = json!({"refreshToken": signed_in.data()["refreshToken"]});
    let renewed = acme.anonymous().post("/api/v1/auth/refresh", by).await.expect(200);
    assert_eq!(claims(&renewed)["amr"], json!(["fed", "otp"]));
    let third = somebody();
    let its = acme.anonymous().bearing(renewed.data()["accessToken"].as_str().unwrap());
    link(&its, "hers", &third).await.expect(201);
    acme.admin().patch(&path, json!({"roles": ["admin"]})).await.expect(200);
    for wish in [&bob, &another, &third] {
        is_kept_out(&acme, "hers", wish).await;
    }
    // He says so himself, by a password: that is his own word, not the provider's.
    acme.admin().patch(&path, json!({"password": PASSWORD})).await.expect(200);
    let his = acme.log_in_as(bob["claims"]["email"].as_str().unwrap(), PASSWORD).await.expect(200);
    let his = acme.anonymous().bearing(his.data()["accessToken"].as_str().unwrap());
    let change = json!({"currentPassword": PASSWORD, "newPassword": "my own sentence from here on"});
    his.post("/api/v1/auth/change-password", change).await.expect(204);
    link(&his, "hers", &bob).await.expect(201);
    comes_in(&acme, "hers", &bob).await;
}

#[actix_web::test]
async fn a_person_s_own_word_is_for_the_provider_as_it_was() {
    let acme = app().await.tenant("acme").await;
    let keeper = keeper(&acme).await;
    let made = of_keeper(&keeper, "hers", &format!("{}/trust", evil())).await;
    let own = somebody();
    link(&acme.admin(), "hers", &own).await.expect(201);
    comes_in(&acme, "hers", &own).await;
    let path = format!("{PROVIDERS}/{}", made.id());
    keeper.patch(&path, json!({"name": "Hers"})).await.expect(200);
    comes_in(&acme, "hers", &own).await;
    keeper.patch(&path, json!({"redirectUris": [REDIRECT]})).await.expect(200);
    is_kept_out(&acme, "hers", &own).await;
    link(&acme.admin(), "hers", &own).await.expect(201);
    comes_in(&acme, "hers", &own).await;
}

/// What the audit says of links from before `V22__links.sql` is known of them after it.
#[actix_web::test]
async fn a_link_from_before_is_the_word_of_whoever_the_audit_names() {
    let acme = app().await.tenant("acme").await;
    let issuer = format!("{}/trust", evil());
    provider(&acme, "one", &issuer, json!({})).await;
    let (hers, own, before) = (somebody(), somebody(), somebody());
    comes_in(&acme, "one", &hers).await;
    link(&acme.admin(), "one", &own).await.expect(201);
    let changed = of_keeper(&keeper(&acme).await, "two", &issuer).await;
    link(&acme.admin(), "two", &before).await.expect(201);
    let path = format!("{PROVIDERS}/{}", changed.id());
    acme.admin().patch(&path, json!({"redirectUris": [REDIRECT]})).await.expect(200);
    let v22 = include_str!("../../../../tenant-migrations/V22__links.sql");
    db::execute(acme.database(), &format!("ALTER TABLE social_accounts DROP COLUMN by_person; {v22}")).await;
    let theirs = "SELECT subject AS word FROM social_accounts WHERE by_person";
    assert_eq!(db::words(acme.database(), theirs).await, [own["claims"]["sub"].as_str().unwrap()]);
}
