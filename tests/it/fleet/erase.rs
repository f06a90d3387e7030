//! An erased tenant is gone for good, and the certificate says so to whoever asks.

use std::fs;
use std::path::Path;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::fleet::erase::Step;
use tenantry::testing::{Tenant, TestApp};

use super::scene::{backup, dies, with_people_and_contacts};
use crate::support::binary::{run, run_with};
use crate::support::dir::Dir;
use crate::support::{db, eventually, seconds, unique};

/// What the server, the control plane and the storage hold of a tenant.
async fn traces(app: &TestApp, tenant: &Tenant) -> Vec<String> {
    let (role, id) = (tenant.role(), tenant.id);
    let server = format!(
        "SELECT 'database ' || datname AS word FROM pg_database WHERE datname LIKE '{role}%' \
         UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname = '{role}'"
    );
    let registry = format!(
        "SELECT 'tenant' AS word FROM tenants WHERE id = '{id}' \
         UNION ALL SELECT 'signing key' FROM signing_keys WHERE tenant_id = '{id}' \
         UNION ALL SELECT 'backup key' FROM backup_keys WHERE id = '{id}' \
         UNION ALL SELECT 'backup' FROM backups WHERE tenant_id = '{id}' \
         UNION ALL SELECT 'former' FROM kept_databases WHERE tenant_id = '{id}'"
    );
    let mut found = db::words(&app.server(), &server).await;
    found.extend(db::words(app.control_database(), &registry).await);
    let folder = app.storage().join("backups").join(id.to_string());
    found.extend(folder.exists().then(|| "storage".to_owned()));
    found
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &there);
        } else {
            fs::copy(&path, &there).unwrap();
        }
    }
}

#[actix_web::test]
async fn nothing_is_left_and_a_copied_backup_does_not_open() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let made = backup(app, slug).await;
    let id = made["id"].as_str().unwrap();
    // It has lived elsewhere before, too.
    run(app, &["tenant", "restore", slug, "--backup", id]).await.expect(0);
    let (mine, dir) = (app.storage().join("backups").join(acme.id.to_string()), Dir::new());
    let stolen = dir.path().join("storage").join("backups").join(acme.id.to_string());
    copy_tree(&mine, &stolen);
    let row = format!("SELECT row_to_json(b)::text AS word FROM backups b WHERE id = '{id}'");
    let row = db::word(app.control_database(), &row).await;
    assert_eq!(traces(app, &acme).await.len(), 9);

    let file = dir.path().join("certificate.json");
    let arguments = ["tenant", "erase", slug, "--certificate", file.to_str().unwrap()];
    run(app, &arguments).await.expect(4);
    assert!(!file.exists() && traces(app, &acme).await.len() == 9, "without a yes nothing happens");
    let said = run(app, &[&arguments[..], &["--yes", "--output", "json"]].concat()).await.expect(0).json();
    assert_eq!(traces(app, &acme).await, Vec::<String>::new());
    assert_eq!(said, read(&file));
    let certificate = &said["certificate"];
    assert_eq!((&certificate["tenant"], &certificate["slug"]), (&json!(acme.id), &json!(slug)));
    assert_eq!(certificate["databases"].as_array().unwrap().len(), 2);
    assert_eq!((certificate["backups"][0]["id"].as_str(), &certificate["role"]), (Some(id), &json!(acme.role())));
    assert!(certificate["backupKeyMadeAt"].is_string() && certificate["objects"] == 2);
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");

    // With a copy of the storage and the entry put back, there is no key that would open it.
    let put_back = format!("INSERT INTO backups SELECT * FROM json_populate_record(NULL::backups, '{row}')");
    db::execute(app.control_database(), &put_back).await;
    let mut environment = app.environment();
    environment.retain(|(name, _)| name != "TENANTRY_STORAGE_URL");
    environment.push(("TENANTRY_STORAGE_URL".into(), format!("file://{}/storage", dir.path().display())));
    let said = run_with(&environment, &["tenant", "restore", slug, "--backup", id]).await.expect(4);
    assert!(said.stderr.contains("destroyed"), "{said:?}");
    // Nor does another key: that of a tenant of the same name.
    let key = "INSERT INTO backup_keys (id, key_sealed) SELECT $id, key_sealed FROM backup_keys LIMIT 1";
    let other = app.tenant("other").await;
    backup(app, other.slug.as_str()).await;
    db::execute(app.control_database(), &key.replace("$id", &format!("'{}'", acme.id))).await;
    assert_ne!(run_with(&environment, &["tenant", "restore", slug, "--backup", id]).await.code, Some(0));
    let forget = format!("DELETE FROM backups WHERE id = '{id}'; DELETE FROM backup_keys WHERE id = '{}'", acme.id);
    db::execute(app.control_database(), &forget).await;

    // The certificate speaks for itself, and not for another.
    let check = async |path: &Path| run(app, &["tenant", "erase", "--check", path.to_str().unwrap()]).await;
    check(&file).await.expect(0);
    for (pointer, value) in [
        ("/certificate/slug", json!("another")),
        ("/certificate/erasedAt", json!("2020-01-01T00:00:00Z")),
        ("/certificate/databases", json!([])),
        ("/signature/signature", json!("AAAA")),
        ("/signature/keyId", json!(acme.id)),
    ] {
        let mut forged = read(&file);
        *forged.pointer_mut(pointer).unwrap() = value;
        let path = dir.path().join("forged.json");
        fs::write(&path, forged.to_string()).unwrap();
        check(&path).await.expect(4);
    }
    independent(&read(&file));
    // Asked for again, it is given again.
    let again = dir.path().join("again.json");
    run(app, &["tenant", "erase", slug, "--certificate", again.to_str().unwrap(), "--yes"]).await.expect(0);
    assert_eq!(read(&again), read(&file));
}

