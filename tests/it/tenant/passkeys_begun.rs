//! Logins by passkey that were begun, perhaps by strangers.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::testing::TestApp;

use super::passkeys::{LOGIN, ORIGIN, add, come_in, log_in, node, options, person};
use crate::support::db;

/// Challenges of a tenant are bounded. Nobody alone has those of all others thrown away.
#[actix_web::test]
async fn a_stranger_who_begins_many_logins_voids_nobody_s() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_PUBLIC_URL", ORIGIN);
    let app = app.set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let acme = home.tenant("acme").await.at(app.url());
    let (_, ada) = person(&acme, "user").await;
    let (mut device, _) = add(&ada).await;
    let asked = options(&acme).await;
    let many = "INSERT INTO passkey_ceremonies (id, purpose, state, created_at, expires_at, network) \
                SELECT gen_random_uuid(), 'login', '{}', now(), now() + interval '5 minutes', '203.0.113.9' \
                FROM generate_series(1, 499)";
    db::execute(acme.database(), many).await;
    let from = async |ip: &str| {
        let body = json!({"tenant": acme.slug.as_str()});
        acme.anonymous().with("x-forwarded-for", ip).post(&format!("{LOGIN}/options"), body).await
    };
    from("203.0.113.9").await.expect(200);
    let refused = from("203.0.113.9").await;
    assert!(refused.header("retry-after").is_some() && refused.header("ratelimit").is_some(), "{refused:?}");
    refused.refused(429, "rate_limited");
    // Whoever has a /48 has many networks, each of which has room on its own.
    let many = "INSERT INTO passkey_ceremonies (id, purpose, state, created_at, expires_at, network, site) \
                SELECT gen_random_uuid(), 'login', '{}', now(), now() + interval '5 minutes', \
                '2001:db8:1:' || (1 + i % 10) || '::/64', '2001:db8:1::/48' FROM generate_series(1, 2499) i";
    db::execute(acme.database(), many).await;
    from("2001:db8:1:1::1").await.expect(200);
    for network in ["2001:db8:1:2::1", "2001:db8:1:ffff::1"] {
        let refused = from(network).await;
        assert!(refused.header("ratelimit-policy").is_some_and(|policy| policy.contains("q=2500;")), "{refused:?}");
        refused.refused(429, "rate_limited");
    }
    from("2001:db8:2:1::1").await.expect(200);
    // Others begin as before, and what had begun is ended.
    from("203.0.113.10").await.expect(200);
    log_in(&acme, &asked, &device.get(&asked)).await.expect(200);
    // What has ended waits no more.
    app.clock().advance(TimeDelta::minutes(6));
    from("203.0.113.9").await.expect(200);
}

/// Nothing was compared: it is no guess, and locks nobody.
#[actix_web::test]
async fn an_answer_to_what_is_asked_no_more_is_refused_and_not_counted() {
    let (app, acme) = node().await;
    let (_, ada) = person(&acme, "user").await;
    let (mut device, _) = add(&ada).await;
    let failures = "SELECT count(*)::text AS word FROM login_attempts WHERE kind = 'passkey' AND outcome = 'failed'";
    let asked = options(&acme).await;
    let late = device.get(&asked);
    app.clock().advance(TimeDelta::minutes(6));
    for _ in 0..10 {
        log_in(&acme, &asked, &late).await.refused(401, "invalid_credentials");
        let mut unknown = asked.clone();
        unknown["ceremonyId"] = json!("01980000-0000-7000-8000-000000000000");
        log_in(&acme, &unknown, &late).await.refused(401, "invalid_credentials");
    }
    assert_eq!(db::word(acme.database(), failures).await, "0");
    come_in(&acme, &mut device).await;
    // A wrong answer to what is asked is one.
    let asked = options(&acme).await;
    device.unlocked = false;
    log_in(&acme, &asked, &device.get(&asked)).await.refused(401, "invalid_credentials");
    assert_eq!(db::word(acme.database(), failures).await, "1");
}
