//! A customer's own database adopted over REST, as `tenant attach` does it; and nothing of its address told or kept.

use std::fs;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tenantry::router::Target;
use tenantry::testing::{Answer, TestApp};

use super::attach::customers;
use super::scene::dies;
use super::tls::TlsServer;
use crate::support::{db, unique};

const PATH: &str = "/api/v1/admin/dedicated-tenants";
/// The process ended before it could keep an answer.
const LOST: &str = "UPDATE request_records SET status = NULL, location = NULL, version = NULL, body = NULL";

/// What `tenant attach` takes in files.
fn body(slug: &str, target: &Target) -> Value {
    let tls = &target.tls;
    json!({
        "slug": slug, "databaseUrl": target.to_url().expose_secret(), "tlsMode": tls.mode.as_str(), "ca": tls.ca,
        "clientCert": tls.client_cert, "clientKey": tls.client_key.as_ref().map(ExposeSecret::expose_secret),
        "adminEmail": "admin@initech.test",
    })
}

/// Every word that the control plane keeps in the clear of requests, jobs, deeds and tenants.
async fn kept(app: &TestApp) -> String {
    let all = "SELECT r::text AS word FROM request_records r UNION ALL SELECT o::text FROM operations o \
               UNION ALL SELECT s::text FROM operation_steps s UNION ALL SELECT a::text FROM operator_audit a \
               UNION ALL SELECT t::text FROM tenants t";
    db::words(app.control_database(), all).await.join("\n")
}

#[actix_web::test]
async fn a_dedicated_database_is_adopted_over_rest_and_its_secrets_are_kept_nowhere() {
    // Its own: answers are lost here.
    let app = TestApp::builder().start().await;
    let tls = TlsServer::start().await;
    tls.database("initech").await;
    let (target, slug, operator) = (tls.customer("initech"), unique("initech"), app.operator());
    let once = operator.with("idempotency-key", &unique("once"));
    let made = once.post(PATH, body(&slug, &target)).await.expect(201);
    let data = made.data();
    assert_eq!((&data["status"], &data["kind"], &data["slug"]), (&json!("active"), &json!("dedicated"), &json!(slug)));
    assert_eq!(made.header("location"), Some(&*format!("/api/v1/admin/tenants/{}", made.id())));
    let password = data["adminPassword"].as_str().expect("it is shown once").to_owned();

    // A repetition, and one of which the answer was lost with the process, tell of the same tenant without the password.
    for (replayed, before) in [(Some("true"), None), (None, Some(LOST)), (Some("true"), None)] {
        if let Some(before) = before {
            db::execute(app.control_database(), before).await;
        }
        let again = once.post(PATH, body(&slug, &target)).await.expect(201);
        assert_eq!((again.id(), again.header("idempotency-replayed")), (made.id(), replayed));
        assert!(again.data().get("adminPassword").is_none(), "{again:?}");
    }
    once.post(PATH, body(&unique("other"), &target)).await.refused(422, "idempotency_key_reused");
    operator.post(PATH, body(&slug, &target)).await.refused(409, "already_exists");

    let known = kept(&app).await;
    let url = target.to_url();
    for secret in [target.password.expose_secret(), "a%20customer%27s", url.expose_secret(), "PRIVATE KEY"] {
        assert!(!made.text.contains(secret) && !known.contains(secret), "{secret} was told or kept");
    }
    assert!(!known.contains(&password), "the administrator's password was kept");

    let body = json!({"tenant": slug, "email": "admin@initech.test", "password": password});
    let login = app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    let admin = app.anonymous().bearing(login.data()["accessToken"].as_str().expect("a token"));
    admin.contact("Lumbergh").await;
    let there = tls.server.target().with_database("initech");
    assert_eq!(db::word(&there, "SELECT last_name AS word FROM contacts").await, "Lumbergh");
}

