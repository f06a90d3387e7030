//! Access tokens of others, signed by an independent library.

use serde_json::{Value, json};
use tenantry::testing::{Persona, Tenant, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::identity::{app, client, evil, evil_post, provider};
use crate::support::{db, eventually, seconds, unique};

const PATH: &str = "/api/v1/token-issuers";
const PASSWORD: &str = "an uncommon sentence of five words";
const SECRET: &str = "a secret of more than thirty-two bytes";

/// The usual issuer: its keys by address, its subjects by their address.
fn issuer(name: &str, more: Value) -> Value {
    let mut body = json!({
        "name": name, "issuer": name, "audience": "tenantry", "jwksUrl": format!("{}/foreign/jwks", evil()),
        "matchBy": "email",
    });
    for (name, value) in more.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

/// By an administrator of the tenant's; with a shared secret by an operator, who alone may.
async fn register(tenant: &Tenant, body: Value) -> String {
    if body["secret"].is_string() {
        return app().await.operator().post(&by_operator(tenant), body).await.expect(201).id();
    }
    tenant.admin().post(PATH, body).await.expect(201).id()
}

fn by_operator(tenant: &Tenant) -> String {
    format!("/api/v1/admin/tenants/{}/token-issuers", tenant.slug)
}

/// A token with these claims, over those that are good for `email`.
async fn token(iss: &str, email: &str, wish: Value) -> String {
    let mut wish = wish;
    let good = json!({"iss": iss, "aud": "tenantry", "sub": "s", "email": email, "email_verified": true});
    for (name, value) in good.as_object().expect("members") {
        if wish["claims"].get(name).is_none() {
            wish["claims"][name] = value.clone();
        }
    }
    evil_post("/sign", wish).await["token"].as_str().expect("a token").to_owned()
}

/// Whoever bears it, at this tenant.
fn bearing(tenant: &Tenant, token: &str) -> Persona {
    tenant.anonymous().bearing(token).with("x-tenant-id", tenant.slug.as_str())
}

async fn status(tenant: &Tenant, token: &str) -> (u16, String) {
    let answer = bearing(tenant, token).get("/api/v1/contacts").await;
    (answer.status, answer.code().to_owned())
}

fn refused() -> (u16, String) {
    (401, "token_invalid".to_owned())
}

#[actix_web::test]
async fn a_registered_issuer_s_tokens_are_taken_for_this_tenant_alone() {
    let (acme, globex) = (app().await.tenant("acme").await, app().await.tenant("globex").await);
    let iss = unique("https://id.example/");
    let id = register(&acme, issuer(&iss, json!({}))).await;
    let user = acme.user().signed_in().await["user"].clone();
    let email = user["email"].as_str().unwrap();
    let good = token(&iss, email, json!({})).await;
    let program = bearing(&acme, &good);
    let contact = program.post("/api/v1/contacts", json!({"lastName": "Foreign"})).await.expect(201).id();
    program.get(&format!("/api/v1/contacts/{contact}")).await.expect(200);
    // The person's own rights and no more; and nothing that is a person's own affair.
    program.get("/api/v1/api-keys").await.refused(403, "permission_denied");
    for path in ["/api/v1/users/me", "/api/v1/auth/sessions"] {
        program.get(path).await.refused(403, "permission_denied");
    }
    // It names no tenant: whoever brings it does, and a parameter is not enough.
    let nowhere = acme.anonymous().bearing(&good);
    nowhere.get("/api/v1/contacts").await.refused(401, "token_invalid");
    nowhere.get(&format!("/api/v1/contacts?tenant={}", acme.slug)).await.refused(401, "token_invalid");
    assert_eq!(status(&globex, &good).await, refused());
    nowhere.with("x-tenant-id", "no-such-tenant").get("/api/v1/contacts").await.refused(401, "token_invalid");
    // The same issuer of another tenant stands for other people: here, for nobody.
    register(&globex, issuer(&iss, json!({}))).await;
    assert_eq!(status(&globex, &good).await, refused());
    // Operators' routes take none.
    program.get("/api/v1/admin/tenants").await.refused(401, "token_invalid");

    // Who is out is out, and what is registered no more is taken no more: here at once, everywhere in two seconds.
    let other = TestApp::builder().beside(app().await).set("TENANTRY_OUTBOUND__ALLOW", "127.0.0.0/8").start().await;
    let there = program.at(other.url());
    there.get("/api/v1/contacts").await.expect(200);
    acme.admin().delete(&format!("{PATH}/{id}")).await.expect(204);
    let gone = async || status(&acme, &good).await == refused();
    eventually(seconds(2), "this node knows", gone).await;
    eventually(seconds(2), "the other node knows", async || there.get("/api/v1/contacts").await.status == 401).await;
    let noted = "SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE action LIKE 'token_issuer.%'";
    assert_eq!(db::word(acme.database(), noted).await, "token_issuer.created token_issuer.removed");
}

#[actix_web::test]
async fn what_is_wrong_with_a_foreign_token_is_seen() {
    let acme = app().await.tenant("acme").await;
    let iss = unique("https://id.example/");
    register(&acme, issuer(&iss, json!({}))).await;
    let hs = unique("https://hs.example/");
    register(&acme, issuer(&hs, json!({"jwksUrl": null, "secret": SECRET}))).await;
    let user = acme.user().signed_in().await["user"].clone();
    let email = user["email"].as_str().unwrap();
    assert_eq!(status(&acme, &token(&iss, email, json!({})).await).await.0, 200);
    assert_eq!(status(&acme, &token(&iss, email, json!({"alg": "ES256"})).await).await.0, 200);
    assert_eq!(status(&acme, &token(&hs, email, json!({"alg": "HS256", "secret": SECRET})).await).await.0, 200);
    let mut taken = Vec::new();
    for (what, iss, wish) in [
        ("another issuer", "https://nobody.example", json!({})),
        ("another audience", iss.as_str(), json!({"claims": {"aud": "other"}})),
        ("no audience", &iss, json!({"claims": {"aud": null}})),
        ("not yet", &iss, json!({"claims": {"nbf": 4_000_000_000_i64}})),
        ("no end", &iss, json!({"claims": {"exp": null}})),
        ("no alg", &iss, json!({"alg": "none"})),
        ("the public key as a secret", &iss, json!({"alg": "HS256"})),
        ("the other issuer's secret", &iss, json!({"alg": "HS256", "secret": SECRET})),
        ("a guessed secret", &hs, json!({"alg": "HS256", "secret": "guessed"})),
        ("a public key where a secret is shared", &hs, json!({})),
        ("a stranger's key", &iss, json!({"key": "stranger"})),
        ("something to be understood", &iss, json!({"header": {"crit": ["b64"], "b64": true}})),
        ("an unverified address", &iss, json!({"claims": {"email_verified": false}})),
        ("no address", &iss, json!({"claims": {"email": null}})),
        ("nobody here", &iss, json!({"claims": {"email": "nobody@example.com"}})),
    ] {
        let said = status(&acme, &token(iss, email, wish).await).await;
        if said != refused() {
            taken.push(format!("{what}: {said:?}"));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
    let old = token(&iss, email, json!({"claims": {"exp": 1_700_000_000}})).await;
    assert_eq!(status(&acme, &old).await, (401, "token_expired".to_owned()));
    // Keys that nobody can fetch verify nothing.
    let dead = unique("https://dead.example/");
    register(&acme, issuer(&dead, json!({"jwksUrl": "http://127.0.0.1:9/jwks"}))).await;
    assert_eq!(status(&acme, &token(&dead, email, json!({})).await).await, refused());
}

#[actix_web::test]
async fn foreign_keys_that_rotate_are_followed_and_made_up_names_ask_nobody() {
    let acme = app().await.tenant("acme").await;
    let iss = unique("https://id.example/");
    let turning = format!("{}/turning/jwks", evil());
    register(&acme, issuer(&iss, json!({"jwksUrl": turning}))).await;
    let user = acme.user().signed_in().await["user"].clone();
    let email = user["email"].as_str().unwrap();
    let token = async |mut wish: Value| {
        wish["ring"] = json!("turning");
        token(&iss, email, wish).await
    };
    let before = token(json!({})).await;
    assert_eq!(status(&acme, &before).await.0, 200);
    let asked = async || evil_post("/seen", json!({})).await["asked"]["turning"].as_i64().unwrap();
    let begun = asked().await;
    for _ in 0..20 {
        let made_up = token(json!({"kid": unique("kid")})).await;
        assert_eq!(status(&acme, &made_up).await, refused());
    }
    // Another test may move the clock meanwhile, and with it the pause.
    assert!(asked().await - begun < 10, "each made-up name asked the issuer");
    evil_post("/rotate/turning", json!({})).await;
    app().await.clock().advance(chrono::TimeDelta::seconds(11));
    assert_eq!(status(&acme, &token(json!({})).await).await.0, 200);
    let old = json!({"key": "old", "claims": {"jti": unique("jti")}});
    assert_eq!(status(&acme, &token(old).await).await, refused());
}

#[actix_web::test]
async fn subjects_and_roles_are_known_as_it_was_registered() {
    let acme = app().await.tenant("acme").await;
    let user = acme.user().signed_in().await["user"].clone();
    let (id, email) = (user["id"].as_str().unwrap(), user["email"].as_str().unwrap());
    // By the id of a person here.
    let hs = unique("https://hs.example/");
    register(&acme, issuer(&hs, json!({"jwksUrl": null, "secret": SECRET, "matchBy": "user_id"}))).await;
    let signed = json!({"alg": "HS256", "secret": SECRET, "claims": {"sub": id, "email": null}});
    assert_eq!(status(&acme, &token(&hs, "", signed).await).await.0, 200);
    // By the subject at the identity provider with the same issuer.
    let iss = format!("{}/{}", evil(), unique("op"));
    let made = provider(&acme, "op", &iss, json!({})).await;
    register(&acme, issuer(&iss, json!({"matchBy": "subject"}))).await;
    let by_subject = token(&iss, email, json!({"claims": {"sub": "ext"}})).await;
    assert_eq!(status(&acme, &by_subject).await, refused());
    let link = format!(
        "INSERT INTO social_accounts (id, user_id, provider_id, issuer, subject, created_at, last_used_at) \
         VALUES (gen_random_uuid(), '{id}', '{}', '{iss}', 'ext', now(), now())",
        made["id"].as_str().unwrap()
    );
    db::execute(acme.database(), &link).await;
    assert_eq!(status(&acme, &by_subject).await.0, 200);
    // With roles by its own words, in place of the person's.
    let words = unique("https://words.example/");
    acme.admin().post("/api/v1/roles", json!({"name": "reader", "permissions": ["contacts:read"]})).await.expect(201);
    let roles = json!({"rolesClaim": "groups", "roles": [{"word": "staff", "role": "reader"}]});
    let registered = register(&acme, issuer(&words, roles)).await;
    let of = async |groups: Value| {
        let token = token(&words, email, json!({"claims": {"groups": groups, "jti": unique("jti")}})).await;
        let program = bearing(&acme, &token);
        let read = program.get("/api/v1/contacts").await.status;
        (read, program.post("/api/v1/contacts", json!({"lastName": "X"})).await.status)
    };
    assert_eq!(of(json!(["staff", "others"])).await, (200, 403));
    assert_eq!(of(json!("staff")).await, (200, 403));
    assert_eq!(of(json!(["others"])).await, (403, 403));
    // Their own are their teams', too.
    let own = unique("https://own.example/");
    register(&acme, issuer(&own, json!({}))).await;
    acme.admin().post("/api/v1/roles", json!({"name": "keys", "permissions": ["api-keys:read"]})).await.expect(201);
    let team = json!({"name": unique("team"), "description": "", "roles": ["keys"]});
    let team = acme.admin().post("/api/v1/teams", team).await.expect(201).id();
    bearing(&acme, &token(&own, email, json!({})).await)
        .get("/api/v1/api-keys")
        .await
        .refused(403, "permission_denied");
    acme.admin().put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
    let later = token(&own, email, json!({"claims": {"jti": unique("jti")}})).await;
    bearing(&acme, &later).get("/api/v1/api-keys").await.expect(200);

    // Nobody lends more than they have: neither by a word, nor by whom the issuer names.
    let role = json!({"name": "lender", "permissions": ["token-issuers:write", "token-issuers:read", "contacts:read"]});
    acme.admin().post("/api/v1/roles", role).await.expect(201);
    let address = format!("{}@acme.test", unique("lender"));
    let body = json!({"email": address, "firstName": "L", "lastName": "L", "password": PASSWORD, "roles": ["lender"]});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let lender = acme.person(&address, PASSWORD);
    let refused =
        lender.post(PATH, issuer(&unique("https://x/"), json!({"roles": [{"word": "a", "role": "admin"}]}))).await;
    assert_eq!(refused.invalid()[0], ("roles".to_owned(), "beyond_own_permissions".to_owned()));
    let own = unique("https://lender.example/");
    lender.post(PATH, issuer(&own, json!({}))).await.expect(201);
    let as_admin = token(&own, acme.email(), json!({})).await;
    let as_admin = bearing(&acme, &as_admin);
    as_admin.get("/api/v1/contacts").await.expect(200);
    as_admin.get("/api/v1/permissions").await.refused(403, "permission_denied");
    as_admin.post("/api/v1/contacts", json!({"lastName": "X"})).await.refused(403, "permission_denied");
    // Nor does it register anything itself.
    let shown = acme.admin().get(&format!("{PATH}/{registered}")).await.expect(200);
    assert_eq!(shown.data()["roles"], json!([{"word": "staff", "role": "reader"}]));
    as_admin.post(PATH, issuer(&unique("https://y/"), json!({}))).await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn an_issuer_is_registered_with_care() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let good = issuer("https://id.example.com", json!({"jwksUrl": "https://id.example.com/jwks"}));
    acme.user().post(PATH, good.clone()).await.refused(403, "permission_denied");
    let made = acme.admin().post(PATH, good.clone()).await.expect(201);
    acme.admin().post(PATH, good).await.refused(409, "already_exists");
    let own = format!("{}/t/globex", home.router().config().public_url);
    for (more, field) in [
        (json!({"issuer": own}), "issuer"),
        (json!({"jwksUrl": null}), "jwksUrl"),
        (json!({"secret": SECRET}), "secret"),
        (json!({"jwksUrl": null, "secret": SECRET}), "secret"),
        (json!({"jwksUrl": "http://id.example.com/jwks"}), "jwksUrl"),
        (json!({"jwksUrl": "https://127.0.0.1/jwks"}), "jwksUrl"),
        (json!({"roles": [{"word": "a", "role": "none"}]}), "roles[0].role"),
        (json!({"audience": " "}), "audience"),
    ] {
        let body = issuer(&unique("https://"), json!({"jwksUrl": "https://id.example.com/jwks"}));
        let mut body = body;
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_eq!(acme.admin().post(PATH, body).await.invalid()[0].0, field, "{more}");
    }
    let one = format!("{PATH}/{}", made.id());
    let closed = acme.admin().patch(&one, json!({"enabled": false})).await.expect(200);
    assert_eq!(closed.data()["enabled"], false);
    // Who shares a secret with an issuer is for an operator to say.
    let alone = [("secret".to_owned(), "operator_only".to_owned())];
    let with_secret = issuer(&unique("https://hs.example/"), json!({"jwksUrl": null, "secret": SECRET}));
    assert_eq!(acme.admin().post(PATH, with_secret.clone()).await.invalid(), alone);
    assert_eq!(acme.admin().patch(&one, json!({"secret": SECRET})).await.invalid(), alone);
    let shared = home.operator().post(&by_operator(&acme), with_secret).await.expect(201);
    assert!(shared.data()["jwksUrl"].is_null() && !shared.text.contains(SECRET), "{shared:?}");
    let kept = db::word(acme.database(), "SELECT string_agg(t::text, ' ') AS word FROM token_issuers t").await;
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!kept.contains(SECRET) && !kept.contains(&hex), "{kept}");
    let theirs = format!("{PATH}/{}", shared.id());
    assert_eq!(acme.admin().patch(&theirs, json!({"secret": SECRET})).await.invalid(), alone);
    acme.admin().patch(&theirs, json!({"name": "Another", "enabled": false})).await.expect(200);
    let keys = acme.admin().patch(&theirs, json!({"jwksUrl": "https://id.example.com/jwks"})).await.expect(200);
    assert_eq!(keys.data()["jwksUrl"], "https://id.example.com/jwks");
    acme.admin().delete(&one).await.expect(204);
    acme.admin().delete(&one).await.refused(404, "not_found");
}

/// However slow the keys are, what is registered no more is taken no more.
#[actix_web::test]
async fn an_issuer_that_goes_while_its_keys_are_asked_for_is_believed_no_more() {
    let acme = app().await.tenant("acme").await;
    let keys = client().get(format!("{}/foreign/jwks", evil())).send().await.expect("keys").text().await.expect("text");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let slow = format!("http://{}/jwks", listener.local_addr().expect("an address"));
    let ((came, asked), (go, going)) = (oneshot::channel(), oneshot::channel::<()>());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut read = [0; 4096];
        let _ = client.read(&mut read).await;
        came.send(()).expect("somebody waits");
        going.await.expect("it is let go");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}", keys.len());
        let _ = client.write_all(answer.as_bytes()).await;
    });
    let iss = unique("https://id.example/");
    let id = register(&acme, issuer(&iss, json!({"jwksUrl": slow}))).await;
    let user = acme.user().signed_in().await["user"].clone();
    let good = token(&iss, user["email"].as_str().unwrap(), json!({})).await;
    let program = bearing(&acme, &good);
    let removing = async {
        asked.await.expect("the keys are asked for");
        acme.admin().delete(&format!("{PATH}/{id}")).await.expect(204);
        go.send(()).expect("it answers");
    };
    let (answer, ()) = futures_util::future::join(program.get("/api/v1/contacts"), removing).await;
    answer.refused(401, "token_invalid");
    program.get("/api/v1/contacts").await.refused(401, "token_invalid");
}
