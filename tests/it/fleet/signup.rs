//! Self-service sign-up: a tenant of one's own, once, at once, or when an operator agrees.

use std::pin::pin;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, TestApp};

use crate::support::binary::run;
use crate::support::openapi::OpenApi;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

pub(super) const PASSWORD: &str = "a password of some length";
pub(super) const PATH: &str = "/api/v1/tenants";

pub(super) fn request(slug: &str) -> Value {
    let admin = json!({"email": format!("founder@{slug}.test"), "password": PASSWORD, "firstName": "Fae", "lastName": "Founder"});
    json!({"name": "A name of their own", "slug": slug, "admin": admin})
}

async fn open() -> TestApp {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "open").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    app.start().await
}

fn bearer(app: &TestApp, answer: &Answer) -> Persona {
    app.anonymous().bearing(answer.data()["accessToken"].as_str().expect("a token"))
}

#[actix_web::test]
async fn the_tenant_is_usable_at_once_from_the_stock_and_without() {
    let app = open().await;
    app.fleet_with_stock(1, None).keep_stock().await.unwrap();
    for way in ["stock", "template"] {
        let slug = unique(way);
        // Somebody has looked for it before: that there is none is not believed any longer.
        app.anonymous().get(&format!("/t/{slug}/.well-known/jwks.json")).await.expect(404);
        let answer = app.anonymous().with("x-request-id", &slug).post(PATH, request(&slug)).await.expect(201);
        assert_eq!(answer.header("location"), Some("/api/v1/tenants/current"));
        let begun = format!("SELECT request_id AS word FROM operations WHERE slug = '{slug}'");
        assert_eq!(db::words(app.control_database(), &begun).await, [slug.as_str()]);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let data = answer.data();
        assert_eq!((&data["tenant"]["slug"], &data["tenant"]["status"]), (&json!(slug), &json!("active")));
        assert_eq!(data["tenant"]["name"], json!("A name of their own"));
        assert_eq!((&data["tokenType"], &data["user"]["roles"]), (&json!("Bearer"), &json!(["admin"])));
        assert_eq!(data["user"]["firstName"], json!("Fae"));
        assert!(data["expiresIn"].as_i64() > Some(0) && data["refreshToken"].is_string());

        let admin = bearer(&app, &answer);
        admin.post("/api/v1/contacts", json!({"lastName": "First"})).await.expect(201);
        let current = admin.get("/api/v1/tenants/current").await.expect(200);
        assert_eq!(current.data(), &data["tenant"]);
        let login = json!({"tenant": slug, "email": format!("founder@{slug}.test"), "password": PASSWORD});
        app.anonymous().post("/api/v1/auth/login", login).await.expect(200);
    }
    assert_eq!(
        db::words(app.control_database(), "SELECT state AS word FROM ready_tenants").await,
        Vec::<String>::new()
    );
}

#[actix_web::test]
async fn the_document_says_how_long_a_password_is() {
    let app = open().await;
    let mut short = request(&unique("short"));
    short["admin"]["password"] = json!("short");
    let refused = app.anonymous().post(PATH, short).await.expect(422);
    let document = OpenApi::of(&app).await.0;
    let said = &document["components"]["schemas"]["SignUpAdmin"]["properties"]["password"]["description"];
    assert!(said.is_string(), "{said}");
    assert_eq!(*said, refused.body["error"]["errors"][0]["message"], "{refused:?}");
}

#[actix_web::test]
async fn what_is_wrong_is_said_by_field() {
    let app = open().await;
    let slug = unique("taken");
    app.anonymous().post(PATH, request(&slug)).await.expect(201);
    let taken = app.anonymous().post(PATH, request(&slug)).await.refused(409, "already_exists");
    assert!(taken.text.contains("\"field\":\"slug\""), "{taken:?}");
    let cases = [
        ("/slug", json!("No Slug"), "slug"),
        ("/slug", json!("admin"), "slug"),
        ("/name", json!(""), "name"),
        ("/admin/email", json!("nobody"), "admin.email"),
        ("/admin/password", json!("short"), "admin.password"),
        ("/admin/isOperator", json!(true), "admin.isOperator"),
        ("/cluster", json!("local"), "cluster"),
    ];
    for (place, value, field) in cases {
        let mut body = request(&unique("wrong"));
        let (parent, name) = place.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        let refused = app.anonymous().post(PATH, body).await.refused(422, "validation_failed");
        assert_eq!(refused.invalid()[0].0, field, "{place}");
    }
    // Nothing of them is left.
    let begun = "SELECT slug AS word FROM tenants WHERE slug LIKE 'wrong%'";
    assert_eq!(db::words(app.control_database(), begun).await, Vec::<String>::new());
}

