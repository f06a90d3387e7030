//! Guessing is slowed, then stopped, alike for everybody.

use serde_json::json;
use tenantry::testing::{Answer, TestApp};

use crate::support::unique;

#[actix_web::test]
async fn five_failures_lock_an_address_alike_for_everybody() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let body = json!({"email": "ada@example.com", "firstName": "A", "lastName": "L", "password": "an uncommon sentence of five words"});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let nobody = acme.anonymous();
    let attempt = async |tenant: &str, email: &str, password: &str| {
        nobody.post("/api/v1/auth/login", json!({"tenant": tenant, "email": email, "password": password})).await
    };
    let slug = acme.slug.to_string();
    let nowhere = unique("t");
    let mut locked: Vec<Answer> = Vec::new();
    for (tenant, email) in [(&slug, "ada@example.com"), (&slug, "nobody@example.com"), (&nowhere, "ada@example.com")] {
        for left in (0..5).rev() {
            let refused = attempt(tenant, email, "wrong").await.refused(401, "invalid_credentials");
            assert_eq!(refused.header("ratelimit-policy"), Some(r#""login";q=5;w=900"#), "{refused:?}");
            assert_eq!(refused.header("ratelimit"), Some(&*format!(r#""login";r={left};t=900"#)), "{refused:?}");
        }
        let right =
            attempt(tenant, email, "an uncommon sentence of five words").await.refused(429, "too_many_attempts");
        let wait: u64 = right.header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After in seconds");
        assert!((1..=900).contains(&wait), "{right:?}");
        locked.push(right);
    }
    assert!(locked.iter().all(|answer| answer.without_request_id() == locked[0].without_request_id()), "{locked:#?}");
    // Somebody else is not affected.
    acme.log_in_as(acme.email(), acme.password()).await.expect(200);
}

#[actix_web::test]
async fn a_hundred_at_once_get_no_more_guesses() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let nobody = acme.anonymous();
    let guess = || async {
        let body = json!({"tenant": acme.slug.as_str(), "email": acme.email(), "password": "wrong"});
        nobody.post("/api/v1/auth/login", body).await
    };
    let answers = futures_util::future::join_all((0..30).map(|_| guess())).await;
    let tried = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(answers.iter().all(|answer| [401, 429, 503].contains(&answer.status)), "{answers:#?}");
    assert!(tried <= 5, "{tried} guesses were compared");
}

#[actix_web::test]
async fn the_lock_opens_when_its_time_has_passed() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let there = app.at(&acme);
    for _ in 0..5 {
        there.log_in_as(acme.email(), "wrong").await.refused(401, "invalid_credentials");
    }
    there.log_in_as(acme.email(), acme.password()).await.refused(429, "too_many_attempts");
    app.clock().advance(chrono::TimeDelta::minutes(16));
    there.log_in_as(acme.email(), acme.password()).await.expect(200);
}

/// The guesses of a stolen session are counted before anything is said of them, also when they come together.
#[actix_web::test]
async fn guesses_at_change_password_are_counted_before_they_are_answered() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let change = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "newPassword": new});
        admin.post("/api/v1/auth/change-password", body).await
    };
    let good = "quite another sentence of words";
    let guesses = futures_util::future::join_all((0..30).map(|_| change("wrong", good))).await;
    let told = guesses.iter().filter(|answer| answer.status == 422).count();
    assert!(guesses.iter().all(|answer| [422, 429, 503].contains(&answer.status)), "{guesses:#?}");
    assert!(told <= 5, "{told} guesses were compared");
    for _ in told..5 {
        change("wrong", good).await.refused(422, "validation_failed");
    }
    // From here on the right one is told nothing either, not even by what is wrong with the new password.
    let refused = change(acme.password(), good).await.refused(429, "too_many_attempts");
    assert!(refused.header("ratelimit").is_some_and(|said| said.starts_with(r#""login";r=0;t="#)), "{refused:?}");
    change(acme.password(), "short").await.refused(429, "too_many_attempts");
}
