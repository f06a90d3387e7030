//! Signing in through identity providers: two that are certified, and one that does what it is told.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Tenant, TestApp};

use crate::support::authenticator::code;
use crate::support::identity::{
    Begun, REDIRECT, app, back, begin, claims, consent, evil, evil_post, honest, provider, sign_in,
};
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
const MINE: &str = "/api/v1/users/me/social-accounts";

fn person(sub: &str, email: &str, verified: bool) -> Value {
    json!({"sub": sub, "email": email, "verified": verified, "name": "Ada Lovelace"})
}

/// A sign-in at the evil provider with such an ID token.
async fn with(tenant: &Tenant, slug: &str, wish: Value) -> Answer {
    let begun = begin(tenant, slug).await;
    back(&tenant.anonymous(), &begun.state, &begun.code(&wish), None).await
}

async fn add(tenant: &Tenant, email: &str) -> String {
    let body = json!({"email": email, "firstName": "X", "lastName": "X", "password": PASSWORD, "roles": ["user"]});
    tenant.admin().post("/api/v1/users", body).await.expect(201).id()
}

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
    assert!(said["auth_time"].as_i64() >= said["iat"].as_i64(), "{said}");
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
    let linked = her.post(&callback, answer).await.expect(201).id();
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
    let noted = format!("SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE user_id = '{id}'");
    assert_eq!(db::word(acme.database(), &noted).await, "federation.linked federation.unlinked");
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
    // Who may not come in does not come in this way either.
    let path = format!("/api/v1/users/{invited}");
    acme.admin().patch(&path, json!({"status": "deactivated"})).await.expect(200);
    with(&acme, "evil", wish).await.refused(401, "federation_failed");
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
    let role = json!({"name": "door", "permissions": ["identity-providers:write", "identity-providers:read"]});
    acme.admin().post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@acme.test", unique("door"));
    let keeper = json!({"email": email, "firstName": "D", "lastName": "D", "password": PASSWORD, "roles": ["door"]});
    acme.admin().post("/api/v1/users", keeper).await.expect(201);
    let keeper = acme.person(&email, PASSWORD);
    let refused = keeper.post(path, with(json!({"defaultRole": "admin"}))).await;
    assert_eq!(refused.invalid(), [("defaultRole".to_owned(), "beyond_own_permissions".to_owned())]);
    let wide = acme.admin().post(path, with(json!({"defaultRole": "admin"}))).await.expect(201).id();
    let one = format!("{path}/{wide}");
    let refused = keeper.patch(&one, json!({"allowedDomains": ["keeper.test"]})).await;
    assert_eq!(refused.invalid()[0].0, "defaultRole");

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