/// How the operator makes room is no stranger's business.
#[actix_web::test]
async fn a_stranger_who_finds_no_room_is_asked_to_come_again() {
    let app = open().await;
    run(&app, &["cluster", "set", "local", "--max-tenants", "1"]).await.expect(0);
    app.anonymous().post(PATH, request(&unique("first"))).await.expect(201);
    let slug = unique("second");
    let once = app.anonymous().with("idempotency-key", &unique("key"));
    for by in [&app.anonymous(), &once] {
        let refused = by.post(PATH, request(&slug)).await.refused(503, "overloaded");
        assert_eq!(refused.header("retry-after"), Some("600"), "{refused:?}");
        assert!(!refused.text.contains("cluster"), "{refused:?}");
    }
    let held = format!("SELECT slug AS word FROM tenants WHERE slug = '{slug}'");
    assert_eq!(db::words(app.control_database(), &held).await, Vec::<String>::new());
    run(&app, &["cluster", "set", "local", "--max-tenants", "2"]).await.expect(0);
    once.post(PATH, request(&slug)).await.expect(201);
}

#[actix_web::test]
async fn a_key_signs_up_once() {
    let app = open().await;
    let slug = unique("once");
    let once = app.anonymous().with("idempotency-key", &unique("key"));
    let answers = join_all((0..6).map(|_| once.post(PATH, request(&slug)))).await;
    let mut made = Vec::new();
    for answer in answers {
        match answer.status {
            201 => made.push(answer.data()["tenant"]["id"].clone()),
            _ => drop(answer.refused(409, "idempotency_in_progress")),
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1);
    let again = once.post(PATH, request(&slug)).await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.data()["tenant"]["id"], made[0]);
    let admin = bearer(&app, &again);
    admin.get("/api/v1/users/me").await.expect(200);
    once.post(PATH, request(&unique("other"))).await.refused(422, "idempotency_key_reused");

    // Whoever has changed the password since is not signed in by the request that set it.
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another password of theirs"});
    admin.post("/api/v1/auth/change-password", change).await.ok();
    once.post(PATH, request(&slug)).await.refused(401, "invalid_credentials");

    let kept = "SELECT coalesce(body::text, 'nothing') || encode(fingerprint, 'escape') AS word FROM request_records";
    for row in db::words(app.control_database(), kept).await {
        assert!(row.starts_with("nothing") && !row.contains(PASSWORD) && !row.contains("founder"), "{row}");
    }
    // An error leaves nothing behind.
    let failing = app.anonymous().with("idempotency-key", &unique("key"));
    failing.post(PATH, request(&slug)).await.refused(409, "already_exists");
    failing.post(PATH, request(&unique("free"))).await.expect(201);
}

/// As a crash leaves it: the key is entered, and its tenant is being made, or made and nobody was told.
#[actix_web::test]
async fn an_interrupted_sign_up_goes_on_with_its_own_key_and_with_no_other() {
    let app = open().await;
    for state in ["provisioning", "active"] {
        let slug = unique("crash");
        let once = app.anonymous().with("idempotency-key", &unique("key"));
        once.post(PATH, request(&slug)).await.expect(201);
        let interrupted = format!(
            "UPDATE request_records SET status = NULL; UPDATE tenants SET status = '{state}' WHERE slug = '{slug}'; \
             DELETE FROM operation_steps; \
             UPDATE operations SET state = '{}', finished_at = {} WHERE slug = '{slug}'",
            if state == "active" { "done" } else { "running" },
            if state == "active" { "now()" } else { "NULL" },
        );
        db::execute(app.control_database(), &interrupted).await;
        app.anonymous().post(PATH, request(&slug)).await.refused(409, "already_exists");
        run(&app, &["tenant", "create", &slug]).await.expect(4);
        let again = once.post(PATH, request(&slug)).await.expect(201);
        bearer(&app, &again).get("/api/v1/users/me").await.expect(200);
    }
}

#[actix_web::test]
async fn a_sign_up_nobody_goes_on_with_frees_its_slug() {
    let app = open().await;
    let slug = unique("gone");
    app.anonymous().post(PATH, request(&slug)).await.expect(201);
    let name = db::word(app.control_database(), "SELECT database_name AS word FROM tenants").await;
    let interrupted = "UPDATE tenants SET status = 'provisioning'; \
                       UPDATE operations SET state = 'running', finished_at = NULL";
    db::execute(app.control_database(), interrupted).await;
    let fleet = app.fleet();
    fleet.sweep_sign_ups().await.unwrap();
    app.anonymous().post(PATH, request(&slug)).await.refused(409, "already_exists");
    db::execute(app.control_database(), "UPDATE operations SET started_at = now() - interval '1 hour'").await;
    fleet.sweep_sign_ups().await.unwrap();
    let left = format!("SELECT datname::text AS word FROM pg_database WHERE datname = '{name}'");
    assert_eq!(db::words(&app.server(), &left).await, Vec::<String>::new());
    app.anonymous().post(PATH, request(&slug)).await.expect(201);
    // One that serves stays, whatever its journal says.
    db::execute(
        app.control_database(),
        "UPDATE operations SET state = 'failed', started_at = now() - interval '1 day'",
    )
    .await;
    fleet.sweep_sign_ups().await.unwrap();
    let status = format!("SELECT status AS word FROM tenants WHERE slug = '{slug}'");
    assert_eq!(db::word(app.control_database(), &status).await, "active");
}

