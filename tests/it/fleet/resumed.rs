//! What was interrupted and is gone on with says what was so when it was done, not what is so by now.

use std::fs;

use serde_json::{Value, json};
use tenantry::control::backups;
use tenantry::error::ApiError;
use tenantry::kernel::TenantId;
use tenantry::kernel::chunks::Opener;
use tenantry::router::MainConn;
use tenantry::testing::TestApp;

use super::scene::{backup, dies};
use crate::support::binary::run;
use crate::support::db;
use crate::support::dir::Dir;

/// What a backup says of itself.
async fn manifest(app: &TestApp, tenant: TenantId, id: &str) -> Value {
    let control = app.control();
    let keys = control.keys.clone();
    let key = control.db.read(async move |conn: &mut MainConn| -> Result<_, ApiError> {
        backups::ensure_key(conn, &keys, tenant).await
    });
    let mut opener = Opener::new(&key.await.expect("its key"), &format!("backup {id} of tenant {tenant}: manifest"));
    let path = app.storage().join("backups").join(tenant.to_string()).join(id).join("manifest");
    let (sealed, mut plain) = (fs::read(path).expect("a manifest"), Vec::new());
    opener.push(&sealed, &mut plain).expect("authentic");
    opener.finish(&mut plain).expect("whole");
    serde_json::from_slice(&plain).expect("JSON")
}

/// A migration between the dump and its manifest changes nothing about the dump.
#[actix_web::test]
async fn a_backup_is_of_the_schema_that_was_dumped() {
    let app = TestApp::shared().await;
    let acme = app.tenant("dumped").await;
    let slug = acme.slug.as_str();
    let version = format!("SELECT schema_version::text AS word FROM tenants WHERE id = '{}'", acme.id);
    let dumped: i32 = db::word(app.control_database(), &version).await.parse().expect("a version");
    dies(app, &["tenant", "backup", slug], "dump", false).await;
    let at = |version: i32| format!("UPDATE tenants SET schema_version = {version} WHERE id = '{}'", acme.id);
    db::execute(app.control_database(), &at(dumped - 1)).await;
    let made = backup(app, slug).await;
    db::execute(app.control_database(), &at(dumped)).await;
    let said = manifest(app, acme.id, made["id"].as_str().expect("an id")).await;
    assert_eq!(said["schemaVersion"], json!(dumped), "{said}");
}

/// After one between its reservation and its dump, both name the later version.
#[actix_web::test]
async fn a_backup_is_listed_with_the_schema_of_its_manifest() {
    let app = TestApp::shared().await;
    let acme = app.tenant("listed").await;
    let (slug, control) = (acme.slug.as_str(), app.control_database());
    let version = format!("SELECT schema_version::text AS word FROM tenants WHERE id = '{}'", acme.id);
    let dumped: i32 = db::word(control, &version).await.parse().expect("a version");
    let at = |version: i32| format!("UPDATE tenants SET schema_version = {version} WHERE id = '{}'", acme.id);
    db::execute(control, &at(dumped - 1)).await;
    dies(app, &["tenant", "backup", slug], "reserve", false).await;
    db::execute(control, &at(dumped)).await;
    let made = backup(app, slug).await;
    let id = made["id"].as_str().expect("an id");
    assert_eq!(manifest(app, acme.id, id).await["schemaVersion"], json!(dumped));
    let listed = format!("SELECT schema_version::text AS word FROM backups WHERE id = '{id}'");
    assert_eq!(db::word(control, &listed).await, dumped.to_string());
}

/// What an erasure had removed when it died is certified by the one that goes on.
#[actix_web::test]
async fn an_erasure_certifies_what_was_removed_before_it_was_interrupted() {
    let (app, dir) = (TestApp::shared().await, Dir::new());
    let acme = app.tenant("counted").await;
    let slug = acme.slug.as_str();
    backup(app, slug).await;
    let file = dir.path().join("certificate.json");
    let erase = ["tenant", "erase", slug, "--certificate", file.to_str().expect("text"), "--yes", "--output", "json"];
    dies(app, &erase, "backups", true).await;
    assert!(!app.storage().join("backups").join(acme.id.to_string()).exists(), "they were removed");
    let said = run(app, &erase).await.expect(0).json();
    assert_eq!(said["certificate"]["objects"], 2, "{said}");
}
