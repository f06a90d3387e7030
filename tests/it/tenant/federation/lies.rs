//! What a provider says, and is not to be believed.

use serde_json::json;

use super::with;
use crate::support::identity::{REDIRECT, app, back, begin, evil, evil_post, provider};
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn what_an_evil_provider_says_is_not_believed() {
    let acme = app().await.tenant("acme").await;
    let issuer = format!("{}/a", evil());
    provider(&acme, "evil", &issuer, json!({})).await;
    let good = json!({"email": "ada@acme.test"});
    with(&acme, "evil", json!({"claims": good})).await.expect(200);
    let ec = json!({"alg": "ES256", "claims": {"sub": "ec", "email": "ec@acme.test"}});
    with(&acme, "evil", ec).await.expect(200);
    let both = json!({"aud": ["tenantry", "other"], "azp": "tenantry", "sub": "both", "email": "both@acme.test"});
    with(&acme, "evil", json!({"claims": both})).await.expect(200);
    let honest = format!("{}/honest", evil());
    let mut believed = Vec::new();
    for (what, wish) in [
        ("another issuer", json!({"claims": {"iss": honest}})),
        ("another audience", json!({"claims": {"aud": "somebody-else"}})),
        ("for somebody else, too", json!({"claims": {"aud": ["tenantry", "other"], "azp": "other"}})),
        ("for others, too, and it is not said for whom", json!({"claims": {"aud": ["tenantry", "other"]}})),
        ("asked for by somebody else", json!({"claims": {"azp": "other"}})),
        ("no nonce", json!({"claims": {"nonce": null}})),
        ("another nonce", json!({"claims": {"nonce": "x"}})),
        ("no alg", json!({"alg": "none"})),
        ("the public key as a secret", json!({"alg": "HS256"})),
        ("the client's secret", json!({"alg": "HS256", "secret": "a secret of thirty-two characters"})),
        ("a stranger's key", json!({"key": "stranger"})),
        ("a key that is not there", json!({"kid": "unknown"})),
        ("a key for another algorithm", json!({"alg": "PS256"})),
        ("something to be understood", json!({"header": {"crit": ["b64"], "b64": true}})),
        ("expired", json!({"claims": {"exp": 1_700_000_000}})),
        ("no end", json!({"claims": {"exp": null}})),
        ("of yesterday", json!({"claims": {"iat": 1_700_000_000}})),
        ("of tomorrow", json!({"claims": {"iat": 4_000_000_000_i64}})),
        ("nobody", json!({"claims": {"sub": null}})),
        ("somebody without end", json!({"claims": {"sub": "x".repeat(256)}})),
        ("an unverified address", json!({"claims": {"sub": "u", "email_verified": false}})),
        ("an address of which nothing is said", json!({"claims": {"sub": "u", "email_verified": null}})),
        ("no address", json!({"claims": {"sub": "u", "email": null}})),
        (
            "userinfo of somebody else",
            json!({"claims": {"sub": "u", "email": null}, "userinfo": {"sub": "ada", "email": "u@acme.test"}}),
        ),
    ] {
        let mut wish = wish;
        if wish["claims"].get("email").is_none() {
            wish["claims"]["email"] = json!("u@acme.test");
        }
        let answer = with(&acme, "evil", wish).await;
        if (answer.status, answer.code()) != (401, "federation_failed") {
            believed.push(format!("{what}: {} {}", answer.status, answer.code()));
        }
    }
    assert!(believed.is_empty(), "{believed:#?}");
    // The control: userinfo of the same person is.
    let wish = json!({"claims": {"sub": "u", "email": null},
        "userinfo": {"sub": "u", "email": "u@acme.test", "email_verified": true, "name": "Uma U"}});
    let came = with(&acme, "evil", wish).await.expect(200);
    assert_eq!(came.data()["user"]["firstName"], "Uma");
    // Whose address it is, is not told to who has not shown that it is theirs.
    let known = json!({"claims": {"sub": "v", "email": acme.email(), "email_verified": false}});
    let unknown = json!({"claims": {"sub": "v", "email": "v@acme.test", "email_verified": false}});
    let (known, unknown) = (with(&acme, "evil", known).await, with(&acme, "evil", unknown).await);
    assert_eq!(known.without_request_id(), unknown.without_request_id());
}

