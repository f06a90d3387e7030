//! Providers, added and changed.

use serde_json::{Value, json};
use tenantry::testing::TestApp;

use super::{keeper, with};
use crate::support::identity::{REDIRECT, app, evil, provider};
use crate::support::{db, unique};

#[actix_web::test]
async fn providers_are_changed_by_who_may_and_has_just_shown_it() {
    let home = TestApp::shared().await;
    let later = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let path = "/api/v1/identity-providers";
    let body = |slug: &str| {
        json!({"slug": slug, "name": "G", "kind": "google", "clientId": "c", "clientSecret": "hush hush",
            "redirectUris": [REDIRECT]})
    };
    acme.user().post(path, body("g")).await.refused(403, "permission_denied");
    let made = acme.admin().post(path, body("g")).await.expect(201);
    assert!(!made.text.contains("hush hush") && made.data()["hasClientSecret"] == true, "{made:?}");
    assert_eq!(made.data()["issuer"], "https://accounts.google.com");
    acme.admin().post(path, body("g")).await.refused(409, "already_exists");
    let kept = db::word(acme.database(), "SELECT p::text AS word FROM identity_providers p").await;
    let hex: String = b"hush hush".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!kept.contains("hush") && !kept.contains(&hex), "{kept}");

    let with = |more: Value| {
        let mut body = body(&unique("p"));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, field) in [
        (json!({"slug": "No Slug"}), "slug"),
        (json!({"issuer": "https://evil.example"}), "issuer"),
        (json!({"kind": "oidc"}), "issuer"),
        // What is inside, this node does not reach.
        (json!({"kind": "oidc", "issuer": evil()}), "issuer"),
        (json!({"kind": "oidc", "issuer": "https://169.254.169.254"}), "issuer"),
        (json!({"redirectUris": []}), "redirectUris"),
        (json!({"redirectUris": ["http://app.example.com/"]}), "redirectUris[0]"),
        (json!({"scopes": ["email"]}), "scopes"),
        (json!({"allowedDomains": ["com"]}), "allowedDomains[0]"),
        (json!({"defaultRole": "none"}), "defaultRole"),
        (json!({"kind": "github", "clientSecret": null}), "clientSecret"),
    ] {
        let refused = acme.admin().post(path, with(more.clone())).await;
        assert_eq!(refused.invalid()[0].0, field, "{more}");
    }
    // Nobody opens the door to more than they may do.
    let keeper = keeper(&acme).await;
    let refused = keeper.post(path, with(json!({"defaultRole": "admin"}))).await;
    assert_eq!(refused.invalid(), [("defaultRole".to_owned(), "beyond_own_permissions".to_owned())]);
    let wide = acme.admin().post(path, with(json!({"defaultRole": "admin"}))).await.expect(201).id();
    let one = format!("{path}/{wide}");
    let refused = keeper.patch(&one, json!({"allowedDomains": ["keeper.test"]})).await;
    assert_eq!(refused.invalid()[0].0, "defaultRole");
    // Nor opens one again that was closed.
    acme.admin().patch(&one, json!({"enabled": false})).await.expect(200);
    let refused = keeper.patch(&one, json!({"enabled": true})).await;
    assert_eq!(refused.invalid(), [("defaultRole".to_owned(), "beyond_own_permissions".to_owned())]);
    acme.admin().patch(&one, json!({"enabled": true})).await.expect(200);

    acme.admin().patch(&one, json!({"clientSecret": "ü".repeat(4000)})).await.expect(200);
    let long = json!({"clientSecret": "ü".repeat(4001)});
    for refused in [acme.admin().patch(&one, long.clone()).await, acme.admin().post(path, with(long)).await] {
        assert_eq!(refused.invalid(), [("clientSecret".to_owned(), "too_long".to_owned())]);
    }

    // An old proof is none.
    let there = acme.admin().at(later.url());
    there.get(path).await.expect(200);
    later.clock().advance(chrono::TimeDelta::minutes(11));
    for answer in
        [there.post(path, body("x")).await, there.patch(&one, json!({"name": "X"})).await, there.delete(&one).await]
    {
        answer.refused(403, "step_up_required");
    }
    acme.admin().delete(&one).await.expect(204);
    acme.admin().delete(&one).await.refused(404, "not_found");
}

/// A role that somebody else had named is given only while whoever changed the provider last could give it.
#[actix_web::test]
async fn newcomers_get_no_more_than_whoever_set_the_provider_up_may_do() {
    let acme = app().await.tenant("acme").await;
    let made = provider(&acme, "evil", &format!("{}/ceiling", evil()), json!({"defaultRole": "admin"})).await;
    let path = format!("/api/v1/identity-providers/{}", made["id"].as_str().expect("an id"));
    let newcomer = async || {
        let wish = json!({"claims": {"sub": unique("s"), "email": format!("{}@acme.test", unique("new"))}});
        with(&acme, "evil", wish).await.expect(200).data()["user"]["roles"].clone()
    };
    assert_eq!(newcomer().await, json!(["admin"]));
    let keeper = keeper(&acme).await;
    keeper.patch(&path, json!({"name": "Theirs"})).await.expect(200);
    assert_eq!(newcomer().await, json!(["admin"]), "another name lets nobody in");
    keeper.patch(&path, json!({"redirectUris": made["redirectUris"]})).await.expect(200);
    assert_eq!(newcomer().await, json!([]));
}
