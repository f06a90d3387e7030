//! `fleet verify` as a job: its report is as good as the command's, whatever it found, and whoever is killed on the way.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tenantry::fleet::{CreateTenant, Fleet, OperationOptions, Silent};
use tenantry::testing::{Persona, TestApp};

use super::proof::faults;
use crate::support::binary::run;
use crate::support::{db, eventually, seconds, unique};

const PATH: &str = "/api/v1/admin/fleet/verify";

/// An installation that is asked at its public URL. Its own: workers of other tests would take what waits here.
async fn at_its_public_url() -> TestApp {
    TestApp::builder().named().start().await
}

/// Has the job at `location` done, and gives it.
async fn done(operator: &Persona, worker: &Fleet, location: &str) -> Value {
    eventually(seconds(120), "it is done", async || {
        worker.work().await.expect("the control plane answers");
        let state = operator.get(location).await.expect(200).data()["state"].clone();
        assert!(["queued", "running", "done"].iter().any(|word| state == *word), "{state}");
        state == "done"
    })
    .await;
    operator.get(location).await.expect(200).data().clone()
}

/// The report in a result, whose text it is in once.
fn report(result: &Value) -> Value {
    assert_eq!(result["report"], Value::Null, "it is there once");
    serde_json::from_str(result["document"].as_str().expect("a document")).expect("JSON")
}

/// Saves a result as docs/api.md has it.
fn save(result: &Value, directory: &Path) -> String {
    let file = directory.join("proof.json");
    fs::write(&file, result["document"].as_str().expect("a document")).expect("saved");
    fs::write(directory.join("proof.json.sig"), result["signature"].to_string()).expect("saved");
    file.to_string_lossy().into_owned()
}

#[actix_web::test]
async fn a_worker_proves_it_and_its_report_can_be_checked() {
    let app = at_its_public_url().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (operator, worker) = (app.operator(), app.fleet());
    // Where it is proven is nobody's to say.
    let elsewhere = operator.post(PATH, json!({"url": "http://127.0.0.1:1"})).await;
    assert_eq!(elsewhere.invalid(), [("url".to_owned(), "unknown_field".to_owned())]);
    let asked = operator.post(PATH, json!({})).await.expect(202);
    let location = asked.header("location").expect("where the job is").to_owned();
    assert_eq!(location, format!("/api/v1/admin/jobs/{}", asked.id()));
    assert_eq!((&asked.data()["kind"], &asked.data()["state"]), (&json!("verify"), &json!("queued")));
    operator.post(PATH, json!({})).await.refused(409, "conflict");

    let job = done(&operator, &worker, &location).await;
    let result = &job["result"];
    let listed = operator.get("/api/v1/admin/jobs?kind=verify").await.expect(200);
    assert_eq!(
        listed.data()[0]["result"],
        json!({"passed": true}),
        "in a list, its report would be as long as the fleet"
    );
    let read = report(result);
    assert_eq!((&result["passed"], &read["passed"], faults(&read).len()), (&json!(true), &json!(true), 0), "{result}");
    assert_eq!((&read["stamps"], &read["tenantsLeftOut"]), (&json!({"right": 2}), &json!(0)));
    let url = read["url"].as_str().expect("a URL");
    assert_eq!(url.trim_end_matches('/'), app.router().config().public_url);
    let steps: Vec<_> = job["steps"].as_array().expect("steps").iter().map(|step| step["name"].clone()).collect();
    let expected = ["stamps", "grants", "roles", "keys", "canaries", "attacks", "noisy_neighbour", "report"];
    assert_eq!(steps, expected.map(Value::from));
    let slugs: Vec<_> = read["tenants"].as_array().expect("tenants").iter().map(|one| &one["slug"]).collect();
    assert_eq!(slugs, [&json!(acme.slug), &json!(globex.slug)]);

    let directory = tempfile::tempdir().expect("a directory");
    let file = save(result, directory.path());
    let check = ["fleet", "verify", "--check", &file, "--output", "json"];
    assert_eq!(run(&app, &check).await.expect(0).json()["passed"], true);
    let mut bytes = fs::read(&file).expect("the document");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, &bytes).expect("written");
    run(&app, &check).await.expect(1);

    // What is wrong is in the report, and that is signed too.
    let grant = format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"", globex.role(), acme.role());
    db::execute(&app.server(), &grant).await;
    let asked = operator.post(PATH, json!({})).await.expect(202);
    let job = done(&operator, &worker, asked.header("location").expect("where the job is")).await;
    let mut found = faults(&report(&job["result"]));
    found.sort();
    let expected = [format!("role_granted {}", globex.slug), format!("role_let_in {}", acme.slug)];
    assert_eq!((&job["result"]["passed"], found.as_slice()), (&json!(false), expected.as_slice()));
    save(&job["result"], directory.path());
    assert_eq!(run(&app, &check).await.expect(0).json()["passed"], false);
}