/// What is there already, an empty file too, is somebody else's: nothing is erased for it, and it stays.
#[actix_web::test]
async fn a_file_that_is_there_is_left_alone() {
    let (app, dir) = (TestApp::shared().await, Dir::new());
    let acme = app.tenant("spared").await;
    let slug = acme.slug.as_str();
    let [empty, full, link, own] = ["empty", "full", "link", "own"].map(|name| dir.path().join(name));
    fs::write(&empty, "").unwrap();
    fs::write(&full, "mine").unwrap();
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let erase = async |name: &str, file: &Path| {
        run(app, &["tenant", "erase", name, "--certificate", file.to_str().unwrap(), "--yes"]).await.expect(4)
    };
    let nobody = unique("never");
    for file in [&empty, &full, &link] {
        for name in [slug, &nobody] {
            let said = erase(name, file).await;
            assert!(said.stderr.contains("not there yet"), "{said:?}");
        }
    }
    assert_eq!((fs::read_to_string(&empty).unwrap(), fs::read_to_string(&full).unwrap()), ("".into(), "mine".into()));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    acme.admin().get("/api/v1/users/me").await.expect(200);
    // What it made itself, it takes away again.
    erase(&nobody, &own).await;
    assert!(!own.exists());
}

/// As anybody can do it who has the public key: without this program.
fn independent(signed: &Value) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let decode = |name: &str| BASE64.decode(signed["signature"][name].as_str().unwrap()).unwrap();
    let text = format!("tenantry document\n{}", signed["certificate"]);
    let key = openssl::pkey::PKey::public_key_from_raw_bytes(&decode("publicKey"), openssl::pkey::Id::ED25519).unwrap();
    let mut verifier = openssl::sign::Verifier::new_without_digest(&key).unwrap();
    assert!(verifier.verify_oneshot(&decode("signature"), text.as_bytes()).unwrap());
}

#[actix_web::test]
async fn after_a_crash_at_any_step_an_erasure_goes_on() {
    let app = TestApp::shared().await;
    let dir = Dir::new();
    for (at, step) in Step::ALL.iter().enumerate() {
        let acme = app.tenant("gone").await;
        let slug = acme.slug.as_str();
        backup(app, slug).await;
        let file = dir.path().join(unique("certificate"));
        let arguments = ["tenant", "erase", slug, "--certificate", file.to_str().unwrap(), "--yes"];
        dies(app, &arguments, step.as_str(), at % 2 == 0).await;
        run(app, &arguments).await.expect(0);
        assert_eq!(traces(app, &acme).await, Vec::<String>::new(), "{step}");
        let certificate = read(&file)["certificate"].clone();
        assert_eq!(certificate["tenant"], json!(acme.id), "{step}");
        assert_eq!(certificate["backups"].as_array().unwrap().len(), 1, "{step}");
        run(app, &["tenant", "erase", "--check", file.to_str().unwrap()]).await.expect(0);
    }
}

