//! From here to a provider, and back with somebody.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::TestApp;

use super::{person, with};
use crate::support::authenticator::code;
use crate::support::db;
use crate::support::identity::{Begun, REDIRECT, app, back, begin, claims, consent, evil, honest, provider, sign_in};

#[actix_web::test]
async fn people_sign_in_through_real_providers() {
    let acme = app().await.tenant("acme").await;
    let [one, two] = honest();
    provider(&acme, "one", one, json!({})).await;
    provider(&acme, "two", two, json!({})).await;

    let first = sign_in(&acme, "one", &person("ada", "Ada@acme.test", true)).await.expect(200);
    let ada = first.data()["user"].clone();
    assert_eq!(
        (&ada["email"], &ada["firstName"], &ada["roles"]),
        (&json!("Ada@acme.test"), &json!("Ada"), &json!(["user"]))
    );
    let said = claims(&first);
    assert_eq!(said["amr"], json!(["fed"]));
    assert!(said["auth_time"].as_i64() >= said["iat"].as_i64().map(|at| at - 60), "{said}");
    let her = acme.anonymous().bearing(first.data()["accessToken"].as_str().unwrap());
    let history = her.get("/api/v1/users/me/login-history").await.expect(200);
    assert_eq!(history.data()[0]["outcome"], "succeeded", "{history:?}");

    // She is who she is there, whatever address she has there by now; her address here stays.
    let again = sign_in(&acme, "one", &person("ada", "other@acme.test", true)).await.expect(200);
    assert_eq!((&again.data()["user"]["id"], &again.data()["user"]["email"]), (&ada["id"], &ada["email"]));
    // The same subject at another issuer is somebody else.
    let other = sign_in(&acme, "two", &person("ada", "bea@acme.test", true)).await.expect(200);
    assert_ne!(other.data()["user"]["id"], ada["id"]);
    let noted = "SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE action LIKE 'federation.%'";
    let each = "federation.account_created federation.linked";
    assert_eq!(db::word(acme.database(), noted).await, format!("{each} {each}"));

    // Nobody gets an account whose domain is not named, or whose address nobody verified.
    let stranger = person("eve", "eve@evil.test", true);
    sign_in(&acme, "one", &stranger).await.refused(403, "registration_closed");
    sign_in(&acme, "one", &person("eva", "eva@acme.test", false)).await.refused(401, "federation_failed");
}

#[actix_web::test]
async fn a_sign_in_goes_where_it_should() {
    let acme = app().await.tenant("acme").await;
    let globex = app().await.tenant("globex").await;
    let [one, _] = honest();
    let made = provider(&acme, "one", one, json!({})).await;
    let begun = begin(&acme, "one").await;
    assert!(begun.url.as_str().starts_with(&format!("{one}/auth?")), "{}", begun.url);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "tenantry"),
        ("redirect_uri", REDIRECT),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(begun.parameter(name), value);
    }
    assert_eq!((begun.parameter("code_challenge").len(), begun.parameter("state")), (43, begun.state.clone()));
    let kept = db::word(acme.database(), "SELECT string_agg(f::text, ' ') AS word FROM federation_states f").await;
    assert!(!kept.contains(&begun.state) && !kept.contains(&begun.parameter("nonce")), "{kept}");

    // Nowhere else, not even nearly.
    for other in ["https://evil.example/", "https://app.example.com/callback/", "https://app.example.com/callback?x"] {
        let body = json!({"tenant": acme.slug.as_str(), "redirectUri": other});
        let refused = acme.anonymous().post("/api/v1/auth/federation/one/start", body).await;
        assert_eq!(refused.invalid(), [("redirectUri".to_owned(), "not_allowed".to_owned())]);
    }
    // Who asks for what is not there learns nothing of tenants.
    let start = async |slug: &str, provider: &str| {
        let body = json!({"tenant": slug, "redirectUri": REDIRECT});
        let answer = acme.anonymous().post(&format!("/api/v1/auth/federation/{provider}/start"), body).await;
        answer.refused(404, "not_found").without_request_id()
    };
    let nothing = start(acme.slug.as_str(), "none").await;
    assert_eq!(nothing, start("no-such-tenant", "one").await);
    assert_eq!(nothing, start(globex.slug.as_str(), "one").await);

    // A code is good once, a state is good once, and for its own tenant.
    let came = consent(&begun, &person("ada", "ada@acme.test", true)).await;
    let iss = came.get("iss").map(String::as_str);
    let elsewhere = acme.anonymous().with("x-tenant-id", globex.slug.as_str());
    back(&elsewhere, &begun.state, &came["code"], iss).await.refused(404, "tenant_mismatch");
    back(&acme.anonymous(), &begun.state, &came["code"], iss).await.expect(200);
    back(&acme.anonymous(), &begun.state, &came["code"], iss).await.refused(401, "token_invalid");
    let next = begin(&acme, "one").await;
    back(&acme.anonymous(), &next.state, &came["code"], iss).await.refused(401, "federation_failed");
    back(&acme.anonymous(), &format!("{}A", next.state), "x", None).await.refused(401, "token_invalid");
    // A provider that was changed or closed ends what had begun.
    let next = begin(&acme, "one").await;
    let path = format!("/api/v1/identity-providers/{}", made["id"].as_str().unwrap());
    acme.admin().patch(&path, json!({"enabled": false})).await.expect(200);
    back(&acme.anonymous(), &next.state, "x", None).await.refused(401, "token_invalid");
    assert_eq!(nothing, start(acme.slug.as_str(), "one").await);
}

