//! An export over REST: what the command line exports, sealed in the storage for a while, and fetched by its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use diesel_async::SimpleAsyncConnection as _;
use serde_json::{Value, json};
use tenantry::fleet::Fleet;
use tenantry::kernel::TenantId;
use tenantry::kernel::crypto::sha256;
use tenantry::testing::{Persona, Tenant, TestApp};
use tokio::process::Child;

use super::scene::with_people_and_contacts;
use crate::support::binary::{program, run};
use crate::support::dir::Dir;
use crate::support::{db, eventually, s3, seconds, unique};

fn exports(tenant: &Tenant) -> String {
    format!("/api/v1/admin/tenants/{}/exports", tenant.slug)
}

fn folder(app: &TestApp, tenant: TenantId) -> PathBuf {
    app.storage().join("backups").join(tenant.to_string())
}

/// The folders of the runs that have written something of an export.
fn runs(export: &Path) -> Vec<PathBuf> {
    fs::read_dir(export).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

/// The folder of the one run that has.
fn only_run(app: &TestApp, tenant: &Tenant, id: &str) -> PathBuf {
    let mut runs = runs(&folder(app, tenant.id).join(id));
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

/// A worker in a process of its own, with this storage if it is another one.
fn worker_of(app: &TestApp, storage: Option<&str>) -> Child {
    let mut environment = app.environment();
    environment.push(("TENANTRY_MANAGEMENT_LISTEN".into(), "127.0.0.1:0".into()));
    environment.extend(storage.map(|url| ("TENANTRY_STORAGE_URL".into(), url.into())));
    program(&environment, &["worker"]).spawn().expect("it starts")
}

/// Fetches every file of an export: each is what its job told.
async fn fetch_all(operator: &Persona, tenant: &Tenant, made: &Value) {
    let export = format!("{}/{}", exports(tenant), made["exportId"].as_str().unwrap());
    for file in made["files"].as_array().unwrap() {
        let answer = operator.get(&format!("{export}/files/{}", file["name"].as_str().unwrap())).await.expect(200);
        assert_eq!(json!(digest(answer.text.as_bytes())), file["sha256"], "{answer:?}");
    }
}

/// The result of an export's job, once a worker has done it.
async fn done(operator: &Persona, worker: &Fleet, id: &str) -> Value {
    let at = format!("/api/v1/admin/jobs/{id}");
    eventually(seconds(60), "a worker makes it", async || {
        worker.work().await.expect("worked");
        operator.get(&at).await.expect(200).data()["state"] == "done"
    })
    .await;
    operator.get(&at).await.expect(200).data()["result"].clone()
}

async fn export(app: &TestApp, worker: &Fleet, tenant: &Tenant) -> Value {
    let job = app.operator().post(&exports(tenant), json!({})).await.expect(202);
    assert_eq!(job.data()["kind"], "export", "{job:?}");
    let result = done(&app.operator(), worker, &job.id()).await;
    assert_eq!(result["exportId"], json!(job.id()));
    result
}

fn digest(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[actix_web::test]
async fn over_rest_it_holds_what_the_command_line_exports() {
    let app = TestApp::shared().await;
    let (operator, worker, acme) = (app.operator(), app.fleet(), with_people_and_contacts(app).await);
    let ledger = format!(
        "SET ROLE {}; CREATE TABLE \"x/y\" (id int, label text, api_key text); \
         INSERT INTO \"x/y\" SELECT n, repeat('row', 50), 'top-secret-key' FROM generate_series(1, 1500) n; \
         CREATE TABLE \"empty\" (id int)",
        acme.role()
    );
    db::execute(acme.database(), &ledger).await;
    let made = export(app, &worker, &acme).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    run(app, &["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()]).await.expect(0);

    let detail = format!("{}/{}", exports(&acme), made["exportId"].as_str().unwrap());
    let manifest = operator.get(&detail).await.expect(200).data().clone();
    let theirs: Value = serde_json::from_str(&fs::read_to_string(to.join("manifest.json")).unwrap()).unwrap();
    for same in ["format", "tenant", "slug", "schemaVersion", "tables", "leftOut"] {
        assert_eq!(manifest[same], theirs[same], "{same}");
    }
    assert!(manifest["leftOut"].as_array().unwrap().contains(&json!("public.x/y.api_key")));
    for same in ["exportId", "exportedAt", "expiresAt"] {
        assert_eq!(manifest[same], made[same], "{same}");
    }

    let mut files = BTreeMap::new();
    for file in made["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let path = format!("{detail}/files/{}", name.replace('%', "%25"));
        let answer = operator.get(&path).await.expect(200);
        assert_eq!(answer.text, fs::read_to_string(to.join(name)).unwrap(), "{name}");
        assert_eq!(json!(digest(answer.text.as_bytes())), file["sha256"], "{name}");
        let kind = if name.ends_with(".csv") { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
        assert_eq!(answer.header("content-type"), Some(kind), "{name}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
        let attached = format!("attachment; filename=\"{name}\"");
        assert_eq!(answer.header("content-disposition"), Some(attached.as_str()));
        files.insert(name.to_owned(), answer.text);
    }
    assert_eq!(files.len() + 1, fs::read_dir(&to).unwrap().count(), "all but manifest.json");
    assert!(files["contacts.ndjson"].contains("Ünïcode 🦀") && files["empty.ndjson"].is_empty());
    assert_eq!(files["x%2Fy.csv"].lines().count(), 1501);
    let hashes = db::words(acme.database(), "SELECT password_hash AS word FROM users").await;
    for (name, text) in &files {
        assert!(!text.contains("top-secret-key") && hashes.iter().all(|hash| !text.contains(hash.as_str())), "{name}");
    }

    // Sealed: nobody reads it who has the disk alone.
    let mut sealed = 0;
    for entry in fs::read_dir(only_run(app, &acme, made["exportId"].as_str().unwrap())).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for clear in ["last_name", "rowrow", acme.email()] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear}");
        }
        sealed += 1;
    }
    assert_eq!(sealed, files.len());
    // Who carried what away can be seen.
    let fetched = format!(
        "SELECT action || ' ' || outcome AS word FROM operator_audit WHERE target = '{} {} contacts.csv'",
        acme.slug,
        made["exportId"].as_str().unwrap()
    );
    assert_eq!(
        db::words(app.control_database(), &fetched).await,
        ["GET /api/v1/admin/tenants/{id}/exports/{exportId}/files/{name} done"]
    );
}

#[actix_web::test]
async fn it_is_asked_for_once_listed_and_another_tenant_s_is_not_there() {
    let app = TestApp::shared().await;
    let (operator, worker) = (app.operator(), app.fleet());
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let once = operator.with("idempotency-key", &unique("export"));
    let job = once.post(&exports(&acme), json!({})).await.expect(202);
    let again = once.post(&exports(&acme), json!({})).await.expect(202);
    assert_eq!((again.id(), again.header("idempotency-replayed")), (job.id(), Some("true")));
    let made = done(&operator, &worker, &job.id()).await;
    let other = export(app, &worker, &acme).await;

    let listed = operator.get(&format!("{}?includeTotal=true", exports(&acme))).await.expect(200);
    assert_eq!(listed.data(), &json!([other, made]));
    assert_eq!(listed.body["meta"]["pagination"]["total"], 2);
    let first = operator.get(&format!("{}?pageSize=1", exports(&acme))).await.expect(200);
    let cursor = first.body["meta"]["pagination"]["nextCursor"].as_str().expect("another page").to_owned();
    let second = operator.get(&format!("{}?pageSize=1&cursor={cursor}", exports(&acme))).await.expect(200);
    assert_eq!((&first.data()[0], &second.data()[0]), (&other, &made));
    assert_eq!(operator.get(&exports(&globex)).await.expect(200).data(), &json!([]));

    let id = made["exportId"].as_str().unwrap();
    let name = made["files"][0]["name"].as_str().unwrap();
    for (tenant, there) in [(&acme, 200), (&globex, 404)] {
        operator.get(&format!("{}/{id}", exports(tenant))).await.expect(there);
        operator.get(&format!("{}/{id}/files/{name}", exports(tenant))).await.expect(there);
    }
    for wrong in ["manifest.json", "file-0", "..%2F..%2Fmanifest", "contacts", "CONTACTS.CSV"] {
        operator.get(&format!("{}/{id}/files/{wrong}", exports(&acme))).await.refused(404, "not_found");
    }
    // Neither a job of another kind, nor what the command line has exported to a directory.
    let dir = Dir::new();
    let to = dir.path().join("export");
    run(app, &["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()]).await.expect(0);
    let jobs = format!(
        "SELECT id::text AS word FROM operations WHERE tenant_id = '{}' AND (kind = 'create' OR input ? 'to')",
        acme.id
    );
    let jobs = db::words(app.control_database(), &jobs).await;
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        operator.get(&format!("{}/{job}", exports(&acme))).await.refused(404, "not_found");
    }
    assert_eq!(operator.get(&exports(&acme)).await.expect(200).data().as_array().map(Vec::len), Some(2));
}

/// What was changed on the disk is not given out: the answer breaks off where it was.
#[actix_web::test]
async fn one_bit_flipped_and_the_answer_breaks_off() {
    let app = TestApp::shared().await;
    let (operator, worker, acme) = (app.operator(), app.fleet(), app.tenant("flipped").await);
    // Chunks are of 64 KiB: the first of them is as it was.
    let long = format!(
        "SET ROLE {}; CREATE TABLE aaa (word text); INSERT INTO aaa SELECT repeat('word', 250) FROM generate_series(1, 400)",
        acme.role()
    );
    db::execute(acme.database(), &long).await;
    let made = export(app, &worker, &acme).await;
    let id = made["exportId"].as_str().unwrap();
    let number = made["files"].as_array().unwrap().iter().position(|file| file["name"] == "aaa.csv").unwrap();
    let object = only_run(app, &acme, id).join(format!("file-{number}"));
    let url = format!("{}{}/{id}/files/aaa.csv", app.url(), exports(&acme));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = operator.token().await;
    let fetch = async || client.get(&url).bearer_auth(&token).send().await?.bytes().await;
    assert_eq!(fetch().await.expect("all of it").len() as u64, made["files"][number]["bytes"]);
    let whole = fs::read(&object).unwrap();
    assert!(whole.len() > 300_000, "{}", whole.len());
    for damaged in [
        whole.iter().enumerate().map(|(at, byte)| if at == whole.len() / 2 { byte ^ 1 } else { *byte }).collect(),
        whole[..whole.len() - 1].to_vec(),
        whole[..40 + 2 * (64 * 1024 + 16)].to_vec(),
    ] {
        fs::write(&object, damaged).unwrap();
        assert!(fetch().await.is_err(), "it breaks off");
    }
    // Another file of the same export in its place is as bad; and what is gone is not there.
    fs::copy(object.with_file_name(format!("file-{}", number - 1)), &object).unwrap();
    assert!(fetch().await.is_err(), "it breaks off");
    fs::remove_file(&object).unwrap();
    operator.get(&format!("{}/{id}/files/aaa.csv", exports(&acme))).await.refused(404, "not_found");
}

#[actix_web::test]
async fn with_the_tenant_it_is_erased() {
    let app = TestApp::shared().await;
    let (operator, worker, acme) = (app.operator(), app.fleet(), app.tenant("erased").await);
    let made = export(app, &worker, &acme).await;
    let objects = fs::read_dir(only_run(app, &acme, made["exportId"].as_str().unwrap())).unwrap().count();
    let dir = Dir::new();
    let file = dir.path().join("certificate.json");
    let arguments = ["tenant", "erase", acme.slug.as_str(), "--yes", "--certificate", file.to_str().unwrap()];
    run(app, &arguments).await.expect(0);
    let certificate: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(certificate["certificate"]["objects"], json!(objects));
    assert!(certificate["certificate"]["backupKeyMadeAt"].is_string());
    assert!(!folder(app, acme.id).exists());
    let key = format!("SELECT count(*)::text AS word FROM backup_keys WHERE id = '{}'", acme.id);
    assert_eq!(db::word(app.control_database(), &key).await, "0");
    operator.get(&exports(&acme)).await.refused(404, "not_found");
}

/// Its time is seven days; what did not come to its end goes sooner.
#[actix_web::test]
async fn it_goes_when_its_time_is_over() {
    const PASSWORD: &str = "an uncommon sentence of five words";
    const LOGIN: &str = "/api/v1/admin/auth/login";
    // Its own: its clock is moved.
    let app = TestApp::builder().start().await;
    let (worker, acme) = (app.fleet(), app.tenant("expires").await);
    let email = format!("{}@operators.test", unique("later"));
    let body = json!({"email": email, "password": PASSWORD, "role": "admin", "tenants": []});
    app.operator().post("/api/v1/admin/operators", body).await.expect(201);
    let made = export(&app, &worker, &acme).await;
    let id = made["exportId"].as_str().unwrap();
    let place = folder(&app, acme.id).join(id);
    assert_eq!(worker.prune_exports().await.unwrap(), 0, "not yet");

    app.clock().advance(chrono::TimeDelta::days(7) + chrono::TimeDelta::minutes(1));
    let token = app.anonymous().post(LOGIN, json!({"email": email, "password": PASSWORD})).await.expect(200);
    let operator = app.anonymous().bearing(token.data()["accessToken"].as_str().expect("a token"));
    let paths = [format!("{}/{id}", exports(&acme)), format!("{}/{id}/files/contacts.csv", exports(&acme))];
    for path in &paths {
        operator.get(path).await.refused(404, "not_found");
    }
    assert!(place.exists(), "nobody has swept yet");
    assert_eq!(worker.prune_exports().await.unwrap(), 1);
    assert!(!place.exists());
    assert_eq!(worker.prune_exports().await.unwrap(), 0, "it is known to be gone");
    for path in &paths {
        operator.get(path).await.refused(404, "not_found");
    }
    assert_eq!(operator.get(&exports(&acme)).await.expect(200).data(), &json!([]));

    // As one that was given up halfway leaves it.
    let job = operator.post(&exports(&acme), json!({})).await.expect(202).id();
    operator.post(&format!("/api/v1/admin/jobs/{job}/cancel"), json!({})).await.expect(200);
    let left = folder(&app, acme.id).join(&job);
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("file-0"), "half of it").unwrap();
    assert_eq!(worker.prune_exports().await.unwrap(), 1);
    assert!(!left.exists());
}

/// Killed in the middle, it is made by another worker; and a paused one that wakes up later spoils nothing.
#[actix_web::test]
async fn what_another_run_writes_is_never_read() {
    const LAST: &str = "CREATE TABLE zzz (id int); INSERT INTO zzz VALUES (1)";
    // Its own: its clock is moved.
    let app = TestApp::builder().start().await;
    let acme = with_people_and_contacts(&app).await;
    let operator = app.operator();
    db::execute(acme.database(), &format!("SET ROLE {}; {LAST}", acme.role())).await;
    let mut gate = db::open(acme.database()).await;
    gate.batch_execute("BEGIN; LOCK TABLE zzz").await.expect("nobody has it");
    let job = operator.post(&exports(&acme), json!({})).await.expect(202).id();
    let mut killed = worker_of(&app, None);
    let waits = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'",
        acme.role()
    );
    eventually(seconds(60), "it is at the last table", async || db::word(&app.server(), &waits).await == "1").await;
    killed.kill().await.expect("killed");
    let first = only_run(&app, &acme, &job);
    let written = fs::read_dir(&first).unwrap().count();
    gate.batch_execute("ROLLBACK").await.expect("it goes on");

    let worker = app.fleet();
    let made = done(&operator, &worker, &job).await;
    let files = made["files"].as_array().unwrap().len();
    let second = only_run(&app, &acme, &job);
    assert_ne!(second, first, "what was left is gone");
    assert_eq!((written, fs::read_dir(&second).unwrap().count()), (files - 2, files), "all but the last, and all");

    // As one that was paused would go on.
    fs::create_dir(&first).unwrap();
    for number in 0..files {
        fs::write(first.join(format!("file-{number}")), "late").unwrap();
    }
    fetch_all(&operator, &acme, &made).await;
    let export = folder(&app, acme.id).join(&job);
    assert_eq!(runs(&export).len(), 2);
    app.clock().advance(chrono::TimeDelta::days(8));
    assert_eq!(worker.prune_exports().await.unwrap(), 1);
    assert!(!export.exists(), "whichever run it was");
}

/// The same through a server that speaks S3, on a socket: one process writes it there, another one gives it out.
#[actix_web::test]
async fn a_bucket_holds_exports_too() {
    let dir = Dir::new();
    fs::create_dir(dir.path().join("tenants")).unwrap();
    let endpoint = s3::serve(dir.path(), "access", "s3cr3t").await;
    let storage = format!("s3://access:s3cr3t@tenants/eu?endpoint={endpoint}&region=eu-central-1");
    let app = TestApp::builder().set("TENANTRY_STORAGE_URL", &storage).start().await;
    let acme = with_people_and_contacts(&app).await;
    let operator = app.operator();
    let job = operator.post(&exports(&acme), json!({})).await.expect(202);
    let mut worker = worker_of(&app, Some(&storage));
    let at = format!("/api/v1/admin/jobs/{}", job.id());
    let made = async || operator.get(&at).await.expect(200).data()["state"] == "done";
    eventually(seconds(60), "the worker makes it", made).await;
    worker.kill().await.expect("killed");
    let made = operator.get(&at).await.expect(200).data()["result"].clone();
    let runs = runs(&dir.path().join(format!("tenants/eu/backups/{}/{}", acme.id, job.id())));
    assert_eq!(fs::read_dir(&runs[0]).unwrap().count(), made["files"].as_array().unwrap().len());
    fetch_all(&operator, &acme, &made).await;
    let path = format!("{}/{}/files/contacts.ndjson", exports(&acme), job.id());
    assert!(operator.get(&path).await.expect(200).text.contains("Ünïcode 🦀"));
}