/// Neither the sweep of archived tenants nor a deletion takes one whose erasure was interrupted: the same command ends it.
#[actix_web::test]
async fn an_interrupted_erasure_does_not_become_a_deletion() {
    let app = TestApp::builder().start().await;
    let (fleet, dir) = (app.fleet(), Dir::new());
    for step in Step::ALL {
        let acme = app.tenant("swept").await;
        let slug = acme.slug.as_str();
        backup(&app, slug).await;
        let file = dir.path().join(unique("certificate"));
        let arguments = ["tenant", "erase", slug, "--certificate", file.to_str().unwrap(), "--yes"];
        dies(&app, &arguments, step.as_str(), false).await;
        let failed = "UPDATE operations SET state = 'failed', finished_at = now() WHERE state = 'running'";
        db::execute(app.control_database(), failed).await;
        assert_eq!(fleet.purge_due().await.expect("the control plane answers"), 0, "{step}");
        run(&app, &["tenant", "delete", slug, "--now", "--yes"]).await.expect(4);
        assert!(fleet.restore(acme.id).await.is_err(), "{step}");
        run(&app, &arguments).await.expect(0);
        assert_eq!(traces(&app, &acme).await, Vec::<String>::new(), "{step}");
        let certificate = read(&file)["certificate"].clone();
        assert_eq!(certificate["tenant"], json!(acme.id), "{step}");
        for what in ["backups", "databases"] {
            assert_eq!(certificate[what].as_array().unwrap().len(), 1, "{step}: {what}");
        }
    }
}

/// A deletion that failed halfway is known until it has come to its end, whatever is asked for in between.
#[actix_web::test]
async fn a_deletion_that_failed_is_not_forgotten() {
    let app = TestApp::builder().start().await;
    let (fleet, dir) = (app.fleet(), Dir::new());
    for erased in [false, true] {
        let acme = app.tenant("halfway").await;
        let (slug, role) = (acme.slug.as_str(), acme.role());
        // The server drops the database, and then keeps the role: something of it stands elsewhere.
        db::execute(&app.server(), &format!("CREATE SCHEMA {role} AUTHORIZATION {role}")).await;
        let delete = ["tenant", "delete", slug, "--now", "--yes"];
        assert_ne!(run(&app, &delete).await.code, Some(0));
        let left = [format!("role {role}"), "tenant".into(), "signing key".into()];
        assert_eq!(traces(&app, &acme).await, left);
        let to = dir.path().join(unique("export"));
        for arguments in [&["backup", slug][..], &["export", slug, "--to", to.to_str().unwrap()]] {
            let said = run(&app, &[&["tenant"][..], arguments].concat()).await.expect(4);
            assert!(said.stderr.contains(&format!("tenant delete {} --now", acme.id)), "{said:?}");
        }
        let file = dir.path().join(unique("certificate"));
        let erase = ["tenant", "erase", slug, "--certificate", file.to_str().unwrap(), "--yes"];
        if erased {
            dies(&app, &erase, "inventory", true).await;
        }
        let state = format!("SELECT state AS word FROM operations WHERE kind = 'delete' AND tenant_id = '{}'", acme.id);
        assert_eq!(db::words(app.control_database(), &state).await, ["failed"]);
        assert!(fleet.restore(acme.id).await.is_err(), "it has no database");
        db::execute(&app.server(), &format!("DROP SCHEMA {role}")).await;
        run(&app, if erased { &erase[..] } else { &delete[..] }).await.expect(0);
        assert_eq!(traces(&app, &acme).await, Vec::<String>::new());
    }
}

#[actix_web::test]
async fn what_a_deleted_tenant_left_can_be_erased() {
    let app = TestApp::shared().await;
    let acme = app.tenant("left").await;
    let slug = acme.slug.as_str();
    backup(app, slug).await;
    run(app, &["tenant", "delete", slug, "--now", "--yes"]).await.expect(0);
    assert_eq!(traces(app, &acme).await, ["backup key", "backup", "storage"]);
    let dir = Dir::new();
    let file = dir.path().join("certificate.json");
    run(app, &["tenant", "erase", slug, "--certificate", file.to_str().unwrap(), "--yes"]).await.expect(0);
    assert_eq!(traces(app, &acme).await, Vec::<String>::new());
    run(app, &["tenant", "erase", &unique("never"), "--certificate", "/nowhere/x", "--yes"]).await.expect(4);
    let secret = app.server().password.expose_secret().to_owned();
    assert!(!fs::read_to_string(&file).unwrap().contains(&secret));
}