/// Who somebody is does not hang on their address: whoever is known comes in, and what could not be kept is not.
#[actix_web::test]
async fn an_address_that_nobody_could_keep_keeps_nobody_out() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/a", evil()), json!({})).await;
    let kept = "SELECT coalesce(string_agg(email, ' '), 'none') AS word FROM social_accounts";
    let (long, longest) = (format!("{}@acme.test", "a".repeat(400)), format!("{}@acme.test", "a".repeat(310)));
    let first = json!({"claims": {"email": "ada@acme.test"}});
    let ada = with(&acme, "evil", first).await.expect(200).data()["user"]["id"].clone();
    for (email, word) in
        [(&*long, "none"), (&*longest, &*longest), ("a\u{0}@acme.test", "none"), ("a\n@acme.test", "none")]
    {
        let came = with(&acme, "evil", json!({"claims": {"email": email}})).await.expect(200);
        assert_eq!(came.data()["user"]["id"], ada);
        assert_eq!(db::word(acme.database(), kept).await, word);
    }
    // A newcomer has to have one.
    for email in [&*long, "a\u{0}@acme.test"] {
        let wish = json!({"claims": {"sub": unique("s"), "email": email}});
        with(&acme, "evil", wish).await.refused(401, "federation_failed");
    }
}

#[actix_web::test]
async fn an_answer_is_its_own_provider_s() {
    let acme = app().await.tenant("acme").await;
    let (mixed, named) = (format!("{}/mixed", evil()), format!("{}/named", evil()));
    provider(&acme, "mixed", &mixed, json!({})).await;
    provider(&acme, "named", &named, json!({})).await;
    let nobody = acme.anonymous();
    let wish = json!({"claims": {"email": "mix@acme.test", "mark": unique("mark")}});
    // Somebody was sent to one, and comes back with the other's answer: the code is shown to neither (RFC 9207).
    let begun = begin(&acme, "mixed").await;
    let code = begun.code(&wish);
    back(&nobody, &begun.state, &code, Some(&named)).await.refused(401, "federation_failed");
    let unnamed = begin(&acme, "named").await;
    let second = unnamed.code(&wish);
    back(&nobody, &unnamed.state, &second, None).await.refused(401, "federation_failed");
    let seen = evil_post("/seen", json!({})).await["seen"].to_string();
    assert!(!seen.contains(&code) && !seen.contains(&second), "a code was shown");
    let begun = begin(&acme, "named").await;
    back(&nobody, &begun.state, &begun.code(&wish), Some(&named)).await.expect(200);
    // A description that speaks of another issuer is none.
    provider(&acme, "liar", &format!("{}/liar", evil()), json!({})).await;
    let body = json!({"tenant": acme.slug.as_str(), "redirectUri": REDIRECT});
    nobody.post("/api/v1/auth/federation/liar/start", body).await.refused(401, "federation_failed");
}

#[actix_web::test]
async fn keys_that_rotate_are_followed() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/rotates", evil()), json!({})).await;
    let good = json!({"claims": {"email": "ada@acme.test"}});
    with(&acme, "evil", good.clone()).await.expect(200);
    evil_post("/rotate/rotates", json!({})).await;
    app().await.clock().advance(chrono::TimeDelta::seconds(11));
    with(&acme, "evil", good.clone()).await.expect(200);
    with(&acme, "evil", json!({"key": "old", "claims": good["claims"]})).await.refused(401, "federation_failed");
}

/// What is closed is closed for whoever is on the way back, too.
#[actix_web::test]
async fn a_provider_that_is_closed_while_it_is_asked_lets_nobody_in() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/a", evil()), json!({})).await;
    for change in ["enabled = false", "version = version + 1"] {
        let begun = begin(&acme, "evil").await;
        let code = begun.code(&json!({"claims": {"email": "ada@acme.test"}}));
        let mut holder = db::open(acme.database()).await;
        db::words_on(&mut holder, "BEGIN").await;
        db::words_on(&mut holder, &format!("UPDATE identity_providers SET {change} RETURNING slug AS word")).await;
        let waits = concat!(
            "SELECT count(*)::text AS word FROM pg_stat_activity WHERE datname = current_database() ",
            "AND wait_event_type = 'Lock' AND query LIKE '%identity_providers%'",
        );
        let closing = async {
            let waits = async || db::word(acme.database(), waits).await == "1";
            eventually(seconds(20), "somebody wants in", waits).await;
            db::words_on(&mut holder, "COMMIT").await;
        };
        let who = acme.anonymous();
        let (answer, ()) = futures_util::future::join(back(&who, &begun.state, &code, None), closing).await;
        answer.refused(401, "federation_failed");
        db::execute(acme.database(), "UPDATE identity_providers SET enabled = true").await;
    }
    with(&acme, "evil", json!({"claims": {"email": "ada@acme.test"}})).await.expect(200);
}
