//! What operators may do by role, their second factor and their sessions.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::testing::{Persona, TestApp};

use crate::support::authenticator::code;
use crate::support::binary::run;
use crate::support::db;
use crate::support::matrix::fill_with_nothing;
use crate::support::openapi::OpenApi;
use crate::support::{eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
const LOGIN: &str = "/api/v1/admin/auth/login";

fn credentials(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

/// A new operator, signed in.
pub(super) async fn operator(app: &TestApp, role: &str, tenants: &[&str]) -> (String, String, Persona) {
    let email = format!("{}@operators.test", unique(role));
    let body = json!({"email": email, "password": PASSWORD, "role": role, "tenants": tenants});
    let id = app.operator().post("/api/v1/admin/operators", body).await.expect(201).id();
    let token = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let token = token.data()["accessToken"].as_str().expect("a token").to_owned();
    (id, email, app.anonymous().bearing(&token))
}

#[actix_web::test]
async fn operations_by_operator_s_role() {
    let app = TestApp::builder().start().await;
    let tenant = app.tenant("mine").await;
    let openapi = OpenApi::of(&app).await;
    let mut picture = String::new();
    let operations = openapi.operations();
    let closed =
        operations.iter().filter(|o| o.is_admin() && !["login", "mfa"].iter().any(|end| o.path.ends_with(end)));
    for operation in closed {
        let mut line = format!("{:6} {:50}", operation.method.as_str(), operation.path);
        for role in ["admin", "support", "owner"] {
            // Somebody new for each: they may log themselves out.
            let (_, _, who) = operator(&app, role, &[tenant.slug.as_str()]).await;
            let body = openapi.body(operation, &std::collections::BTreeMap::new());
            let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.to_string()));
            let answer = who.send(operation.method.clone(), &fill_with_nothing(operation), body).await;
            assert!(answer.status != 401 && answer.status < 500, "{answer:?}");
            line.push_str(&format!(" {role}: {:4}", if answer.code() == "permission_denied" { "-" } else { "may" }));
        }
        picture.push_str(line.trim_end());
        picture.push('\n');
    }
    insta::assert_snapshot!(picture);
}

/// To an owner, another tenant is not there, whichever way it is named.
#[actix_web::test]
async fn an_owner_knows_of_its_own_tenants_alone() {
    let app = TestApp::shared().await;
    let (mine, other) = (app.tenant("mine").await, app.tenant("other").await);
    let (_, _, owner) = operator(app, "owner", &[mine.slug.as_str()]).await;
    let listed = owner.get("/api/v1/admin/tenants?pageSize=100").await.expect(200);
    let slugs: Vec<_> = listed.data().as_array().expect("a list").iter().map(|tenant| tenant["slug"].clone()).collect();
    assert_eq!(slugs, [json!(mine.slug)]);
    let me = owner.get("/api/v1/admin/auth/me").await.expect(200);
    assert_eq!((&me.data()["role"], &me.data()["tenants"]), (&json!("owner"), &json!([mine.slug])));

    let path = |name: &str| format!("/api/v1/admin/tenants/{name}");
    owner.get(&path(mine.slug.as_str())).await.expect(200);
    owner.post(&format!("{}/suspend", path(mine.slug.as_str())), json!({})).await.expect(200);
    owner.post(&format!("{}/resume", path(mine.slug.as_str())), json!({})).await.expect(200);

    let jobs = app.operator().get(&format!("/api/v1/admin/jobs?tenantId={}", other.slug)).await.expect(200);
    let job = jobs.data()[0]["id"].as_str().expect("its making").to_owned();
    let openapi = OpenApi::of(app).await;
    let mut tried = 0;
    for operation in openapi.operations().iter().filter(|o| o.path.starts_with("/api/v1/admin/tenants/{id}")) {
        for name in [other.slug.to_string(), other.id.to_string()] {
            let body = openapi.body(operation, &std::collections::BTreeMap::new());
            let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.to_string()));
            let answer = owner.send(operation.method.clone(), &operation.path.replace("{id}", &name), body).await;
            let told = (answer.status, answer.code() == "permission_denied");
            assert!([(404, false), (403, true)].contains(&told), "{}: {answer:?}", operation.name());
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
    owner.get(&format!("/api/v1/admin/jobs/{job}")).await.refused(404, "not_found");
    owner.post(&format!("/api/v1/admin/jobs/{job}/cancel"), json!({})).await.refused(404, "not_found");
    owner.get(&format!("/api/v1/admin/jobs?tenantId={}", other.slug)).await.refused(404, "not_found");
    let seen = owner.get("/api/v1/admin/jobs?pageSize=100").await.expect(200);
    assert!(!seen.text.contains(other.slug.as_str()) && seen.text.contains(mine.slug.as_str()));
}