#[actix_web::test]
async fn of_a_hundred_who_come_back_with_one_state_one_is_let_in() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/a", evil()), json!({})).await;
    let begun = begin(&acme, "evil").await;
    let code = begun.code(&json!({"claims": {"email": "ada@acme.test"}}));
    let nobody = acme.anonymous();
    let answers = join_all((0..100).map(|_| back(&nobody, &begun.state, &code, None))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    let others = answers.iter().filter(|answer| answer.status != 200);
    others.for_each(|answer| assert_eq!((answer.status, answer.code()), (401, "token_invalid"), "{answer:?}"));
}

#[actix_web::test]
async fn the_organisation_s_second_factor_is_asked_for_here_too() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/mfa", evil()), json!({})).await;
    acme.admin().patch("/api/v1/security-policy", json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    let wish = json!({"claims": {"email": "ada@acme.test", "amr": ["mfa"]}});
    let half = with(&acme, "evil", wish.clone()).await.expect(200);
    assert_eq!(half.data()["methods"], json!(["enrolment"]), "{half:?}");
    let token = json!({"mfaToken": half.data()["mfaToken"]});
    let nobody = acme.anonymous();
    let told = nobody.post("/api/v1/auth/mfa/enrolment", token.clone()).await.expect(200);
    let code = code(app().await, told.data()["secret"].as_str().unwrap());
    let body = json!({"mfaToken": token["mfaToken"], "code": code});
    let whole = nobody.post("/api/v1/auth/mfa/enrolment/confirm", body).await.expect(200);
    assert_eq!(claims(&whole)["amr"], json!(["fed", "otp"]));
    let half = with(&acme, "evil", wish).await.expect(200);
    assert_eq!(half.data()["methods"], json!(["otp", "recovery"]), "{half:?}");
}

/// Else a provider says each time when they signed in there, in the morning: without a password they had never a fresh proof.
#[actix_web::test]
async fn who_wants_to_prove_themselves_anew_is_asked_by_the_provider() {
    let acme = app().await.tenant("acme").await;
    let [one, _] = honest();
    provider(&acme, "one", one, json!({})).await;
    provider(&acme, "github", &format!("{}/github", evil()), json!({"kind": "github"})).await;
    let asked = async |slug: &str, fresh: Value| {
        let mut body = json!({"tenant": acme.slug.as_str(), "redirectUri": REDIRECT});
        if !fresh.is_null() {
            body["fresh"] = fresh;
        }
        let path = format!("/api/v1/auth/federation/{slug}/start");
        let begun = Begun::of(&acme.anonymous().post(&path, body).await.expect(200));
        let of_proof = |name: &str| matches!(name, "prompt" | "max_age");
        let pairs = begun.url.query_pairs().filter(|(name, _)| of_proof(name));
        pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(asked("one", json!(true)).await, ["prompt=login", "max_age=0"]);
    for (slug, fresh) in [("one", json!(false)), ("one", json!(null)), ("github", json!(true))] {
        assert!(asked(slug, fresh.clone()).await.is_empty(), "{slug} {fresh}");
    }
}

/// Whoever signed in at the provider an hour ago has shown nothing since.
#[actix_web::test]
async fn a_proof_is_as_old_as_the_provider_says() {
    let acme = app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/proof", evil()), json!({})).await;
    let links = "/api/v1/users/me/social-accounts";
    let link = json!({"provider": "evil", "redirectUri": REDIRECT});
    let now = app().await.clock().now().timestamp();
    for (said, fresh) in
        [(json!(now - 3600), false), (json!(-1e300), false), (json!(now + 3600), true), (json!(null), true)]
    {
        let wish = json!({"claims": {"email": "ada@acme.test", "auth_time": said}});
        let came = with(&acme, "evil", wish).await.expect(200);
        let token = claims(&came);
        let age = token["iat"].as_i64().unwrap() - token["auth_time"].as_i64().unwrap();
        assert_eq!((age >= 3500, (0..60).contains(&age)), (!fresh, fresh), "{said}: {token}");
        let her = acme.anonymous().bearing(came.data()["accessToken"].as_str().unwrap());
        her.get(links).await.expect(200);
        let asked = her.post(links, link.clone()).await;
        if fresh {
            asked.expect(200)
        } else {
            asked.refused(403, "step_up_required")
        };
    }
}

#[actix_web::test]
async fn github_is_signed_in_with() {
    let acme = app().await.tenant("acme").await;
    let more = json!({"kind": "github", "clientSecret": "github secret"});
    provider(&acme, "github", &format!("{}/github", evil()), more).await;
    let come = async |emails: Value| {
        let begun = begin(&acme, "github").await;
        assert!(begun.url.path().ends_with("/login/oauth/authorize"), "{}", begun.url);
        let code = json!({"id": 42, "name": "Mona Lisa Octocat", "emails": emails});
        let code = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, code.to_string());
        back(&acme.anonymous(), &begun.state, &code, None).await
    };
    let email =
        |primary: bool, verified: bool| json!({"email": "mona@acme.test", "primary": primary, "verified": verified});
    come(json!([email(true, false), email(false, true)])).await.refused(401, "federation_failed");
    let came = come(json!([email(true, true)])).await.expect(200);
    let user = &came.data()["user"];
    assert_eq!((&user["firstName"], &user["lastName"]), (&json!("Mona Lisa"), &json!("Octocat")));
    let kept = "SELECT issuer || ' ' || subject AS word FROM social_accounts";
    assert_eq!(db::word(acme.database(), kept).await, format!("{}/github 42", evil()));
}

