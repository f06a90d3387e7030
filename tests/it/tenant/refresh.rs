//! Refresh tokens: exchanged once, the same successor within the grace, theft after it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;
use tenantry::testing::{Answer, Persona, TestApp};

async fn refresh(who: &Persona, token: &str) -> Answer {
    who.post("/api/v1/auth/refresh", json!({"refreshToken": token})).await
}

fn next(answer: &Answer) -> String {
    answer.data()["refreshToken"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[actix_web::test]
async fn twenty_at_once_get_the_same_successor() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let first = acme.admin().refresh_token().await;
    let nobody = acme.anonymous();
    let answers = join_all((0..20).map(|_| refresh(&nobody, &first))).await;
    let successors: BTreeSet<_> = answers.iter().map(|answer| next(&answer.clone().expect(200))).collect();
    assert_eq!(successors.len(), 1, "{successors:?}");
    let second = successors.first().unwrap();
    assert_ne!(*second, first);
    // The successor works, and so does the access token.
    let third = refresh(&nobody, second).await.expect(200);
    let access = third.data()["accessToken"].as_str().unwrap().to_owned();
    nobody.bearing(&access).get("/api/v1/users/me").await.expect(200);
    assert_eq!(next(&refresh(&nobody, second).await), next(&third), "a lost answer is given again");
}

/// As many as a client in trouble may send. They come over twenty connections, fifty on each in turn.
#[actix_web::test]
async fn a_thousand_presentations_have_one_successor_and_are_no_theft() {
    let home = TestApp::shared().await;
    // A thousand take longer than the ordinary grace where the machine is busy.
    let app = TestApp::builder().beside(home).set("TENANTRY_AUTH__REFRESH_GRACE", "1h").start().await;
    let acme = home.tenant("acme").await;
    let first = acme.admin().refresh_token().await;
    let there = app.at(&acme);
    let nobody = there.anonymous();
    let present = || async {
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            seen.insert(next(&refresh(&nobody, &first).await.expect(200)));
        }
        seen
    };
    let successors: BTreeSet<_> = join_all((0..20).map(|_| present())).await.into_iter().flatten().collect();
    assert_eq!(successors.len(), 1, "{successors:?}");
    refresh(&nobody, successors.first().unwrap()).await.expect(200);
    let told = "SELECT count(*)::text AS word FROM sessions WHERE revoked_at IS NOT NULL";
    assert_eq!(crate::support::db::word(acme.database(), told).await, "0", "a false alarm");
}

#[actix_web::test]
async fn after_the_grace_the_family_dies() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let there = app.at(&acme);
    let login = there.log_in_as(acme.email(), acme.password()).await.expect(200);
    let nobody = there.anonymous();
    let first = next(&login);
    let second = refresh(&nobody, &first).await.expect(200);
    app.clock().advance(chrono::TimeDelta::seconds(29));
    assert_eq!(next(&refresh(&nobody, &first).await.expect(200)), next(&second));
    app.clock().advance(chrono::TimeDelta::seconds(2));
    refresh(&nobody, &first).await.refused(401, "token_revoked");
    // Everything of the family: the successor, and the access tokens.
    refresh(&nobody, &next(&second)).await.refused(401, "token_revoked");
    for token in [&login, &second].map(|answer| answer.data()["accessToken"].as_str().unwrap().to_owned()) {
        nobody.bearing(&token).get("/api/v1/users/me").await.refused(401, "token_revoked");
    }
    // Another session of the same person stands.
    there.log_in_as(acme.email(), acme.password()).await.expect(200);
}

#[actix_web::test]
async fn a_grace_of_nothing_is_no_grace() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_AUTH__REFRESH_GRACE", "0s").start().await;
    let acme = home.tenant("acme").await;
    let there = app.at(&acme);
    let first = next(&there.log_in_as(acme.email(), acme.password()).await.expect(200));
    let second = next(&refresh(&there.anonymous(), &first).await.expect(200));
    app.clock().advance(chrono::TimeDelta::milliseconds(5));
    refresh(&there.anonymous(), &first).await.refused(401, "token_revoked");
    refresh(&there.anonymous(), &second).await.refused(401, "token_revoked");
}

#[actix_web::test]
async fn tokens_end_with_their_time() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let there = app.at(&acme);
    let login = there.log_in_as(acme.email(), acme.password()).await.expect(200);
    let bearer = there.anonymous().bearing(login.data()["accessToken"].as_str().unwrap());
    bearer.get("/api/v1/users/me").await.expect(200);
    app.clock().advance(chrono::TimeDelta::minutes(16));
    bearer.get("/api/v1/users/me").await.refused(401, "token_expired");
    let next_pair = refresh(&there.anonymous(), &next(&login)).await.expect(200);
    app.clock().advance(chrono::TimeDelta::days(31));
    refresh(&there.anonymous(), &next(&next_pair)).await.refused(401, "token_expired");
}

#[actix_web::test]
async fn forged_refresh_tokens_open_nothing() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let good = acme.admin().refresh_token().await;
    let access = acme.admin().token().await;
    let other = globex.admin().refresh_token().await;
    let app = TestApp::builder().beside(home).start().await;
    let opened = app.router().pools().opened();
    let (body, tail) = (&good[4..], &other[40..]);
    let forged = [
        String::new(),
        "trf_".into(),
        access,
        good.to_uppercase(),
        good.replace("trf_", "tin_"),
        good.replace("trf_", ""),
        format!("{good}A"),
        format!("{good}="),
        format!("{}{tail}", &good[..40]),
        format!("trf_{}", body.chars().rev().collect::<String>()),
    ];
    for token in forged {
        refresh(&app.anonymous(), &token).await.refused(401, "token_invalid");
    }
    refresh(&app.anonymous(), &format!("{good}\u{0}")).await.refused(422, "validation_failed");
    let hinted = app.anonymous().with("x-tenant-id", globex.slug.as_str());
    refresh(&hinted, &good).await.refused(404, "tenant_mismatch");
    assert_eq!(app.router().pools().opened(), opened, "a database was opened");
    refresh(&app.anonymous(), &good).await.expect(200);
}
