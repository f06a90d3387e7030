//! What `fleet verify` makes for itself: known by what it was made for, and gone with its proof, however that ends.

use std::process::Stdio;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tenantry::fleet::{CreateTenant, OperationOptions, Silent};
use tenantry::testing::TestApp;
use tokio::process::Child;

use super::proof::faults;
use crate::support::binary::{program, run};
use crate::support::{db, eventually, seconds, shared, unique};

/// What the doctor says of a tenant, as code and remedy.
async fn findings(app: &TestApp, slug: &str) -> Vec<(String, String)> {
    let said = run(app, &["fleet", "doctor", "--output", "json"]).await.json();
    let about = said["findings"].as_array().expect("findings").iter().filter(|one| one["subject"] == slug);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    about.map(|one| (text(&one["code"]), text(&one["remedy"]))).collect()
}

/// Says of a tenant's making that it was the proof's.
async fn is_made_a_canary(app: &TestApp, slug: &str) {
    let mark = "UPDATE operations SET input = input || '{\"canary\": true}' WHERE kind = 'create'";
    db::execute(app.control_database(), &format!("{mark} AND slug = '{slug}'")).await;
}

async fn is_there(app: &TestApp, slug: &str) -> bool {
    let there = format!("SELECT id::text AS word FROM tenants WHERE slug = '{slug}'");
    !db::word(app.control_database(), &there).await.is_empty()
}

/// A customer's name proves nothing; what the tenant was made for does.
#[actix_web::test]
async fn a_customer_may_be_called_like_a_canary() {
    let app = TestApp::builder().start().await;
    let slug = unique("canary-");
    let wanted = CreateTenant::named(slug.parse().expect("a slug"));
    let made = app.fleet().create(&wanted, &OperationOptions::default(), &Silent).await.expect("made");
    assert_eq!(findings(&app, &slug).await, Vec::new());
    let verify = ["fleet", "verify", "--url", app.url(), "--output", "json"];
    let report = run(&app, &verify).await.expect(0).json();
    assert_eq!(report["tenants"][0]["slug"], slug.as_str());
    let database = app.server().with_database(made.tenant.database_name);
    db::execute(&database, "DELETE FROM tenantry.stamp").await;
    let report = run(&app, &verify).await.expect(1).json();
    assert_eq!(faults(&report), [format!("stamp_missing {slug}")]);
    // One that was really made by a proof is told of, half-made or whole, and its remedy is its end.
    let (whole, half) = (unique("whole-"), unique("half-"));
    run(&app, &["tenant", "create", &whole]).await.expect(0);
    assert_eq!(run(&app, &["tenant", "create", &half, "--halt-after", "database"]).await.code, None);
    for (slug, code) in [(&whole, "canary_left"), (&half, "job_interrupted")] {
        is_made_a_canary(&app, slug).await;
        let remedy = format!("tenantry tenant delete {slug} --now --yes");
        assert_eq!(findings(&app, slug).await, [(code.to_owned(), remedy.clone())]);
        run(&app, &remedy.split(' ').skip(1).collect::<Vec<_>>()).await.expect(0);
        assert!(findings(&app, slug).await.is_empty() && !is_there(&app, slug).await);
    }
}

/// Canaries that are there now, as `slug status`.
async fn canaries(app: &TestApp) -> Vec<String> {
    let there = "SELECT slug || ' ' || status AS word FROM tenants WHERE slug LIKE 'canary-%' ORDER BY 1";
    db::words(app.control_database(), there).await
}

/// A proof that has made its canaries, and attacks.
async fn attacking(app: &TestApp, arguments: &[&str]) -> Child {
    let verify = [&["fleet", "verify", "--url", app.url(), "--output", "json"][..], arguments].concat();
    let mut command = program(&app.environment(), &verify);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    eventually(seconds(60), "both canaries serve", async || {
        let there = canaries(app).await;
        there.len() == 2 && there.iter().all(|one| one.ends_with(" active"))
    })
    .await;
    running
}

fn send(running: &Child, sent: Signal) {
    let pid = i32::try_from(running.id().expect("it runs")).expect("a process id");
    signal::kill(Pid::from_raw(pid), sent).expect("sent");
}

/// The report of a proof that ends by itself, or by a signal; its exit code, and what it complained of.
async fn ended(running: Child) -> (Value, Option<i32>, String) {
    let output =
        tokio::time::timeout(shared(seconds(120)), running.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output.status.code(), said)
}