#[actix_web::test]
async fn an_address_signs_up_so_often_an_hour() {
    let builder = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "open").set("TENANTRY_SIGNUP__PER_HOUR", "2");
    let app = builder.start().await;
    let first = app.anonymous().post(PATH, request(&unique("often"))).await.expect(201);
    assert_eq!(first.header("ratelimit-policy"), Some("\"sign-up\";q=2;w=3600"));
    assert!(first.header("ratelimit").is_some_and(|said| said.starts_with("\"sign-up\";r=1;t=")), "{first:?}");
    // A refusal counts: slugs are not guessed for nothing.
    let taken = first.data()["tenant"]["slug"].as_str().unwrap();
    let refused = app.anonymous().post(PATH, request(taken)).await.refused(409, "already_exists");
    assert!(refused.header("ratelimit").is_some_and(|said| said.contains(";r=0;")), "{refused:?}");
    let refused = app.anonymous().post(PATH, request(&unique("often"))).await.refused(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    // Another node counts with this one; an hour later it begins anew.
    let other = TestApp::builder().beside(&app).set("TENANTRY_SIGNUP__MODE", "open");
    let other = other.set("TENANTRY_SIGNUP__PER_HOUR", "2").start().await;
    other.anonymous().post(PATH, request(&unique("often"))).await.refused(429, "rate_limited");
    db::execute(app.control_database(), "UPDATE signup_attempts SET window_start = window_start - interval '1 hour'")
        .await;
    app.anonymous().post(PATH, request(&unique("often"))).await.expect(201);
    let kept = "SELECT encode(subject, 'escape') AS word FROM signup_attempts";
    assert!(!db::word(app.control_database(), kept).await.contains("127.0.0.1"));
    let free = TestApp::builder().beside(&app).set("TENANTRY_SIGNUP__MODE", "open");
    let free =
        free.set("TENANTRY_SIGNUP__PER_HOUR", "1").set("TENANTRY_SIGNUP__UNLIMITED", "127.0.0.0/8").start().await;
    for _ in 0..2 {
        let answer = free.anonymous().post(PATH, request(&unique("free"))).await.expect(201);
        assert_eq!(answer.header("ratelimit"), None);
    }
}

/// Whoever has a /48 has 65,536 networks of the size that a customer gets.
#[actix_web::test]
async fn the_networks_of_one_site_sign_up_so_often_together() {
    let builder = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "approval").set("TENANTRY_SIGNUP__PER_HOUR", "1");
    let app = builder.set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let ask =
        async |from: &str| app.anonymous().with("x-forwarded-for", from).post(PATH, request(&unique("site"))).await;
    ask("2001:db8:1::1").await.expect(202);
    // One of them that asks too often uses up nobody else's.
    for _ in 0..10 {
        ask("2001:db8:1::2").await.refused(429, "rate_limited");
    }
    for network in 1..10 {
        ask(&format!("2001:db8:1:{network}::1")).await.expect(202);
    }
    let refused = ask("2001:db8:1:ffff::1").await;
    assert_eq!(refused.header("ratelimit-policy"), Some("\"sign-up\";q=10;w=3600"), "{refused:?}");
    refused.refused(429, "rate_limited");
    ask("2001:db8:2::1").await.expect(202);
    ask("203.0.113.5").await.expect(202);
}

/// Strangers have half of a node's places: an operator makes a tenant while a crowd of them stands still at a server.
#[actix_web::test]
async fn an_operator_is_not_stuck_behind_a_crowd_that_signs_up() {
    const WAITING: &str = "SELECT count(*)::text AS word FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let (app, server) = (open().await, Server::start().await);
    let (own, control) = (server.target(), app.control_database());
    app.cluster("own", &own).await;
    let draining = |yes: bool| format!("UPDATE clusters SET draining = {yes} WHERE name = 'local'");
    db::execute(control, &draining(true)).await;
    // Whoever logs in there may, and nobody makes a role.
    let mut holder = db::open(&own).await;
    holder.batch_execute("BEGIN; LOCK TABLE pg_authid IN SHARE MODE").await.expect("a superuser may");
    let stranger = app.anonymous();
    let mut crowd = pin!(join_all((0..9).map(|_| stranger.post(PATH, request(&unique("crowd"))))));
    let operator = async {
        eventually(seconds(20), "half of the places are taken", async || db::word(&own, WAITING).await == "4").await;
        db::execute(control, &draining(false)).await;
        let wanted = json!({"slug": unique("theirs"), "cluster": "local"});
        app.operator().post("/api/v1/admin/tenants", wanted).await.expect(201);
        assert_eq!(db::word(&own, WAITING).await, "4", "the others wait for a place");
    };
    tokio::select! {
        answers = crowd.as_mut() => panic!("they were to stand still: {answers:?}"),
        () = operator => {}
    }
    holder.batch_execute("ROLLBACK").await.expect("it is still there");
    for answer in crowd.await {
        answer.expect(201);
    }
}

#[actix_web::test]
async fn closed_is_closed() {
    let app = TestApp::shared().await;
    app.anonymous().post(PATH, request(&unique("closed"))).await.refused(403, "registration_closed");
}
