//! What has ended goes after a while, and what was given up leaves nothing behind.

use std::fs;
use std::path::Path;

use serde_json::json;
use tenantry::testing::{Tenant, TestApp};

use super::scene::dies;
use crate::support::binary::run;
use crate::support::{db, unique};

/// Of these operations, who is still there after a sweep.
#[actix_web::test]
async fn operations_go_after_ninety_days_but_for_what_is_looked_back_to() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let beta = app.tenant("beta").await;
    let control = app.control_database();
    let long_ago = format!(
        "UPDATE operations SET started_at = now() - interval '500 days', finished_at = now() - interval '500 days' \
         WHERE slug = '{}'",
        beta.slug
    );
    db::execute(control, &long_ago).await;
    // The tenant's own making ended just now.
    let rows = [
        ("done long ago", "backup", "done", 91, "", "{}"),
        ("done a while ago", "backup", "done", 89, "", "{}"),
        ("certificate", "erase", "done", 400, "", "{}"),
        ("run before", "migrate", "done", 300, "", "{}"),
        ("latest run", "migrate", "failed", 200, "", "{}"),
        ("failed of a tenant", "move", "failed", 120, "acme", "{}"),
        ("failed before", "move", "cancelled", 130, "acme", "{}"),
        ("failed before the last", "restore", "failed", 150, "beta", "{}"),
        ("last of a tenant", "backup", "done", 140, "beta", "{}"),
        ("taken back", "clone", "undone", 100, "acme", "{}"),
        ("failed of nobody", "restore", "failed", 100, "gone", "{}"),
        ("left a copy", "move", "done", 100, "gone", "{}"),
        ("part of what goes on", "rotate_credentials", "done", 95, "gone", "{\"partOf\": \"WHOLE\"}"),
        ("part of what ended", "rotate_credentials", "done", 95, "gone", "{\"partOf\": \"nothing\"}"),
    ];
    let whole = "INSERT INTO operations (id, kind, state, input, started_at) \
                 VALUES ('00000000-0000-7000-8000-000000000000', 'drain', 'running', '{}', now() - interval '1 year')";
    db::execute(control, whole).await;
    for (at, (name, kind, state, days, of, input)) in rows.into_iter().enumerate() {
        let (tenant, slug) = match of {
            "acme" => (format!("'{}'", acme.id), format!("'{}'", acme.slug)),
            "beta" => (format!("'{}'", beta.id), format!("'{}'", beta.slug)),
            "gone" => (format!("'00000000-0000-7000-8000-{at:012}'"), "'gone'".to_owned()),
            _ => ("NULL".to_owned(), "NULL".to_owned()),
        };
        let input = input.replace("WHOLE", "00000000-0000-7000-8000-000000000000");
        // The ids rise with time, as those of real ones do.
        let id = format!("{:08}-0000-7000-8000-{at:012}", 1000 - days);
        let row = format!(
            "INSERT INTO operations (id, tenant_id, slug, kind, state, input, error, started_at, finished_at) VALUES \
             ('{id}', {tenant}, {slug}, '{kind}', '{state}', '{input}', '{name}', now() - interval '401 days', \
              now() - interval '{days} days'); \
             INSERT INTO operation_steps (operation_id, position, name, state) VALUES ('{id}', 0, 'a step', 'done')"
        );
        db::execute(control, &row).await;
    }
    let copy = "INSERT INTO kept_databases (id, tenant_id, cluster_id, database_name, left_by, purge_after) \
                SELECT o.id, o.tenant_id, c.id, 'a', 'move', now() + interval '1 day' FROM operations o, clusters c WHERE error = 'left a copy'";
    db::execute(control, copy).await;
    assert_eq!(app.fleet().sweep_operations().await.unwrap(), 7);
    assert_eq!(app.fleet().sweep_operations().await.unwrap(), 0);
    let left = "SELECT error AS word FROM operations WHERE error IS NOT NULL ORDER BY 1";
    let stays = [
        "certificate",
        "done a while ago",
        "failed before the last",
        "failed of a tenant",
        "last of a tenant",
        "latest run",
        "left a copy",
        "part of what goes on",
    ];
    assert_eq!(db::words(control, left).await, stays);
    let steps = "SELECT count(*)::text AS word FROM operation_steps WHERE name = 'a step'";
    assert_eq!(db::word(control, steps).await, stays.len().to_string());
    // What failed and was not gone on with is in nobody's way.
    let slug = beta.slug.as_str();
    run(&app, &["tenant", "delete", slug, "--yes"]).await.expect(0);
    db::execute(control, "DELETE FROM operations WHERE error = 'last of a tenant'").await;
    run(&app, &["tenant", "restore", slug]).await.expect(0);
}