#[actix_web::test]
async fn a_proof_that_is_stopped_takes_its_canaries_with_it() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    for sent in [Signal::SIGTERM, Signal::SIGINT] {
        let running = attacking(&app, &[]).await;
        send(&running, sent);
        let (report, code, said) = ended(running).await;
        assert_eq!((code, &report["passed"]), (Some(1), &Value::Bool(false)), "{said}");
        assert!(faults(&report).contains(&"not_proven canaries".to_owned()), "{report}");
        assert!(canaries(&app).await.is_empty());
    }
}

/// Killed, it can remove nothing; the next one does, and leaves alone what another one works with.
#[actix_web::test]
async fn what_a_dead_proof_left_the_next_one_removes() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let mut killed = attacking(&app, &[]).await;
    // It stays where it is for as long as we look.
    send(&killed, Signal::SIGSTOP);
    let left = canaries(&app).await;
    let slug = left[0].trim_end_matches(" active");
    assert!(findings(&app, slug).await.is_empty(), "it is in use");
    killed.kill().await.expect("killed");
    let told = async || findings(&app, slug).await.iter().any(|(code, _)| code == "canary_left");
    eventually(seconds(30), "the doctor tells of it", told).await;
    assert_eq!(canaries(&app).await, left);

    let verify = ["fleet", "verify", "--url", app.url(), "--output", "json"];
    let report = run(&app, &verify).await.expect(0).json();
    let checks = report["checks"].as_array().expect("checks");
    let removed = checks.iter().find(|check| check["name"] == "canaries").map(|check| &check["tried"]);
    assert_eq!(removed, Some(&Value::from(4)), "two of its own, and two that were left");
    assert!(canaries(&app).await.is_empty());

    let first = attacking(&app, &[]).await;
    run(&app, &verify).await.expect(0);
    let (report, code, said) = ended(first).await;
    assert_eq!((code, faults(&report)), (Some(0), Vec::new()), "{said}");
    assert!(canaries(&app).await.is_empty());
}

/// Whether it can be written is known before anything is proven; and what is proven is said before it is written.
#[actix_web::test]
async fn no_proof_is_lost_for_want_of_a_place() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let url = app.url();
    let verify = async |file: &str| run(&app, &["fleet", "verify", "--url", url, "--report", file]).await;
    let said = verify(&place("proof.HTML")).await.expect(2);
    assert!(said.stderr.contains("give --report") && said.stderr.contains("proof.json"), "{said:#?}");
    for file in [place("nowhere/proof.json"), directory.path().to_string_lossy().into_owned()] {
        let said = verify(&file).await.expect(4);
        assert!(said.stderr.contains("cannot write") && said.stderr.contains("--report"), "{said:#?}");
    }
    std::fs::create_dir(place("taken.html")).expect("a directory");
    verify(&place("taken.json")).await.expect(4);
    let begun = "SELECT count(*)::text AS word FROM operations WHERE input ->> 'canary' = 'true'";
    assert_eq!(db::word(app.control_database(), begun).await, "0", "nothing was proven");
    let names = || {
        let entries = std::fs::read_dir(directory.path()).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["taken.html"]);
    verify(&place("proof.json")).await.expect(0);
    assert_eq!(names(), ["proof.html", "proof.json", "proof.json.sig", "taken.html"]);

    let running = attacking(&app, &["--report", &place("lost.json")]).await;
    std::fs::remove_dir_all(directory.path()).expect("removed");
    let (report, code, said) = ended(running).await;
    assert_eq!((code, &report["passed"]), (Some(1), &Value::Bool(true)), "{said}");
    assert!(said.contains("cannot write"), "{said}");
}

/// What cannot be removed is told of, with the command that does.
#[actix_web::test]
async fn a_canary_that_stays_is_a_fault() {
    let app = TestApp::builder().start().await;
    let stays = unique("stays-");
    run(&app, &["tenant", "create", &stays]).await.expect(0);
    is_made_a_canary(&app, &stays).await;
    let control = app.control_database();
    let prevent = "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it stays'; END $$; \
        CREATE TRIGGER stay BEFORE DELETE ON tenants FOR EACH ROW WHEN (old.slug LIKE 'stays-%') EXECUTE FUNCTION stay()";
    db::execute(control, prevent).await;
    let verify = ["fleet", "verify", "--url", app.url(), "--output", "json"];
    let report = run(&app, &verify).await.expect(1).json();
    assert_eq!(faults(&report), [format!("canary_left {stays}")]);
    let said = report["faults"][0]["said"].as_str().expect("a text");
    assert!(said.ends_with(&format!("tenantry tenant delete {stays} --now --yes")), "{said}");
    db::execute(control, "DROP TRIGGER stay ON tenants").await;
    run(&app, &verify).await.expect(0);
    assert!(!is_there(&app, &stays).await);
}
