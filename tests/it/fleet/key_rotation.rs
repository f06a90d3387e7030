//! A tenant's signing keys are replaced under its people's feet, on every node, and no token is refused for it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::TimeDelta;
use serde_json::json;
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::binary::run;
use crate::support::jwt::part;
use crate::support::{eventually, seconds};

/// The keys of a tenant as a node publishes them: `kid` and `alg`.
async fn published(app: &TestApp, tenant: &Tenant) -> BTreeSet<(String, String)> {
    let path = format!("/t/{}/.well-known", tenant.slug);
    let jwks = app.anonymous().get(&format!("{path}/jwks.json")).await.expect(200);
    let keys = jwks.body["keys"].as_array().expect("keys").iter();
    let word = |key: &serde_json::Value, name: &str| key[name].as_str().expect("a word").to_owned();
    let keys: BTreeSet<_> = keys.map(|key| (word(key, "kid"), word(key, "alg"))).collect();
    let discovery = app.anonymous().get(&format!("{path}/openid-configuration")).await.expect(200);
    let algorithms = discovery.body["id_token_signing_alg_values_supported"].as_array().expect("a list").clone();
    let expected: BTreeSet<_> = keys.iter().map(|(_, alg)| alg.as_str()).collect();
    assert_eq!(algorithms.iter().map(|alg| alg.as_str().unwrap()).collect::<BTreeSet<_>>(), expected);
    keys
}

fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().expect("a kid").to_owned()
}

#[actix_web::test]
async fn a_key_is_published_before_it_signs_and_after_until_its_tokens_end() {
    let home = TestApp::shared().await;
    let (one, two) = (TestApp::builder().beside(home).start().await, TestApp::builder().beside(home).start().await);
    let acme = home.tenant("acme").await;
    let (at_one, at_two) = (acme.at(one.url()), acme.at(two.url()));
    let old = at_one.another_login().await;
    let before = published(&two, &acme).await;
    assert_eq!(before.len(), 1);
    let arguments = ["tenant", "rotate-keys", acme.slug.as_str(), "--algorithm", "ES256", "--output", "json"];
    let rotated = run(home, &arguments).await.expect(0).json();
    assert_eq!(rotated["algorithm"], "ES256", "{rotated}");
    for node in [&one, &two] {
        eventually(seconds(2), "both keys are published", async || published(node, &acme).await.len() == 2).await;
    }
    // A second one has to wait for the first.
    run(home, &arguments).await.expect(4);
    let operator = home.operator();
    let again = operator.post(&format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug), json!({})).await;
    again.refused(409, "conflict");
    // The former one signs until the next one's time has come.
    assert_eq!(kid(&at_two.another_login().await.token().await), kid(&old.token().await));
    for node in [&one, &two] {
        node.clock().advance(TimeDelta::seconds(121));
    }
    let new = at_one.another_login().await;
    let token = new.token().await;
    assert_ne!(kid(&token), kid(&old.token().await));
    assert_eq!(part(&token, 0)["alg"], "ES256");
    for who in [&new, &old] {
        for node in [&one, &two] {
            who.at(node.url()).get("/api/v1/users/me").await.expect(200);
        }
    }
    // Tokens of the former one have ended by then; it is neither published nor accepted any more.
    for node in [&one, &two] {
        node.clock().advance(TimeDelta::minutes(17));
        let left = published(node, &acme).await;
        assert_eq!(left.iter().map(|(_, alg)| alg.as_str()).collect::<Vec<_>>(), ["ES256"]);
    }
    old.get("/api/v1/users/me").await.refused(401, "token_invalid");
    // And back, with what stands in no file: the same session goes on with a token of the third key.
    let path = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
    let third = operator.post(&path, json!({"algorithm": "EdDSA", "surely": true})).await;
    third.refused(422, "validation_failed");
}

#[actix_web::test]
async fn a_key_in_wrong_hands_is_refused_as_soon_as_the_next_one_signs() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let here = acme.at(app.url());
    let old = here.another_login().await;
    let path = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
    home.operator().post(&path, json!({})).await.expect(200);
    // One that waits for its time is no reason to wait.
    home.operator().post(&path, json!({"compromised": true})).await.expect(200);
    eventually(seconds(2), "the keys are known", async || published(&app, &acme).await.len() == 3).await;
    old.get("/api/v1/users/me").await.expect(200);
    app.clock().advance(TimeDelta::seconds(6));
    old.get("/api/v1/users/me").await.refused(401, "token_invalid");
    let new = here.another_login().await;
    new.get("/api/v1/users/me").await.expect(200);
    assert_eq!(published(&app, &acme).await.len(), 1);
    let refresh = json!({"refreshToken": old.refresh_token().await});
    let next = app.anonymous().post("/api/v1/auth/refresh", refresh).await.expect(200);
    app.anonymous().bearing(next.data()["accessToken"].as_str().unwrap()).get("/api/v1/users/me").await.expect(200);
}

/// Those who rotate at the same moment: one does, and the others are told of its key.
#[actix_web::test]
async fn one_of_many_rotations_at_once_is_done() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let path = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
    let operator = home.operator();
    operator.signed_in().await;
    let mut done = 0;
    for answer in futures_util::future::join_all((0..12).map(|_| operator.post(&path, json!({})))).await {
        match answer.status {
            200 => done += 1,
            _ => drop(answer.refused(409, "conflict")),
        }
    }
    assert_eq!(done, 1);
}

/// Property: whatever is asked of whichever node with a fresh or an older token, from before a rotation until after it, is
/// answered.
#[actix_web::test]
async fn no_token_is_refused_while_keys_are_rotated_under_load() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let first = acme.another_login().await;
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (over, asked) = (&over, &asked);
    let nodes = [home, &other];
    let client = |at: usize| {
        let first = first.clone();
        let acme = &acme;
        async move {
            let (here, there) = (acme.at(nodes[at % 2].url()), nodes[(at + 1) % 2].url());
            let session = here.another_login().await;
            let mut refresh = session.refresh_token().await;
            let mut kids = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let next = here.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": refresh})).await;
                let next = next.expect(200);
                refresh = next.data()["refreshToken"].as_str().unwrap().to_owned();
                let token = next.data()["accessToken"].as_str().unwrap();
                kids.insert(kid(token));
                let fresh: Persona = here.anonymous().bearing(token);
                // The other node may know the key by now, and the same one does.
                for who in [&fresh, &fresh.at(there), &first, &first.at(there)] {
                    who.get("/api/v1/users/me").await.expect(200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
            kids
        }
    };
    let rotation = async {
        let path = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
        for algorithm in ["ES256", "EdDSA"] {
            let before = kid(&acme.another_login().await.token().await);
            home.operator().post(&path, json!({"algorithm": algorithm, "now": true})).await.expect(200);
            for node in nodes {
                let signs = async || kid(&acme.at(node.url()).another_login().await.token().await) != before;
                eventually(seconds(20), "the next key signs", signs).await;
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let (_, kids) = tokio::join!(rotation, futures_util::future::join_all((0..4).map(client)));
    assert!(kids.iter().all(|kids| kids.len() == 3), "{kids:?}");
    assert!(asked.load(Ordering::Relaxed) > 50);
}