/// Sign-ins under way are bounded in a tenant. Nobody alone has those of all others thrown away.
#[actix_web::test]
async fn a_stranger_who_begins_many_sign_ins_is_let_begin_no_more() {
    let acme = app().await.tenant("acme").await;
    let [one, _] = honest();
    let made = provider(&acme, "one", one, json!({})).await;
    let many = async |network: &str, count: u32| {
        let many = format!(
            "INSERT INTO federation_states (state_hash, provider_id, redirect_uri, created_at, expires_at, network) \
             SELECT sha256(('{network}' || i)::bytea), '{}', 'x', now() + interval '1 hour', now() + interval '1 day', \
             '{network}' FROM generate_series(1, {count}) i",
            made["id"].as_str().unwrap()
        );
        db::execute(acme.database(), &many).await;
    };
    let start = async || {
        let body = json!({"tenant": acme.slug.as_str(), "redirectUri": REDIRECT});
        acme.anonymous().post("/api/v1/auth/federation/one/start", body).await
    };
    many("203.0.113.9", 1_000).await;
    many("127.0.0.1", 999).await;
    start().await.expect(200);
    start().await.refused(429, "rate_limited");
}

/// Whoever has a /48 has many networks, each of which has room on its own.
#[actix_web::test]
async fn the_networks_of_one_site_begin_so_many_sign_ins_together() {
    let builder = TestApp::builder().beside(TestApp::shared().await).set("TENANTRY_OUTBOUND__ALLOW", "127.0.0.0/8");
    let near = builder.set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let acme = app().await.tenant("acme").await.at(near.url());
    let [one, _] = honest();
    let made = provider(&acme, "one", one, json!({})).await;
    let many = format!(
        "INSERT INTO federation_states (state_hash, provider_id, redirect_uri, created_at, expires_at, network, site) \
         SELECT sha256(('site' || i)::bytea), '{}', 'x', now() + interval '1 hour', now() + interval '1 day', \
         '2001:db8:1:' || (1 + i % 10) || '::/64', '2001:db8:1::/48' FROM generate_series(1, 4999) i",
        made["id"].as_str().unwrap()
    );
    db::execute(acme.database(), &many).await;
    let start = async |from: &str| {
        let body = json!({"tenant": acme.slug.as_str(), "redirectUri": REDIRECT});
        acme.anonymous().with("x-forwarded-for", from).post("/api/v1/auth/federation/one/start", body).await
    };
    start("2001:db8:1:1::1").await.expect(200);
    for network in ["2001:db8:1:2::1", "2001:db8:1:ffff::1"] {
        let refused = start(network).await;
        assert!(refused.header("ratelimit-policy").is_some_and(|policy| policy.contains("q=5000;")), "{refused:?}");
        refused.refused(429, "rate_limited");
    }
    start("2001:db8:2:1::1").await.expect(200);
}