/// An erasure that was interrupted once its tenant's entry was gone is not gone on with at the next tenant of the name.
#[actix_web::test]
async fn the_next_tenant_of_the_name_is_not_erased_for_the_one_before() {
    let app = TestApp::shared().await;
    let dir = Dir::new();
    let acme = app.tenant("before").await;
    let slug = acme.slug.as_str();
    let file = dir.path().join("certificate.json");
    let erase = |name| ["tenant", "erase", name, "--certificate", file.to_str().unwrap(), "--yes"];
    dies(app, &erase(slug), "registry", false).await;
    let next = run(app, &["tenant", "create", slug, "--output", "json"]).await.expect(0).json();
    let next = next["id"].as_str().unwrap();
    let id = acme.id.to_string();
    let refused = run(app, &erase(slug)).await.expect(4);
    assert!(refused.stderr.contains(&id) && refused.stderr.contains(next), "{refused:?}");
    let rows = format!("SELECT id || ' ' || status AS word FROM tenants WHERE slug = '{slug}'");
    assert_eq!(db::words(app.control_database(), &rows).await, [format!("{next} active")]);
    run(app, &erase(&id)).await.expect(0);
    assert_eq!(read(&file)["certificate"]["tenant"], json!(acme.id));
    assert_eq!(db::words(app.control_database(), &rows).await, [format!("{next} active")]);
    // Now the name stands for one alone.
    fs::remove_file(&file).unwrap();
    run(app, &erase(slug)).await.expect(0);
    assert_eq!(read(&file)["certificate"]["tenant"], json!(next));
}

/// An erasure that was taken back before a worker came to it has begun nothing: the tenant is as it was.
#[actix_web::test]
async fn an_erasure_that_was_taken_back_in_time_is_in_nobodys_way() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("spared").await;
    let (operator, slug) = (app.operator(), acme.slug.as_str());
    let path = format!("/api/v1/admin/tenants/{}", acme.id);
    let job = operator.post(&format!("{path}/erase"), json!({})).await.expect(202);
    let job = job.data()["id"].as_str().unwrap().to_owned();
    operator.post(&format!("/api/v1/admin/jobs/{job}/cancel"), json!({})).await.ok();
    backup(&app, slug).await;
    operator.delete(&path).await.expect(204);
    operator.post(&format!("{path}/restore"), json!({})).await.ok();
    acme.admin().get("/api/v1/users/me").await.expect(200);
    run(&app, &["tenant", "delete", slug, "--yes"]).await.expect(0);
}

/// Asked for again over REST, an erasure that failed or was cancelled goes on: what it had found before is certified.
#[actix_web::test]
async fn an_erasure_that_failed_is_gone_on_with_over_rest() {
    let app = TestApp::builder().start().await;
    for state in ["failed", "cancelled"] {
        is_gone_on_with(&app, state).await;
    }
}

async fn is_gone_on_with(app: &TestApp, state: &str) {
    let acme = app.tenant("failed").await;
    let slug = acme.slug.as_str();
    backup(app, slug).await;
    let file = Dir::new();
    let path = file.path().join("certificate.json");
    dies(app, &["tenant", "erase", slug, "--certificate", path.to_str().unwrap(), "--yes"], "backups", false).await;
    let failed = format!(
        "UPDATE operations SET state = '{state}', finished_at = now() WHERE kind = 'erase' AND tenant_id = '{}'",
        acme.id
    );
    db::execute(app.control_database(), &failed).await;
    let (operator, worker) = (app.operator(), app.fleet());
    let job = operator.post(&format!("/api/v1/admin/tenants/{}/erase", acme.id), json!({})).await.expect(202);
    let job = format!("/api/v1/admin/jobs/{}", job.data()["id"].as_str().unwrap());
    eventually(seconds(20), "it is erased", async || {
        worker.work().await.expect("the control plane answers");
        operator.get(&job).await.expect(200).data()["state"] == "done"
    })
    .await;
    let certificate = operator.get(&job).await.expect(200).data()["result"]["certificate"].clone();
    assert_eq!(certificate["backups"].as_array().unwrap().len(), 1, "{certificate}");
    assert_eq!(certificate["databases"].as_array().unwrap().len(), 1, "{certificate}");
}
