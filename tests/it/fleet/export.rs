//! An export holds everything of the customer's in forms that anybody reads, and no secret.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tenantry::fleet::export::Step;
use tenantry::fleet::export::columns::{MEMORY, OPEN, SECRET, looks_secret};
use tenantry::kernel::crypto::sha256;
use tenantry::testing::TestApp;

use super::scene::{dies, with_people_and_contacts};
use crate::support::binary::run;
use crate::support::db;
use crate::support::dir::Dir;

/// A table of the operator's own.
const VAULTS: &str = "CREATE TABLE vaults (id int PRIMARY KEY, label text, api_key text, amount numeric, made date); \
    INSERT INTO vaults VALUES (1, '@sum', 'top-secret-key', 1.10, '2026-02-01'), (2, NULL, 'another', NULL, NULL); \
    INSERT INTO vaults SELECT n, 'row ' || n, 'k', n, now() FROM generate_series(3, 1200) n";

/// Reads an export, and makes sure that every file is what the manifest says.
fn whole(directory: &Path) -> Value {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(directory.join("manifest.json")).unwrap()).unwrap();
    let mut files = vec!["manifest.json".to_owned()];
    for table in manifest["tables"].as_array().unwrap() {
        for file in table["files"].as_array().unwrap() {
            let name = file["name"].as_str().unwrap();
            let bytes = fs::read(directory.join(name)).unwrap();
            let digest: String = sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((&json!(digest), &json!(bytes.len())), (&file["sha256"], &file["bytes"]), "{name}");
            files.push(name.to_owned());
        }
    }
    let mut there: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    there.sort();
    assert_eq!(there, files, "and nothing else");
    manifest
}

#[actix_web::test]
async fn everything_but_secrets_in_both_forms() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let body =
        json!({"lastName": "=HYPERLINK(\"http://evil\")", "company": "+49 30", "notes": "two\nlines, \"quoted\""});
    acme.admin().post("/api/v1/contacts", body).await.expect(201);
    db::execute(acme.database(), &format!("SET ROLE {}; {}", acme.role(), VAULTS)).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    let arguments = ["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap(), "--output", "json"];
    run(app, &arguments).await.expect(0);
    let manifest = whole(&to);
    assert_eq!((&manifest["tenant"], &manifest["slug"]), (&json!(acme.id), &json!(acme.slug)));
    let left_out: Vec<_> = manifest["leftOut"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut expected = [SECRET, MEMORY, &["public.vaults.api_key"]].concat();
    expected.sort_unstable();
    assert_eq!(left_out, expected);
    let contacts = fs::read_to_string(to.join("contacts.ndjson")).unwrap();
    let rows: Vec<Value> = contacts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().any(|row| row["last_name"] == "=HYPERLINK(\"http://evil\")" && row["company"] == "+49 30"));
    let mut reader = csv::Reader::from_path(to.join("contacts.csv")).unwrap();
    let at = reader.headers().unwrap().iter().position(|name| name == "last_name").unwrap();
    let names: Vec<_> = reader.records().map(|row| row.unwrap()[at].to_owned()).collect();
    assert!(names.contains(&"'=HYPERLINK(\"http://evil\")".to_owned()) && names.contains(&"Ünïcode 🦀".to_owned()));
    let vaults = fs::read_to_string(to.join("vaults.csv")).unwrap();
    assert!(vaults.starts_with("id,label,amount,made\r\n1,'@sum,1.10,2026-02-01\r\n2,,,\r\n"), "{vaults:.200}");
    assert_eq!(vaults.lines().count(), 1201);
    // No secret stands anywhere, by its value.
    let hashes = "SELECT password_hash AS word FROM users UNION ALL SELECT encode(hash, 'hex') FROM refresh_tokens";
    let mut secrets = db::words(acme.database(), hashes).await;
    secrets.push("top-secret-key".into());
    assert!(secrets.len() > 3);
    for entry in fs::read_dir(&to).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())));
    }
    // Nothing is written over.
    run(app, &arguments).await.expect(4);
}

/// A new column that looks like a secret has to be called one, or open.
#[actix_web::test]
async fn no_secret_of_the_built_in_schema_is_forgotten() {
    let app = TestApp::shared().await;
    let acme = app.tenant("columns").await;
    let columns = "SELECT 'public.' || table_name || '.' || column_name || ' ' || data_type AS word \
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1";
    let columns = db::words(acme.database(), columns).await;
    let named: Vec<_> = columns.iter().filter_map(|column| column.split_once(' ')).collect();
    for (column, kind) in &named {
        let (table, name) = column.rsplit_once('.').unwrap();
        let decided = SECRET.contains(column) || OPEN.contains(column) || MEMORY.contains(&table);
        assert!(
            decided || (!looks_secret(name) && *kind != "bytea"),
            "is {column} a secret? Say so in export/columns.rs"
        );
    }
    for known in SECRET.iter().chain(OPEN) {
        assert!(named.iter().any(|(column, _)| column == known), "{known} is no column any more");
    }
}

#[actix_web::test]
async fn after_a_crash_at_any_step_an_export_is_whole() {
    let app = TestApp::shared().await;
    let acme = app.tenant("exported").await;
    acme.admin().contact("One").await;
    for step in Step::ALL {
        for before_journal in [false, true] {
            let dir = Dir::new();
            let to = dir.path().join("export");
            let arguments = ["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()];
            dies(app, &arguments, step.as_str(), before_journal).await;
            let again = run(app, &arguments).await;
            // The last step may have been done: then the directory holds a whole one.
            if *step == Step::Manifest && !before_journal && again.code == Some(4) {
                whole(&to);
                continue;
            }
            again.expect(0);
            assert_eq!(fs::read_to_string(to.join("contacts.ndjson")).unwrap().lines().count(), 1);
            whole(&to);
        }
    }
}

/// The journal does not vouch for a directory: what became of it since is written anew, and what is a stranger's stays.
#[actix_web::test]
async fn a_directory_that_was_removed_or_emptied_is_whole_in_the_end() {
    let app = TestApp::shared().await;
    let acme = app.tenant("removed").await;
    acme.admin().contact("One").await;
    for (step, before_journal) in [("directory", false), ("tables", false), ("manifest", true), ("manifest", false)] {
        for emptied in [false, true] {
            let dir = Dir::new();
            let to = dir.path().join("export");
            let arguments = ["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()];
            dies(app, &arguments, step, before_journal).await;
            fs::remove_dir_all(&to).unwrap();
            if emptied {
                fs::create_dir(&to).unwrap();
            }
            run(app, &arguments).await.expect(0);
            whole(&to);
            assert_eq!(fs::read_to_string(to.join("contacts.ndjson")).unwrap().lines().count(), 1, "{step}");
        }
    }
    let dir = Dir::new();
    let to = dir.path().join("export");
    let arguments = ["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()];
    dies(app, &arguments, "tables", false).await;
    fs::remove_dir_all(&to).unwrap();
    fs::create_dir(&to).unwrap();
    for name in ["manifest.json", "contacts.csv"] {
        fs::write(to.join(name), "a stranger's").unwrap();
    }
    let said = run(app, &arguments).await.expect(4);
    assert!(said.stderr.contains("not empty"), "{said:?}");
    for name in ["manifest.json", "contacts.csv"] {
        assert_eq!(fs::read_to_string(to.join(name)).unwrap(), "a stranger's");
    }
}
