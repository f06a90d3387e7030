//! `tenantry pool top`, against a running server.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use tenantry::testing::{Persona, TestApp};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::authenticator::code;
use crate::support::binary::{program, run_with};

/// The operator of test installations, as `pool top` is told of one.
struct Operator {
    email: String,
    password: NamedTempFile,
}

impl Operator {
    async fn of(app: &TestApp) -> Self {
        let email = format!("{}@tenantry.test", crate::support::unique("watcher"));
        let mut password = NamedTempFile::new().unwrap();
        writeln!(password, "an uncommon sentence of five words").unwrap();
        let file = password.path().to_string_lossy().into_owned();
        let create = ["operator", "create", "--email", &email, "--password-file", &file];
        crate::support::binary::run(app, &create).await.expect(0);
        Self { email, password }
    }

    fn arguments<'a>(&'a self, app: &'a TestApp, more: &[&'a str]) -> Vec<&'a str> {
        let file = self.password.path().to_str().expect("a path");
        [&["pool", "top", "--url", app.url(), "--email", &self.email, "--password-file", file], more].concat()
    }
}

async fn busy(admin: &Persona) {
    for _ in 0..3 {
        admin.get("/api/v1/contacts").await.expect(200);
    }
}

#[actix_web::test]
async fn one_look_is_a_table_or_the_api_s_json() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    busy(&acme.admin()).await;
    globex.admin().get("/api/v1/contacts").await.expect(200);
    let operator = Operator::of(&app).await;

    let table = run_with(&[], &operator.arguments(&app, &["--once", "--by", "requests"])).await.expect(0);
    let (first, second) = (table.stdout.find(acme.slug.as_str()), table.stdout.find(globex.slug.as_str()));
    assert!(first.is_some() && first < second, "{table:#?}");
    assert!(table.stdout.contains("local: ") && table.stdout.contains("REQUESTS") && !table.stdout.contains('\x1b'));

    let once = ["--once", "--by", "requests", "--limit", "1", "--output", "json"];
    let json = run_with(&[], &operator.arguments(&app, &once)).await.expect(0).json();
    let tenants = json["tenants"].as_array().expect("tenants");
    assert_eq!((tenants.len(), &tenants[0]["slug"]), (1, &json!(acme.slug.as_str())));
    assert!(tenants[0]["usage"]["requests"].as_u64() >= Some(3), "{json}");
    assert!(tenants[0]["rates"].is_null() && json["clusters"][0]["budget"].is_u64() && json["node"].is_string());
}