/// During an upgrade, newer nodes begin what older ones do not know.
#[actix_web::test]
async fn what_only_a_newer_program_knows_is_left_to_it() {
    let app = TestApp::builder().start().await;
    let newer = "ALTER TABLE operations DROP CONSTRAINT operations_kind; \
                 INSERT INTO operations (id, kind, state, background) \
                 VALUES (gen_random_uuid(), 'from the future', 'queued', true)";
    db::execute(app.control_database(), newer).await;
    assert_eq!(app.fleet().work().await.unwrap(), 0);
    let listed = app.operator().get("/api/v1/admin/jobs").await.expect(200);
    assert_eq!(listed.data(), &json!([]));
}

/// Objects of a tenant in the storage.
fn stored(app: &TestApp, tenant: &Tenant) -> usize {
    fn count(folder: &Path) -> usize {
        let Ok(entries) = fs::read_dir(folder) else { return 0 };
        entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&app.storage().join("backups").join(tenant.id.to_string()))
}

async fn age(app: &TestApp, slug: &str) {
    let age = format!(
        "UPDATE operations SET started_at = started_at - interval '2 hours', \
         finished_at = finished_at - interval '2 hours' WHERE slug = '{slug}'"
    );
    db::execute(app.control_database(), &age).await;
}

#[actix_web::test]
async fn a_backup_that_nobody_makes_any_more_is_not_listed() {
    let app = TestApp::shared().await;
    let fleet = app.fleet();
    let failed = "UPDATE operations SET state = 'failed', finished_at = now() WHERE kind = 'backup' AND slug = ";
    for why in ["its maker died", "its job failed"] {
        let acme = app.tenant("abandoned").await;
        let slug = acme.slug.as_str();
        dies(app, &["tenant", "backup", slug], "dump", false).await;
        if why == "its job failed" {
            db::execute(app.control_database(), &format!("{failed}'{slug}'")).await;
        }
        let listed = async || fleet.backups(slug).await.unwrap().len();
        fleet.sweep_left_behind().await.unwrap();
        assert_eq!((listed().await, stored(app, &acme)), (1, 1), "{why}: somebody may go on with it");
        age(app, slug).await;
        fleet.sweep_left_behind().await.unwrap();
        assert_eq!((listed().await, stored(app, &acme)), (0, 0), "{why}");
        // The same command begins a new one.
        let made = run(app, &["tenant", "backup", slug, "--output", "json"]).await.expect(0).json();
        age(app, slug).await;
        fleet.sweep_left_behind().await.unwrap();
        assert_eq!((&made["state"], listed().await), (&json!("done"), 1), "{why}");
    }
}

#[actix_web::test]
async fn a_clone_that_is_given_up_leaves_no_dump() {
    let app = TestApp::shared().await;
    let (acme, fleet) = (app.tenant("cloned").await, app.fleet());
    acme.admin().contact("Dolly").await;
    // Taken back.
    let gone = unique("clone");
    dies(app, &["tenant", "clone", acme.slug.as_str(), &gone], "dump", false).await;
    assert_eq!(stored(app, &acme), 2);
    fleet.sweep_left_behind().await.unwrap();
    assert_eq!(stored(app, &acme), 2, "somebody may go on with it");
    run(app, &["tenant", "delete", &gone, "--now", "--yes"]).await.expect(0);
    fleet.sweep_left_behind().await.unwrap();
    assert_eq!(stored(app, &acme), 0);
    // Left alone; whoever comes back after all takes a new dump.
    let late = unique("clone");
    let again = ["tenant", "clone", acme.slug.as_str(), &late];
    dies(app, &again, "load", false).await;
    age(app, &late).await;
    fleet.sweep_left_behind().await.unwrap();
    assert_eq!(stored(app, &acme), 0);
    acme.admin().contact("Later").await;
    run(app, &again).await.expect(0);
    let there = super::scene::lives_in(app, &late).await;
    assert_eq!(db::word(&there, "SELECT count(*)::text AS word FROM contacts").await, "2");
    assert_eq!(stored(app, &acme), 0);
}
