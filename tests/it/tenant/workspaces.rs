//! "Find my workspaces": whoever has an address is told by mail where it belongs to, and nobody else is told anything.

use serde_json::{Value, json};
use tenantry::control::addresses::{self, Entry, Part};
use tenantry::router::MainConn;
use tenantry::testing::{Answer, Tenant, TestApp};

use crate::support::binary::run;
use crate::support::smtp::{Smtp, shared};
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

async fn ask(app: &TestApp, email: &str) -> Answer {
    app.anonymous().post("/api/v1/auth/workspaces", json!({"email": email})).await.expect(202)
}

/// Somebody at a tenant, with an address that they have verified by the link in a mail.
async fn verified(tenant: &Tenant, smtp: &Smtp, email: &str) -> String {
    let body = json!({"email": email, "firstName": "Grace", "lastName": "H", "password": PASSWORD});
    let id = tenant.admin().post("/api/v1/users", body).await.expect(201).id();
    verify(tenant, smtp, email).await;
    id
}

async fn verify(tenant: &Tenant, smtp: &Smtp, email: &str) {
    let nobody = tenant.anonymous();
    let before = smtp.letters(email).len();
    let named = json!({"tenant": tenant.slug.as_str(), "email": email});
    nobody.post("/api/v1/auth/verify-email/resend", named).await.expect(202);
    eventually(seconds(60), "the link arrives", async || smtp.letters(email).len() > before).await;
    let token = smtp.letters(email).pop().expect("it arrived").token();
    nobody.post("/api/v1/auth/verify-email", json!({"token": token})).await.expect(204);
}

async fn indexed(app: &TestApp, tenant: &Tenant) -> String {
    let count = format!("SELECT count(*)::text AS word FROM address_index WHERE tenant_id = '{}'", tenant.id);
    db::word(app.control_database(), &count).await
}

async fn becomes(app: &TestApp, tenant: &Tenant, count: &str, why: &str) {
    eventually(seconds(30), why, async || indexed(app, tenant).await == count).await;
}

/// An answer without what differs from one request to the next.
fn alike(answer: &Answer) -> (u16, Value) {
    let mut body = answer.body.clone();
    body["meta"] = Value::Null;
    (answer.status, body)
}

#[actix_web::test]
async fn people_find_their_workspaces_by_mail() {
    let smtp = Smtp::start().await;
    let app = smtp.of(TestApp::builder()).start().await;
    let (acme, globex, initech) = (app.tenant("acme").await, app.tenant("globex").await, app.tenant("initech").await);
    let (email, stranger) = (format!("{}@example.com", unique("grace")), format!("{}@example.com", unique("eve")));
    for tenant in [&acme, &globex, &initech] {
        verified(tenant, &smtp, &email).await;
        becomes(&app, tenant, "1", "it is found there").await;
    }
    // Not verified, not found.
    let body = json!({"email": stranger, "firstName": "E", "lastName": "E", "password": PASSWORD});
    acme.admin().post("/api/v1/users", body).await.expect(201);

    initech.suspend().await;
    let suspended = async || app.router().tenant(initech.id).await.is_ok_and(|t| t.status.as_str() == "suspended");
    eventually(seconds(5), "the node knows", suspended).await;
    let (unknown, known) = (ask(&app, &stranger).await, ask(&app, &email.to_uppercase()).await);
    assert_eq!(alike(&unknown), alike(&known));
    let letter = smtp.letter(&email, "workspaces").await;
    for tenant in [&acme, &globex] {
        assert!(letter.text.contains(&format!("/login?tenant={}", tenant.slug)), "{letter:?}");
    }
    assert!(!letter.text.contains(initech.slug.as_str()), "a suspended one is not told of: {letter:?}");
    assert!(letter.html.contains("<a href=") && letter.text.contains("Hello Grace,"), "{letter:?}");
    let waiting = "SELECT count(*)::text AS word FROM workspace_searches WHERE due_at IS NOT NULL";
    let none = async || db::word(app.control_database(), waiting).await == "0";
    eventually(seconds(30), "all searches are done", none).await;

    // Again at once: nothing more; and what has changed since is not told, whatever the index says.
    let sent = smtp.letters(&email).len();
    ask(&app, &email).await;
    eventually(seconds(30), "all searches are done", none).await;
    assert_eq!(smtp.letters(&email).len(), sent);
    let gone = format!("UPDATE users SET status = 'deactivated' WHERE email_key = '{email}'");
    db::execute(globex.database(), &gone).await;
    app.clock().advance(chrono::TimeDelta::minutes(2));
    ask(&app, &email).await;
    let more = async || smtp.letters(&email).len() > sent;
    eventually(seconds(60), "another mail", more).await;
    let letter = smtp.letters(&email).pop().expect("it arrived");
    assert!(letter.text.contains(acme.slug.as_str()) && !letter.text.contains(globex.slug.as_str()), "{letter:?}");
    assert!(smtp.letters(&stranger).is_empty(), "nobody is told what is not theirs");

    let tables = "SELECT table_name::text AS word FROM information_schema.tables WHERE table_schema = 'public'";
    for table in db::words(app.control_database(), tables).await {
        let rows = format!("SELECT t::text AS word FROM public.\"{table}\" t");
        for row in db::words(app.control_database(), &rows).await {
            let known = [&email, &stranger].into_iter().any(|address| row.contains(address));
            assert!(!known, "the control plane knows an address: {table}: {row}");
        }
    }
}

