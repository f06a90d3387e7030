//! An export holds all rows of all tables, and of this tenant alone.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tenantry::testing::TestApp;

use super::scene::{backup, dies};
use crate::support::binary::run;
use crate::support::db;
use crate::support::dir::Dir;

/// A policy that the tenant's role has put upon itself hides rows: none is left out in silence.
#[actix_web::test]
async fn no_policy_makes_half_an_export_or_half_a_backup() {
    let app = TestApp::shared().await;
    let acme = app.tenant("policed").await;
    let slug = acme.slug.as_str();
    let role = acme.role();
    let ledger = format!(
        "SET ROLE {role}; CREATE TABLE ledger (id int PRIMARY KEY); INSERT INTO ledger SELECT generate_series(1, 10); \
         ALTER TABLE ledger ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY half ON ledger USING (id <= 5)"
    );
    db::execute(acme.database(), &ledger).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    let arguments = ["tenant", "export", slug, "--to", to.to_str().unwrap()];
    for arguments in [&arguments[..], &["tenant", "backup", slug]] {
        let said = run(app, arguments).await.expect(4);
        for word in ["public.ledger", "NO FORCE ROW LEVEL SECURITY"] {
            assert!(said.stderr.contains(word), "{word}: {said:?}");
        }
    }
    assert!(!to.join("manifest.json").exists(), "nothing that looks whole");
    // A policy for others takes nothing away from the owner.
    db::execute(acme.database(), "ALTER TABLE ledger NO FORCE ROW LEVEL SECURITY").await;
    run(app, &arguments).await.expect(0);
    assert_eq!(fs::read_to_string(to.join("ledger.ndjson")).unwrap().lines().count(), 10);
    backup(app, slug).await;
}

/// What an interrupted export has written is neither another tenant's nor outlives what it was written of.
#[actix_web::test]
async fn what_an_interrupted_export_left_is_nobody_else_s() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("left").await, app.tenant("other").await);
    let plans = format!("SET ROLE {}; CREATE TABLE plans (plan text); INSERT INTO plans VALUES ('x')", acme.role());
    db::execute(acme.database(), &plans).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    let of = |slug: &str| ["tenant", "export", slug, "--to", to.to_str().unwrap()].map(str::to_owned);
    let (acmes, globexs) = (of(acme.slug.as_str()), of(globex.slug.as_str()));
    let (acmes, globexs) = (acmes.each_ref().map(String::as_str), globexs.each_ref().map(String::as_str));
    for step in ["directory", "tables"] {
        dies(app, &acmes, step, false).await;
        let said = run(app, &globexs).await.expect(4);
        assert!(said.stderr.contains("another tenant"), "{step}: {said:?}");
    }
    assert!(to.join("plans.csv").exists(), "the other's is left alone");
    // Another operation of its own goes on there; a table that is no more leaves no file.
    db::execute(acme.database(), "DROP TABLE plans").await;
    backup_ends_the_export(app, acme.slug.as_str()).await;
    run(app, &acmes).await.expect(0);
    for gone in ["plans.csv", "plans.ndjson", ".unfinished-export"] {
        assert!(!to.join(gone).exists(), "{gone}");
    }
    assert!(to.join("manifest.json").exists());
}

/// The operation that was interrupted is not gone on with any more.
async fn backup_ends_the_export(app: &TestApp, slug: &str) {
    let end = format!(
        "UPDATE operations SET state = 'failed', finished_at = now() WHERE slug = '{slug}' AND kind = 'export'"
    );
    db::execute(app.control_database(), &end).await;
    backup(app, slug).await;
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everybody on the machine may look into its directories; not into a customer's data.
#[actix_web::test]
async fn an_export_is_read_by_whoever_made_it_alone() {
    let app = TestApp::shared().await;
    let acme = app.tenant("private").await;
    let dir = Dir::new();
    let (made, there) = (dir.path().join("new").join("export"), dir.path().join("there"));
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o755)).unwrap();
    for to in [&made, &there] {
        run(app, &["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()]).await.expect(0);
        let files: Vec<_> = fs::read_dir(to).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{file:?}");
        }
    }
    assert_eq!((mode(&made), mode(made.parent().unwrap())), (0o700, 0o700));
    assert_eq!(mode(&there), 0o755, "whoever made it decides on it");
}

/// What an operator calls his tables may be alike in the name of a file, and on file systems that do not tell `A` from `a`.
#[actix_web::test]
async fn each_table_has_files_of_its_own() {
    const TABLES: [(&str, &str); 7] = [
        ("public", "a.b"),
        ("a", "b"),
        ("public", "x/y"),
        ("public", "x_y"),
        ("public", "Led"),
        ("public", "led"),
        ("public", ".."),
    ];
    let app = TestApp::shared().await;
    let acme = app.tenant("alike").await;
    let schema = format!("CREATE SCHEMA a AUTHORIZATION {0}; SET ROLE {0}", acme.role());
    let tables = TABLES.map(|(schema, name)| {
        let table = format!("\"{schema}\".\"{name}\"");
        format!("CREATE TABLE {table} (word text); INSERT INTO {table} VALUES ('{schema}.{name}')")
    });
    db::execute(acme.database(), &format!("{schema}; {}", tables.join("; "))).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    run(app, &["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()]).await.expect(0);
    let manifest: Value = serde_json::from_str(&fs::read_to_string(to.join("manifest.json")).unwrap()).unwrap();
    let mut names = HashSet::new();
    for (schema, name) in TABLES {
        let table = format!("{schema}.{name}");
        let listed = manifest["tables"].as_array().unwrap().iter().find(|one| one["table"] == table.as_str());
        let csv = listed.unwrap()["files"][1]["name"].as_str().unwrap();
        assert_eq!(fs::read_to_string(to.join(csv)).unwrap(), format!("word\r\n{table}\r\n"), "{csv}");
        assert!(names.insert(csv.to_lowercase()), "{csv}");
    }
    for name in ["a%2Eb.csv", "a.b.csv", "x%2Fy.csv", "x_y.csv", "led.csv", "led~2.csv", "%2E%2E.csv"] {
        assert!(names.contains(&name.to_lowercase()), "{name}: {names:?}");
    }
}

/// However many are fetched at a time, each row is there once.
#[actix_web::test]
async fn long_rows_among_short_ones_are_all_there() {
    let app = TestApp::shared().await;
    let acme = app.tenant("long").await;
    let papers = format!(
        "SET ROLE {}; CREATE TABLE papers (id int PRIMARY KEY, body text); \
         INSERT INTO papers SELECT n, repeat('x', CASE WHEN n BETWEEN 601 AND 620 THEN 1500000 ELSE 10 END) \
         FROM generate_series(1, 1300) n",
        acme.role()
    );
    db::execute(acme.database(), &papers).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    run(app, &["tenant", "export", acme.slug.as_str(), "--to", to.to_str().unwrap()]).await.expect(0);
    let lines = fs::read_to_string(to.join("papers.ndjson")).unwrap();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        rows.iter().map(|row| (row["id"].as_u64().unwrap(), row["body"].as_str().unwrap().len())).collect();
    let expected: Vec<_> = (1..=1300).map(|id| (id, if (601..=620).contains(&id) { 1_500_000 } else { 10 })).collect();
    assert!(told == expected, "{} rows", told.len());
    assert_eq!(fs::read_to_string(to.join("papers.csv")).unwrap().lines().count(), 1301);
}
