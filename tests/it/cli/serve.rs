//! `tenantry serve`, as it runs in production: ready, logged, measured, and ended well.

use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tenantry::testing::TestApp;
use tokio::process::Child;

use crate::support::binary::{free_port, program, run_with};
use crate::support::{db, eventually, seconds, shared};

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
}

#[actix_web::test]
async fn a_server_ends_well_and_tells_no_secrets() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (port, management) = (free_port(), free_port());
    let mut environment = app.environment();
    environment.extend([
        ("TENANTRY_LISTEN".into(), format!("127.0.0.1:{port}")),
        ("TENANTRY_MANAGEMENT_LISTEN".into(), format!("127.0.0.1:{management}")),
    ]);
    let mut command = program(&environment, &["serve"]);
    let child =
        command.env("TENANTRY_LOG__LEVEL", "info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let nobody = app.anonymous().at(&url);
    let ready = async || {
        let answer = nobody.try_send(reqwest::Method::GET, "/readyz", None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    eventually(seconds(30), "it is ready", ready).await;

    let there = acme.at(&url);
    let admin = there.admin();
    let signed_in = admin.signed_in().await;
    let me = admin.with("x-request-id", "seen-in-the-log").get("/api/v1/users/me").await.expect(200).id();
    there.log_in_as(acme.email(), "a wrong guess at it").await.expect(401);
    // At this server: the other one is to hold no connection of this tenant.
    let user = there.user();
    let someone = user.user_id().await;
    user.with("x-request-id", "not-for-them").get("/api/v1/security-policy").await.expect(403);
    admin.post("/api/v1/contacts", json!({"lastName": "Private Person"})).await.expect(201);
    let metrics = app.anonymous().at(&format!("http://127.0.0.1:{management}")).get("/metrics").await.expect(200);
    assert!(metrics.text.contains("http_server_request_duration_seconds_count"), "{metrics:?}");
    for name in [acme.slug.as_str(), &acme.id.to_string(), acme.role()] {
        assert!(!metrics.text.contains(name), "no metric has a label per tenant: {name}");
    }
    nobody.get("/metrics").await.expect(404);

    // A request under way when the end is near finishes.
    use diesel_async::SimpleAsyncConnection as _;
    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'",
        acme.role()
    );
    let slow = {
        let admin = admin.clone();
        actix_web::rt::spawn(async move { admin.get("/api/v1/contacts").await.status })
    };
    eventually(seconds(5), "it is under way", async || db::word(&app.server(), &waiting).await == "1").await;
    terminate(&child);
    let draining = async || {
        let answer = app.anonymous().at(&url).try_send(reqwest::Method::GET, "/readyz", None).await;
        answer.map_or(true, |answer| answer.status == 503)
    };
    eventually(seconds(5), "no new clients are taken", draining).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(slow.await.unwrap(), 200);
    let output = tokio::time::timeout(shared(seconds(20)), child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let left = format!("SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}'", acme.role());
    eventually(seconds(5), "no connection stays", async || db::word(&app.server(), &left).await == "0").await;

    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(output.stdout.is_empty(), "what is logged goes to standard error");
    for line in &lines {
        let at = line["timestamp"].as_str().and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
        assert!(at.is_some_and(|at| at.offset().local_minus_utc() == 0), "not in UTC: {line}");
    }
    let seen =
        lines.iter().map(Value::to_string).find(|line| line.contains("seen-in-the-log")).expect("the request's line");
    assert!(seen.contains(acme.slug.as_str()) || seen.contains(&acme.id.to_string()), "{seen}");
    assert!(seen.contains(&me), "{seen}");
    let events = lines.iter().filter(|line| line["target"] == "tenantry::security");
    let refused: Vec<&Value> = events.clone().filter(|line| line["event"] == "access.refused").collect();
    assert!(events.clone().any(|line| line["event"] == "login.failed"), "{log}");
    let [refused] = refused[..] else { panic!("not one refusal: {refused:?}") };
    for (name, value) in [
        ("level", "WARN"),
        ("code", "permission_denied"),
        ("route", "/api/v1/security-policy"),
        ("requestId", "not-for-them"),
        ("tenant", acme.slug.as_str()),
        ("user", &*someone),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(refused[name], value, "{refused}");
    }
    let mut secrets: Vec<String> = app.environment().into_iter().map(|(_, value)| value).collect();
    // What is shorter is a setting.
    secrets.retain(|value| !value.starts_with("http") && value.len() > 8);
    secrets.extend(["accessToken", "refreshToken"].map(|name| signed_in[name].as_str().unwrap().to_owned()));
    secrets.extend([
        acme.password().to_owned(),
        "a wrong guess at it".into(),
        "Private Person".into(),
        acme.email().to_owned(),
    ]);
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}

/// As beside a running `tenantry dev`.
#[actix_web::test]
async fn a_server_beside_another_measures_on_a_free_port() {
    let app = TestApp::shared().await;
    // Whoever has it: it is taken, and stays so. Somebody may have it for a moment.
    let (mut taken, begun) = (None, Instant::now());
    let is_settled = async || {
        taken = TcpListener::bind("127.0.0.1:9090").ok();
        taken.is_some() || begun.elapsed() > seconds(10)
    };
    eventually(seconds(20), "it is ours, or somebody keeps it", is_settled).await;
    assert!(taken.is_some() || TcpStream::connect("127.0.0.1:9090").is_ok(), "nobody has it, and it cannot be had");
    let port = free_port();
    let mut environment = app.environment();
    environment.retain(|(name, _)| name != "TENANTRY_MANAGEMENT_LISTEN");
    environment.push(("TENANTRY_LISTEN".into(), format!("127.0.0.1:{port}")));
    let log = NamedTempFile::new().unwrap();
    let mut child = program(&environment, &["serve"]).stderr(log.reopen().unwrap()).spawn().unwrap();
    let said = async || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended: {:?}", std::fs::read_to_string(log.path()));
        std::fs::read_to_string(log.path()).unwrap().contains("they are on a free port")
    };
    eventually(seconds(30), "it says where else", said).await;
    let text = std::fs::read_to_string(log.path()).unwrap();
    let line: Value = serde_json::from_str(text.lines().find(|line| line.contains("free port")).unwrap()).unwrap();
    let url = format!("http://{}", line["instead"].as_str().unwrap());
    let nobody = app.anonymous().at(&url);
    let measured = async || {
        let answer = nobody.try_send(reqwest::Method::GET, "/metrics", None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    eventually(seconds(30), "metrics are there", measured).await;
    terminate(&child);
    assert!(child.wait().await.unwrap().success());

    // An address that was asked for is had, or nothing is.
    environment.push(("TENANTRY_MANAGEMENT_LISTEN".into(), "127.0.0.1:9090".into()));
    let refused = tokio::time::timeout(shared(seconds(30)), run_with(&environment, &["serve"])).await;
    let refused = refused.expect("it does not serve").expect(4);
    assert!(refused.stderr.contains("TENANTRY_MANAGEMENT_LISTEN 127.0.0.1:9090 cannot be opened"), "{refused:#?}");
}