/// The owner of a database can write into it whose address they like, and another one that the mail goes to.
#[actix_web::test]
async fn the_mail_goes_to_nobody_but_who_is_found() {
    let smtp = Smtp::start().await;
    let app = smtp.of(TestApp::builder()).start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    assert!(acme.slug.as_str() < globex.slug.as_str(), "it is asked first");
    let (email, other) = (format!("{}@example.com", unique("grace")), format!("{}@example.com", unique("mallory")));
    for tenant in [&acme, &globex] {
        verified(tenant, &smtp, &email).await;
        becomes(&app, tenant, "1", "it is found there").await;
    }
    let elsewhere = format!("UPDATE users SET email = '{other}' WHERE email_key = '{email}'");
    db::execute(acme.database(), &elsewhere).await;
    ask(&app, &email).await;
    let letter = smtp.letter(&email, "workspaces").await;
    assert!(letter.text.contains(globex.slug.as_str()) && !letter.text.contains(acme.slug.as_str()), "{letter:?}");
    let waiting = "SELECT count(*)::text AS word FROM workspace_searches WHERE due_at IS NOT NULL";
    let none = async || db::word(app.control_database(), waiting).await == "0";
    eventually(seconds(30), "all searches are done", none).await;
    let queued = "SELECT count(*)::text AS word FROM mail_outbox WHERE kind = 'workspaces'";
    assert_eq!((&*db::word(acme.database(), queued).await, &*db::word(globex.database(), queued).await), ("0", "1"));
    assert!(smtp.letters(&other).is_empty(), "nobody is told what is not theirs");
}

#[actix_web::test]
async fn the_index_follows_the_people() {
    let smtp = &Smtp::start().await;
    let app = &smtp.of(TestApp::builder()).start().await;
    let acme = app.tenant("acme").await;
    let email = format!("{}@example.com", unique("grace"));
    let id = verified(&acme, smtp, &email).await;
    let (admin, path) = (acme.admin(), format!("/api/v1/users/{id}"));
    becomes(app, &acme, "1", "verified").await;
    admin.patch(&path, json!({"status": "deactivated"})).await.expect(200);
    becomes(app, &acme, "0", "deactivated").await;
    admin.patch(&path, json!({"status": "active"})).await.expect(200);
    becomes(app, &acme, "1", "reactivated").await;
    let other = format!("{}@example.org", unique("hopper"));
    admin.patch(&path, json!({"email": other})).await.expect(200);
    becomes(app, &acme, "0", "nobody has shown that the other one is theirs").await;
    let digest = async || {
        let digest = format!("SELECT digest::text AS word FROM address_index WHERE tenant_id = '{}'", acme.id);
        db::words(app.control_database(), &digest).await
    };
    verify(&acme, smtp, &other).await;
    becomes(app, &acme, "1", "verified again").await;
    let before = digest().await;

    // Lost, and made anew; then under another key.
    db::execute(app.control_database(), &format!("DELETE FROM address_index WHERE tenant_id = '{}'", acme.id)).await;
    let made = run(app, &["fleet", "index-addresses", "--output", "json"]).await.expect(0).json();
    assert!(made["indexed"].as_i64().is_some_and(|count| count >= 1) && made["failed"] == json!([]), "{made}");
    assert_eq!(digest().await, before);
    let turned = run(app, &["fleet", "index-addresses", "--new-key", "--output", "json"]).await.expect(0).json();
    assert_eq!(turned["keyId"], json!(made["keyId"].as_i64().unwrap() + 1));
    assert_eq!(digest().await.len(), 2, "the former one stays for searches that wait");
    ask(app, &other).await;
    smtp.letter(&other, acme.slug.as_str()).await;

    admin.delete(&path).await.expect(204);
    becomes(app, &acme, "0", "removed").await;
    let listed = format!("SELECT count(*)::text AS word FROM tenants_with_news WHERE tenant_id = '{}'", acme.id);
    assert_eq!(db::word(acme.database(), "SELECT count(*)::text AS word FROM address_news").await, "0");
    assert!(["0", "1"].contains(&db::word(app.control_database(), &listed).await.as_str()));
}