#[actix_web::test]
async fn a_role_that_is_taken_away_is_gone_at_once() {
    let app = TestApp::shared().await;
    let (id, email, who) = operator(app, "admin", &[]).await;
    who.get("/api/v1/admin/operators").await.expect(200);
    let path = format!("/api/v1/admin/operators/{id}");
    app.operator().patch(&path, json!({"role": "support"})).await.expect(200);
    eventually(seconds(5), "the session has ended", async || who.get("/api/v1/admin/operators").await.status == 401)
        .await;
    let again = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let who = app.anonymous().bearing(again.data()["accessToken"].as_str().expect("a token"));
    who.get("/api/v1/admin/operators").await.refused(403, "permission_denied");
    who.get("/api/v1/admin/pools").await.expect(200);
    app.operator().patch(&path, json!({"disabled": true})).await.expect(200);
    app.anonymous().post(LOGIN, credentials(&email)).await.refused(401, "invalid_credentials");
    app.operator().patch(&path, json!({"secondFactor": true})).await.expect(422);
    app.operator().patch(&path, json!({"tenants": ["no-such-tenant"]})).await.expect(422);
}

#[actix_web::test]
async fn an_operator_is_read_and_changed_under_its_version() {
    let app = TestApp::shared().await;
    let (mine, other) = (app.tenant("mine").await, app.tenant("other").await);
    let admin = app.operator();
    let given = [other.slug.as_str(), mine.slug.as_str()];
    let email = format!("{}@operators.test", unique("read"));
    let body = json!({"email": email, "password": PASSWORD, "role": "owner", "tenants": given});
    let added = admin.post("/api/v1/admin/operators", body).await.expect(201);
    let path = added.header("location").expect("a place").to_owned();
    let read = admin.get(&path).await.expect(200);
    assert_eq!((read.data(), read.header("etag")), (added.data(), added.header("etag")));
    let first = read.header("etag").expect("an ETag").to_owned();
    admin.with("if-none-match", &first).get(&path).await.expect(304);

    let mut tag = first.clone();
    for change in [
        json!({"tenants": [mine.slug]}),
        json!({"role": "support"}),
        json!({"disabled": true}),
        json!({"disabled": false}),
    ] {
        let changed = admin.with("if-match", &tag).patch(&path, change.clone()).await.expect(200);
        admin.with("if-match", &tag).patch(&path, change).await.refused(412, "version_mismatch");
        tag = changed.header("etag").expect("an ETag").to_owned();
        assert_eq!(admin.get(&path).await.expect(200).header("etag"), Some(tag.as_str()));
    }
    // What goes back to what it was is what was read.
    let back = json!({"role": "owner", "tenants": given});
    assert_eq!(admin.patch(&path, back).await.expect(200).header("etag"), Some(first.as_str()));
    // Of those who change it at once, one does.
    let same = admin.with("if-match", &first);
    let asked = ["admin", "support"].map(|role| same.patch(&path, json!({"role": role})));
    let mut told: Vec<_> = futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    told.sort_unstable();
    assert_eq!(told, [200, 412]);
    admin.get("/api/v1/admin/operators/01890000-0000-7000-8000-000000000000").await.refused(404, "not_found");
}

