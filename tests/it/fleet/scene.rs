//! What the tests of backups and copies begin with.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};
use tenantry::router::Target;
use tenantry::testing::{Tenant, TestApp};

use crate::support::binary::{program, run};
use crate::support::db;

/// The database that a tenant lives in now, as the server's superuser.
pub(super) async fn lives_in(app: &TestApp, slug: &str) -> Target {
    let name = format!("SELECT database_name AS word FROM tenants WHERE slug = '{slug}'");
    let name = db::word(app.control_database(), &name).await;
    app.server().with_database(name)
}

pub(super) async fn backup(app: &TestApp, slug: &str) -> Value {
    let made = run(app, &["tenant", "backup", slug, "--output", "json"]).await.expect(0).json();
    assert_eq!((&made["state"], &made["slug"]), (&json!("done"), &json!(slug)));
    made
}

/// Runs a command that dies after a step, before or after the journal has it.
pub(super) async fn dies(app: &TestApp, arguments: &[&str], step: &str, before_journal: bool) {
    let mut arguments = [arguments, &["--halt-after", step]].concat();
    if before_journal {
        arguments.push("--halt-before-journal");
    }
    let output = program(&app.environment(), &arguments).output().await.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_some(), "{step}: it was to die: {:?} {said}", output.status);
}

pub(super) async fn with_people_and_contacts(app: &TestApp) -> Tenant {
    let acme = app.tenant("kept").await;
    let admin = acme.admin();
    acme.user().get("/api/v1/users/me").await.expect(200);
    for name in ["Ada", "Ünïcode 🦀", "O'Hara; DROP TABLE contacts"] {
        admin.contact(name).await;
    }
    acme
}
