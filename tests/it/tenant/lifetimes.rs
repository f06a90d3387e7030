//! How long sessions live, as the organisation has it.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Tenant, TestApp};

use crate::support::{db, eventually, seconds};

const POLICY: &str = "/api/v1/security-policy";

async fn refresh(app: &TestApp, token: &mut String) -> Answer {
    let answer = app.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": token})).await;
    if answer.status == 200 {
        *token = answer.data()["refreshToken"].as_str().expect("a token").to_owned();
    }
    answer
}

/// A node with a clock of its own, a tenant there, and its policy.
async fn node(session: Value) -> (TestApp, Tenant) {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await.at(app.url());
    let set = acme.admin().patch(POLICY, json!({"session": session})).await.expect(200);
    assert_eq!(set.data()["session"], acme.admin().get(POLICY).await.expect(200).data()["session"]);
    (app, acme)
}

#[actix_web::test]
async fn a_session_that_is_not_used_ends_and_one_that_is_lives_on() {
    let (app, acme) = node(json!({"idleMinutes": 60})).await;
    let (mut used, mut unused) =
        (acme.another_login().await.refresh_token().await, acme.another_login().await.refresh_token().await);
    for _ in 0..3 {
        app.clock().advance(TimeDelta::minutes(50));
        refresh(&app, &mut used).await.expect(200);
    }
    refresh(&app, &mut unused).await.refused(401, "token_expired");
    app.clock().advance(TimeDelta::minutes(61));
    refresh(&app, &mut used).await.refused(401, "token_expired");
}

#[actix_web::test]
async fn a_session_ends_however_often_it_is_used_and_no_token_outlives_it() {
    let (app, acme) = node(json!({"idleMinutes": 10, "absoluteHours": 1})).await;
    let mut token = acme.another_login().await.refresh_token().await;
    for _ in 0..6 {
        app.clock().advance(TimeDelta::minutes(9));
        let next = refresh(&app, &mut token).await.expect(200);
        assert!(next.data()["expiresIn"].as_i64().is_some_and(|life| life <= 600), "{next:?}");
    }
    app.clock().advance(TimeDelta::minutes(5));
    let last = refresh(&app, &mut token).await.expect(200);
    assert!(last.data()["expiresIn"].as_i64().is_some_and(|life| life <= 60), "{last:?}");
    let who = app.anonymous().bearing(last.data()["accessToken"].as_str().unwrap());
    who.get("/api/v1/users/me").await.expect(200);
    app.clock().advance(TimeDelta::minutes(2));
    refresh(&app, &mut token).await.refused(401, "token_expired");
    who.get("/api/v1/users/me").await.refused(401, "token_expired");
}

#[actix_web::test]
async fn what_is_older_ends_when_lifetimes_are_shortened_on_every_node() {
    let (app, acme) = node(json!({})).await;
    let other = TestApp::builder().beside(TestApp::shared().await).start().await;
    let old = acme.another_login().await;
    let mut token = old.refresh_token().await;
    for clock in [app.clock(), other.clock()] {
        clock.advance(TimeDelta::minutes(12));
    }
    let young = acme.another_login().await;
    let elsewhere = old.at(other.url());
    elsewhere.get("/api/v1/users/me").await.expect(200);
    let admin = acme.another_login().await;
    for bad in [json!({"idleMinutes": 4}), json!({"absoluteHours": 0}), json!({"idle": 5})] {
        admin.patch(POLICY, json!({"session": bad})).await.refused(422, "validation_failed");
    }
    let set = admin.patch(POLICY, json!({"session": {"idleMinutes": 11}})).await.expect(200);
    assert_eq!(set.data()["session"], json!({"idleMinutes": 11, "absoluteHours": null, "maxPerPerson": null}));
    old.get("/api/v1/users/me").await.refused(401, "token_revoked");
    eventually(seconds(2), "the other node knows", async || elsewhere.get("/api/v1/users/me").await.status == 401)
        .await;
    refresh(&app, &mut token).await.refused(401, "token_revoked");
    young.get("/api/v1/users/me").await.expect(200);
    // What they may be again, they are for those who come.
    admin.patch(POLICY, json!({"session": null})).await.expect(200);
    let expires = acme.another_login().await.signed_in().await["expiresIn"].clone();
    assert_eq!(expires, 900);
}

#[actix_web::test]
async fn what_the_operator_shortens_is_shorter_for_who_is_in_already() {
    let (app, acme) = node(json!({})).await;
    let short = TestApp::builder().beside(TestApp::shared().await).set("TENANTRY_AUTH__REFRESH_TOKEN_TTL", "1h");
    let short = short.start().await;
    let mut old = acme.another_login().await.refresh_token().await;
    for clock in [app.clock(), short.clock()] {
        clock.advance(TimeDelta::hours(2));
    }
    let mut young = acme.another_login().await.refresh_token().await;
    refresh(&short, &mut old).await.refused(401, "token_expired");
    refresh(&short, &mut young).await.expect(200);
    // The control: it was given for longer.
    refresh(&app, &mut old).await.expect(200);
}

/// A session that is written waits for whoever refreshes it, and they for the change.
#[actix_web::test]
async fn a_change_that_makes_no_session_shorter_writes_none() {
    let (_app, acme) = node(json!({"idleMinutes": 60, "absoluteHours": 24})).await;
    acme.another_login().await.refresh_token().await;
    let admin = acme.another_login().await;
    let written = async || {
        let rows = "SELECT 'session ' || id::text || ' ' || xmin::text AS word FROM sessions UNION ALL \
                    SELECT 'token ' || encode(hash, 'hex') || ' ' || xmin::text FROM refresh_tokens ORDER BY 1";
        db::words(acme.database(), rows).await
    };
    let before = written().await;
    assert!(before.len() >= 4, "{before:?}");
    for change in [
        json!({"password": {"history": 5}}),
        json!({"session": {"maxPerPerson": 50}}),
        json!({"session": {"idleMinutes": 60}}),
        json!({"session": {"idleMinutes": 90, "absoluteHours": null}}),
        json!({"session": null}),
    ] {
        let changed = admin.patch(POLICY, change.clone()).await.expect(200);
        assert_eq!(written().await, before, "{change}: {changed:?}");
    }
    admin.patch(POLICY, json!({"session": {"idleMinutes": 30}})).await.expect(200);
    let after = written().await;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    assert!(changed >= 4, "{before:?} {after:?}");
}