#[actix_web::test]
async fn the_last_administrator_stays() {
    let app = TestApp::builder().start().await;
    let listed = app.operator().get("/api/v1/admin/operators").await.expect(200);
    let id = listed.data()[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/admin/operators/{id}");
    for change in [json!({"role": "support"}), json!({"disabled": true})] {
        app.operator().patch(&path, change).await.refused(409, "conflict");
    }
    let email = listed.data()[0]["email"].as_str().expect("an address");
    let kept = run(&app, &["operator", "disable", "--email", email, "--yes"]).await.expect(4);
    assert!(kept.stderr.contains("last administrator"), "{kept:?}");
    app.operator().get("/api/v1/admin/operators").await.expect(200);
    let (other, _, _) = operator(&app, "admin", &[]).await;
    // Two at once, each taking the other's place away: one of them stays.
    let (a, b) = (app.operator(), app.operator());
    let other = format!("/api/v1/admin/operators/{other}");
    let (first, second) = futures_util::future::join(
        a.patch(&path, json!({"role": "support"})),
        b.patch(&other, json!({"role": "support"})),
    )
    .await;
    assert!(first.status != 200 || second.status != 200, "{first:?} {second:?}");
}

#[actix_web::test]
async fn a_second_factor_is_asked_for_and_each_code_is_good_once() {
    let app = TestApp::builder().start().await;
    let (_, email, who) = operator(&app, "admin", &[]).await;
    let totp = "/api/v1/admin/auth/mfa/totp";
    let told = who.post(totp, json!({})).await.expect(200);
    let secret = told.data()["secret"].as_str().expect("a secret").to_owned();
    assert!(told.data()["uri"].as_str().is_some_and(|uri| uri.starts_with("otpauth://totp/")), "{told:?}");
    assert!(told.data()["qrSvg"].as_str().is_some_and(|svg| svg.contains("<svg")), "{told:?}");
    // It does not count yet.
    app.anonymous().post(LOGIN, credentials(&email)).await.expect(200).data()["accessToken"].as_str().expect("in");
    who.post(&format!("{totp}/confirm"), json!({"code": "000000"})).await.expect(422);
    let used = code(&app, &secret);
    let confirmed = who.post(&format!("{totp}/confirm"), json!({"code": used})).await.expect(200);
    let recovery = confirmed.data()["recoveryCodes"].as_array().expect("codes").clone();
    assert_eq!(recovery.len(), 10);
    who.post(totp, json!({})).await.refused(409, "conflict");

    let half = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    assert_eq!((&half.data()["mfaRequired"], &half.data()["accessToken"]), (&json!(true), &json!(null)));
    let token = half.data()["mfaToken"].as_str().expect("a token").to_owned();
    // The half is good for nothing else.
    app.anonymous().bearing(&token).get("/api/v1/admin/tenants").await.refused(401, "token_invalid");
    let answer = |code: &str| json!({"mfaToken": token, "code": code});
    let further = "/api/v1/admin/auth/mfa";
    // The code that confirmed it was used by that.
    app.anonymous().post(further, answer(&used)).await.refused(401, "invalid_credentials");

    app.clock().advance(TimeDelta::seconds(30));
    let fresh = code(&app, &secret);
    let tries: Vec<_> = (0..4).map(|_| app.anonymous()).collect();
    let answers = tries.iter().map(|nobody| nobody.post(further, answer(&fresh)));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");

    // A recovery code, once, however it is typed.
    let typed = recovery[0].as_str().expect("a code").to_uppercase();
    app.clock().advance(TimeDelta::minutes(16));
    let half = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let token = half.data()["mfaToken"].as_str().expect("a token").to_owned();
    let answer = |code: &str| json!({"mfaToken": token, "code": code});
    let in_again = app.anonymous().post(further, answer(&typed)).await.expect(200);
    assert!(in_again.data()["accessToken"].is_string());
    app.anonymous().post(further, answer(&typed)).await.refused(401, "invalid_credentials");
    // Six digits are not guessed.
    for _ in 0..4 {
        app.anonymous().post(further, answer("000000")).await.refused(401, "invalid_credentials");
    }
    app.anonymous().post(further, answer("000000")).await.refused(429, "too_many_attempts");
    let sealed = "SELECT encode(totp_sealed, 'escape') AS word FROM operators WHERE totp_sealed IS NOT NULL";
    let kept = db::words(app.control_database(), sealed).await;
    assert!(kept.len() == 1 && !kept[0].contains(&secret), "{kept:?}");
}

#[actix_web::test]
async fn whoever_lost_the_second_factor_is_let_in_by_an_administrator() {
    let app = TestApp::shared().await;
    let (id, email, who) = operator(app, "support", &[]).await;
    let totp = "/api/v1/admin/auth/mfa/totp";
    let told = who.post(totp, json!({})).await.expect(200);
    let secret = told.data()["secret"].as_str().expect("a secret");
    who.post(&format!("{totp}/confirm"), json!({"code": code(app, secret)})).await.expect(200);
    let path = format!("/api/v1/admin/operators/{id}");
    for field in ["role", "tenants", "disabled", "secondFactor"] {
        let null = app.operator().patch(&path, json!({field: null})).await;
        assert_eq!(null.invalid(), [(field.to_owned(), "required".to_owned())]);
    }
    let reset = app.operator().patch(&path, json!({"secondFactor": false})).await.expect(200);
    assert_eq!(reset.data()["secondFactor"], false);
    let token = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    assert!(token.data()["accessToken"].is_string());
}

#[actix_web::test]
async fn sessions_are_seen_and_ended_by_their_owner_alone() {
    let app = TestApp::shared().await;
    let (_, email, who) = operator(app, "support", &[]).await;
    let second = app.anonymous().with("user-agent", "phone/1").post(LOGIN, credentials(&email)).await.expect(200);
    let phone = app.anonymous().bearing(second.data()["accessToken"].as_str().expect("a token"));
    let sessions = "/api/v1/admin/auth/sessions";
    let open = who.get(sessions).await.expect(200);
    let open = open.data().as_array().expect("sessions").clone();
    assert_eq!((open.len(), &open[0]["userAgent"], &open[0]["current"]), (2, &json!("phone/1"), &json!(false)));
    assert_eq!((&open[1]["current"], &open[1]["address"]), (&json!(true), &json!("127.0.0.1")));
    let path = format!("{sessions}/{}", open[0]["id"].as_str().expect("an id"));
    app.operator().delete(&path).await.refused(404, "not_found");
    phone.get(sessions).await.expect(200);
    who.delete(&path).await.expect(204);
    phone.get(sessions).await.refused(401, "token_revoked");
    who.delete(&path).await.refused(404, "not_found");
}

#[actix_web::test]
async fn an_operator_changes_their_own_password() {
    const CHANGE: &str = "/api/v1/admin/auth/change-password";
    const NEW: &str = "quite another sentence of words";
    let app = TestApp::shared().await;
    let (_, email, who) = operator(app, "support", &[]).await;
    let other = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let other = app.anonymous().bearing(other.data()["accessToken"].as_str().expect("a token"));
    let change = |from: &str, to: &str| json!({"currentPassword": from, "newPassword": to});
    who.post(CHANGE, change(PASSWORD, "short")).await.refused(422, "validation_failed");
    who.post(CHANGE, change(PASSWORD, NEW)).await.expect(204);
    who.get("/api/v1/admin/auth/me").await.expect(200);
    eventually(seconds(5), "the other session has ended", async || {
        other.get("/api/v1/admin/auth/me").await.status == 401
    })
    .await;
    app.anonymous().post(LOGIN, credentials(&email)).await.refused(401, "invalid_credentials");
    app.anonymous().post(LOGIN, json!({"email": email, "password": NEW})).await.expect(200);
    // Whoever has the token has no endless guesses at the password.
    for _ in 0..5 {
        who.post(CHANGE, change("a wrong guess of mine", "another good sentence"))
            .await
            .refused(422, "validation_failed");
    }
    who.post(CHANGE, change(NEW, "another good sentence")).await.refused(429, "too_many_attempts");
}

#[actix_web::test]
async fn an_operator_registers_whose_tokens_a_tenant_takes() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (_, _, admin) = operator(app, "admin", &[]).await;
    let path = format!("/api/v1/admin/tenants/{}/token-issuers", acme.slug);
    let issuer = json!({
        "name": "Batch", "issuer": "urn:batch", "audience": "tenantry", "matchBy": "email",
        "secret": "0123456789abcdef0123456789abcdef",
    });
    for (field, bad) in [
        ("secret", json!("short")),
        ("issuer", json!(app.router().config().public_url)),
        ("jwksUrl", json!("http://10.0.0.1/")),
    ] {
        let mut wrong = issuer.clone();
        wrong[field] = bad;
        admin.post(&path, wrong).await.refused(422, "validation_failed");
    }
    let made = admin.post(&path, issuer.clone()).await.expect(201);
    assert!(!made.text.contains("0123456789abcdef"), "{made:?}");
    admin.post(&path, issuer).await.refused(409, "already_exists");
    let listed = admin.get(&path).await.expect(200);
    assert_eq!(listed.data().as_array().map(Vec::len), Some(1));
    assert_eq!(acme.admin().get("/api/v1/token-issuers").await.expect(200).data()[0]["issuer"], "urn:batch");
    let others = admin.get(&format!("/api/v1/admin/tenants/{}/token-issuers", globex.slug)).await.expect(200);
    assert_eq!(*others.data(), json!([]));
    let noted = "SELECT actor || ' ' || request_id AS word FROM audit WHERE action = 'token_issuer.created'";
    let (noted, request) = (db::word(acme.database(), noted).await, made.header("x-request-id").expect("an id"));
    assert!(noted.starts_with("operator:") && noted.ends_with(&format!(" {request}")), "{noted}");
    let (_, _, support) = operator(app, "support", &[]).await;
    support.get(&path).await.expect(200);
    support.delete(&format!("{path}/{}", made.id())).await.refused(403, "permission_denied");
    let one = format!("{path}/{}", made.id());
    let current = format!("\"{}\"", made.data()["version"]);
    admin.with("if-match", "\"0\"").delete(&one).await.refused(412, "version_mismatch");
    admin.with("if-match", &format!("\"0\", {current}")).delete(&one).await.expect(204);
    admin.delete(&one).await.refused(404, "not_found");

    // The same on the command line, which asks the server.
    let (_, email, _) = operator(app, "admin", &[]).await;
    let dir = crate::support::dir::Dir::new();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let (password, secret) = (file("password", PASSWORD), file("secret", "0123456789abcdef0123456789abcdef"));
    let asked = ["--url", app.url(), "--email", &email, "--password-file", &password, "--output", "json"];
    let add = ["tenant", "issuers", "add", acme.slug.as_str(), "--name", "Night", "--issuer", "urn:night"];
    let more = ["--audience", "tenantry", "--secret-file", &secret, "--match-by", "user_id", "--role", "staff=user"];
    let made =
        run(app, &[&add[..], &more[..], &["--roles-claim", "groups"], &asked[..]].concat()).await.expect(0).json();
    assert_eq!((&made["issuer"], &made["roles"][0]["role"]), (&json!("urn:night"), &json!("user")));
    let short = file("short", "too short");
    let more = ["--audience", "tenantry", "--secret-file", &short, "--match-by", "user_id"];
    let refused = run(app, &[&add[..], &more[..], &asked[..]].concat()).await.expect(4);
    assert!(refused.stderr.contains("422") && refused.stderr.contains("(secret: "), "{refused:#?}");
    assert!(!refused.stderr.contains("--password-file") && refused.stderr.lines().count() == 1, "{refused:#?}");
    let list = [&["tenant", "issuers", "list", acme.slug.as_str()], &asked[..]].concat();
    assert_eq!(run(app, &list).await.expect(0).json().as_array().map(Vec::len), Some(1));
    let id = made["id"].as_str().expect("an id");
    let remove = [&["tenant", "issuers", "remove", acme.slug.as_str(), id, "--yes"], &asked[..]].concat();
    run(app, &remove).await.expect(0);
    assert_eq!(run(app, &list).await.expect(0).json(), json!([]));
}