/// What another has begun is found again by the request that went on with it.
#[actix_web::test]
async fn an_adoption_that_was_gone_on_with_is_told_again_though_its_answer_was_lost() {
    // Its own: answers are lost here.
    let app = TestApp::builder().start().await;
    let (operator, files) = (app.operator(), tempfile::tempdir().unwrap());
    // Begun by a command; by a request that was refused when it came again, and so is known no more.
    for request in [Value::Null, json!("0190f3c4-0000-7000-8000-000000000000")] {
        let slug = unique("begun");
        let target = customers(&app, &slug).await;
        let url = files.path().join(&slug);
        fs::write(&url, target.to_url().expose_secret()).unwrap();
        let url = url.to_string_lossy().into_owned();
        let begin = ["tenant", "attach", &slug, "--database-url-file", &url, "--admin-email", "admin@initech.test"];
        dies(&app, &begin, "stamp", true).await;
        let by =
            format!("UPDATE operations SET input = jsonb_set(input, '{{request}}', '{request}') WHERE slug = '{slug}'");
        db::execute(app.control_database(), &by).await;
        let once = operator.with("idempotency-key", &unique("once"));
        let made = once.post(PATH, body(&slug, &target)).await.expect(201);
        db::execute(app.control_database(), LOST).await;
        let again = once.post(PATH, body(&slug, &target)).await.expect(201);
        assert_eq!((again.id(), again.header("idempotency-replayed")), (made.id(), None), "{request}");
    }
}

/// The fault of an answer that is about one field.
fn fault(answer: &Answer) -> (String, String) {
    answer.invalid().first().cloned().unwrap_or_else(|| panic!("no fault: {answer:?}"))
}

#[actix_web::test]
async fn what_cannot_be_adopted_over_rest_is_refused_with_its_remedy_and_nothing_is_left() {
    let app = TestApp::shared().await;
    let (name, operator) = (unique("refused"), app.operator());
    let target = customers(app, &name).await;
    let acme = app.tenant("acme").await;
    let filled = unique("filled");
    let other = customers(app, &filled).await;
    db::execute(&app.server().with_database(&filled), "CREATE TABLE invoices (id int)").await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let once = operator.with("idempotency-key", &unique("once"));
    for (target, code) in [
        (other, "not_empty"),
        (acme.database().clone(), "stamped_for_another"),
        (Target { port: silent, ..target.clone() }, "unreachable"),
        (Target { password: "hunter2".into(), ..target.clone() }, "authentication_failed"),
        (target.with_database("nowhere"), "unknown_database"),
    ] {
        let refused = once.post(PATH, body(&name, &target)).await.expect(422);
        assert_eq!(fault(&refused), ("databaseUrl".to_owned(), code.to_owned()), "{refused:?}");
        let said = refused.body["error"]["detail"].to_string();
        for secret in [target.password.expose_secret(), &*target.port.to_string()] {
            assert!(secret.is_empty() || !said.contains(secret), "{refused:?}");
        }
    }
    let with = |field: &str, value: Value| {
        let mut body = body(&name, &target);
        body[field] = value;
        body
    };
    let socket = json!("postgres://u:hunter2@%2Frun%2Fpostgresql/d");
    let url = target.to_url().expose_secret().split('?').next().expect("one").to_owned();
    for (body, field, code) in [
        (with("databaseUrl", json!("hunter2")), "databaseUrl", "invalid"),
        (with("databaseUrl", socket.clone()), "databaseUrl", "invalid"),
        (with("directUrl", socket), "directUrl", "invalid"),
        (with("directUrl", json!(format!("{url}?sslmode=verify-full"))), "directUrl", "invalid"),
        (with("clientCert", json!("a certificate")), "clientKey", "required"),
        (with("caFile", json!("/etc/ssl/ca.pem")), "caFile", "unknown_field"),
        (with("adminEmail", json!("nobody@")), "adminEmail", "invalid"),
        (with("adminPassword", json!("short")), "adminPassword", "too_short"),
        (with("maxConnections", json!(0)), "maxConnections", "too_small"),
        (with("slug", json!("ends-so-")), "slug", "invalid"),
    ] {
        let refused = once.post(PATH, body).await.expect(422);
        assert_eq!(fault(&refused), (field.to_owned(), code.to_owned()), "{refused:?}");
        assert!(!refused.text.contains("hunter2"), "{refused:?}");
    }
    let rows = format!("SELECT slug AS word FROM tenants WHERE slug = '{name}'");
    assert!(db::words(app.control_database(), &rows).await.is_empty(), "nothing is left");
    // What was refused left the key free as well.
    once.post(PATH, body(&name, &target)).await.expect(201);
}