/// Tenants that a proof has made, as `slug status`.
async fn canaries(app: &TestApp) -> Vec<String> {
    let there = "SELECT t.slug || ' ' || t.status AS word FROM tenants t JOIN operations o ON o.tenant_id = t.id \
                 WHERE o.kind = 'create' AND o.input ->> 'canary' = 'true'";
    db::words(app.control_database(), there).await
}

/// A tenant as a proof leaves it that was killed.
async fn left_canary(app: &TestApp) {
    let slug = unique("canary-");
    let wanted = CreateTenant::named(slug.parse().expect("a slug"));
    app.fleet().create(&wanted, &OperationOptions::default(), &Silent).await.expect("made");
    let mark = "UPDATE operations SET input = input || '{\"canary\": true}' WHERE kind = 'create'";
    db::execute(app.control_database(), &format!("{mark} AND slug = '{slug}'")).await;
}

/// As a worker leaves a job that was killed in the middle of the attacks.
async fn is_left_half_done(app: &TestApp, job: &str) {
    left_canary(app).await;
    let steps = ["stamps", "grants", "roles", "keys", "canaries"].iter().enumerate();
    let rows: Vec<_> = steps.map(|(at, name)| format!("('{job}', {at}, '{name}', 'done', now(), 1)")).collect();
    let left = format!(
        "UPDATE operations SET state = 'running', driver = gen_random_uuid() WHERE id = '{job}'; \
         INSERT INTO operation_steps (operation_id, position, name, state, finished_at, ms) VALUES {}",
        rows.join(", ")
    );
    db::execute(app.control_database(), &left).await;
}

#[actix_web::test]
async fn what_a_killed_worker_left_is_begun_anew_or_taken_away() {
    let app = at_its_public_url().await;
    app.tenant("acme").await;
    let (operator, worker) = (app.operator(), app.fleet());
    let asked = operator.post(PATH, json!({})).await.expect(202);
    is_left_half_done(&app, &asked.id()).await;
    let job = done(&operator, &worker, asked.header("location").expect("where the job is")).await;
    let read = report(&job["result"]);
    assert_eq!((&read["passed"], &read["checks"][0]["tried"]), (&json!(true), &json!(1)), "{read}");
    assert!(canaries(&app).await.is_empty());

    // Stopped, it leaves nothing: whether it was killed before or is at work.
    for killed in [true, false] {
        let asked = operator.post(PATH, json!({})).await.expect(202);
        let location = asked.header("location").expect("where the job is").to_owned();
        if killed {
            is_left_half_done(&app, &asked.id()).await;
        } else {
            worker.work().await.expect("the control plane answers");
            eventually(seconds(60), "both canaries serve", async || {
                let there = canaries(&app).await;
                there.len() == 2 && there.iter().all(|one| one.ends_with(" active"))
            })
            .await;
        }
        operator.post(&format!("{location}/cancel"), json!({})).await.expect(200);
        eventually(seconds(60), "it is cancelled, and no canary is left", async || {
            worker.work().await.expect("the control plane answers");
            operator.get(&location).await.expect(200).data()["state"] == "cancelled" && canaries(&app).await.is_empty()
        })
        .await;
        assert_eq!(operator.get(&location).await.expect(200).data()["result"], Value::Null);
    }
}