#[actix_web::test]
async fn where_a_second_factor_is_demanded_of_operators_nothing_goes_without() {
    let home = TestApp::shared().await;
    let demanding = TestApp::builder().beside(home).set("TENANTRY_AUTH__OPERATORS_NEED_SECOND_FACTOR", "true");
    let app = demanding.start().await;
    let (_, email, _) = operator(home, "admin", &[]).await;
    let token = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let who = app.anonymous().bearing(token.data()["accessToken"].as_str().expect("a token"));
    who.get("/api/v1/admin/auth/me").await.expect(200);
    let refused = who.get("/api/v1/admin/tenants").await;
    assert!(refused.text.contains("second factor"), "{refused:?}");
    refused.refused(403, "permission_denied");
    let told = who.post("/api/v1/admin/auth/mfa/totp", json!({})).await.expect(200);
    let secret = told.data()["secret"].as_str().expect("a seed").to_owned();
    // Somebody who knows the password, and nothing else, came in before there was a factor to ask for.
    let other = app.anonymous().post(LOGIN, credentials(&email)).await.expect(200);
    let other = app.anonymous().bearing(other.data()["accessToken"].as_str().expect("a token"));
    other.get("/api/v1/admin/auth/me").await.expect(200);
    who.post("/api/v1/admin/auth/mfa/totp/confirm", json!({"code": code(&app, &secret)})).await.expect(200);
    eventually(seconds(5), "the node knows", async || who.get("/api/v1/admin/tenants").await.status == 200).await;
    eventually(seconds(5), "the other session has ended", async || {
        let answer = other.get("/api/v1/admin/tenants").await;
        assert_ne!(answer.status, 200, "it has shown no second factor");
        answer.status == 401
    })
    .await;
}