/// Of two who carry the same tenant at the same time, the one who read it first does not write last.
#[actix_web::test]
async fn who_knows_less_does_not_write() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (tenant, control) = (acme.id, app.control());
    let user = uuid::Uuid::now_v7();
    let write = async |generation: i64, digest: Option<u8>| {
        let part = Part::People(vec![user]);
        let entries: Vec<Entry> =
            digest.map(|digest| Entry { user, key: 1, digest: [digest; 32] }).into_iter().collect();
        let write = async move |conn: &mut MainConn| -> Result<bool, tenantry::error::ApiError> {
            Ok(addresses::write(conn, tenant, generation, &part, &entries).await?)
        };
        control.db.transaction(write).await.expect("the control plane answers")
    };
    assert!(write(0, Some(1)).await);
    assert!(write(1, None).await, "somebody reads that they are gone, and says so");
    assert!(!write(1, Some(2)).await, "who read before that is refused");
    assert_eq!(indexed(app, &acme).await, "0");
}

#[actix_web::test]
async fn a_copy_claims_nobody_and_a_restored_tenant_all_of_its_people() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let (early, late) = (format!("{}@example.com", unique("early")), format!("{}@example.com", unique("late")));
    verified(&acme, smtp, &early).await;
    becomes(app, &acme, "1", "verified").await;
    let backup = run(app, &["tenant", "backup", acme.slug.as_str(), "--output", "json"]).await.expect(0).json();
    verified(&acme, smtp, &late).await;
    becomes(app, &acme, "2", "verified").await;

    let copy = unique("copy");
    let clone = ["tenant", "clone", acme.slug.as_str(), &copy, "--keep-credentials", "--output", "json"];
    run(app, &clone).await.expect(0);
    let theirs = crate::support::db::word(
        app.control_database(),
        &format!("SELECT database_name AS word FROM tenants WHERE slug = '{copy}'"),
    )
    .await;
    let there = app.server().with_database(&theirs);
    let claimed = "SELECT ((SELECT count(*) FROM users WHERE email_verified_at IS NOT NULL) \
                   + (SELECT count(*) FROM address_news))::text AS word";
    assert_eq!(db::word(&there, claimed).await, "0");

    let id = backup["id"].as_str().expect("an id");
    run(app, &["tenant", "restore", acme.slug.as_str(), "--backup", id, "--output", "json"]).await.expect(0);
    becomes(app, &acme, "1", "only who was there then").await;
}

#[actix_web::test]
async fn a_network_that_asks_too_often_waits() {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__UNLIMITED", "").start().await;
    let nobody = app.anonymous();
    let ask = async |at: usize| nobody.post("/api/v1/auth/workspaces", json!({"email": format!("e{at}@x.test")})).await;
    for at in 0..30 {
        ask(at).await.expect(202);
    }
    let refused = ask(30).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""workspaces";q=30;w=3600"#), "{refused:?}");
    refused.refused(429, "rate_limited");
    nobody.post("/api/v1/auth/workspaces", json!({"email": "nobody"})).await.refused(422, "validation_failed");
}