#[actix_web::test]
async fn looks_follow_each_other_with_rates_until_the_reader_goes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    busy(&admin).await;
    let operator = Operator::of(app).await;
    let arguments = operator.arguments(app, &["--interval", "200ms", "--limit", "1000", "--output", "json"]);
    let mut child = program(&[], &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let deadline = tokio::time::Instant::now() + crate::support::seconds(20);
    loop {
        let line = tokio::time::timeout_at(deadline, lines.next_line()).await.expect("in time").unwrap();
        let look: Value = serde_json::from_str(&line.expect("it goes on")).unwrap();
        let mut tenants = look["tenants"].as_array().expect("tenants").iter();
        let rates = tenants.find(|tenant| tenant["slug"] == acme.slug.as_str()).map(|tenant| &tenant["rates"]);
        if rates.is_some_and(|rates| rates["requests"].as_f64() > Some(0.0)) {
            break;
        }
        busy(&admin).await;
    }
    // As `head` does: the end of the reader is the end of it.
    drop(lines);
    let ended = tokio::time::timeout(crate::support::shared(crate::support::seconds(20)), child.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[actix_web::test]
async fn what_stands_in_the_way_is_said_in_one_line() {
    let app = TestApp::shared().await;
    let operator = Operator::of(app).await;
    let nobody = run_with(&[], &["pool", "top", "--once", "--url", app.url()]).await.expect(4);
    assert!(nobody.stderr.contains("--password-file") && nobody.stderr.lines().count() == 1, "{nobody:#?}");
    let mut wrong = NamedTempFile::new().unwrap();
    writeln!(wrong, "not the password").unwrap();
    let file = wrong.path().to_str().unwrap();
    let refused = ["pool", "top", "--once", "--url", app.url(), "--email", &operator.email, "--password-file", file];
    let refused = run_with(&[], &refused).await.expect(4);
    assert!(refused.stderr.contains("401") && !refused.all().contains("not the password"), "{refused:#?}");
    for usage in
        [&["--by", "luck"][..], &["--limit", "0"], &["--limit", "1001"], &["--interval", "1ms"], &["--url", "ftp://x"]]
    {
        let mut arguments = operator.arguments(app, &["--once"]);
        if usage[0] == "--url" {
            arguments.drain(2..4);
        }
        arguments.extend(usage);
        run_with(&[], &arguments).await.expect(2);
    }
    let mut nowhere = operator.arguments(app, &["--once"]);
    nowhere[3] = "http://127.0.0.1:1";
    run_with(&[], &nowhere).await.expect(1);
}

#[actix_web::test]
async fn an_operator_with_a_second_factor_gives_its_code() {
    let app = TestApp::builder().start().await;
    let operator = Operator::of(&app).await;
    let password = std::fs::read_to_string(operator.password.path()).unwrap();
    let login = json!({"email": operator.email, "password": password.trim()});
    let token = app.anonymous().post("/api/v1/admin/auth/login", login).await.expect(200);
    let who = app.anonymous().bearing(token.data()["accessToken"].as_str().expect("a token"));
    let totp = "/api/v1/admin/auth/mfa/totp";
    let secret = who.post(totp, json!({})).await.expect(200).data()["secret"].as_str().expect("a secret").to_owned();
    let confirmed = who.post(&format!("{totp}/confirm"), json!({"code": code(&app, &secret)})).await.expect(200);

    // Nobody is there to be asked.
    let without = run_with(&[], &operator.arguments(&app, &["--once"])).await.expect(4);
    assert!(without.stderr.contains("--code-file") && without.stderr.lines().count() == 1, "{without:#?}");

    let given = NamedTempFile::new().unwrap();
    let file = given.path().to_str().unwrap();
    std::fs::write(given.path(), "000000\n").unwrap();
    let wrong = run_with(&[], &operator.arguments(&app, &["--once", "--code-file", file])).await.expect(4);
    assert!(wrong.stderr.contains("401") && wrong.stderr.contains("code of now"), "{wrong:#?}");
    app.clock().advance(chrono::TimeDelta::seconds(30));
    std::fs::write(given.path(), format!("{}\n", code(&app, &secret))).unwrap();
    run_with(&[], &operator.arguments(&app, &["--once", "--code-file", file])).await.expect(0);

    let acme = app.tenant("acme").await;
    std::fs::write(given.path(), confirmed.data()["recoveryCodes"][0].as_str().expect("a code")).unwrap();
    let asked = operator.arguments(&app, &["--code-file", file]);
    let list = [&["tenant", "issuers", "list", acme.slug.as_str()], &asked[2..]].concat();
    run_with(&[], &list).await.expect(0);
}

#[actix_web::test]
async fn an_installation_of_this_machine_needs_no_flags() {
    let app = TestApp::shared().await;
    let operator = Operator::of(app).await;
    let directory = TempDir::new().unwrap();
    let password = std::fs::read_to_string(operator.password.path()).unwrap();
    let ready = json!({"url": app.url(), "operator": {"email": operator.email, "password": password.trim()}});
    std::fs::write(directory.path().join("ready.json"), ready.to_string()).unwrap();
    let at = directory.path().to_string_lossy().into_owned();
    run_with(&[], &["pool", "top", "--once", "--data-dir", &at]).await.expect(0);
    // Its password goes to no other machine.
    let elsewhere = ["pool", "top", "--once", "--data-dir", &at, "--url", "http://192.0.2.1"];
    run_with(&[], &elsewhere).await.expect(4);
}
