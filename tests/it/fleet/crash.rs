//! `kill -9` at any step: the same command again makes one active tenant, or `delete` leaves nothing.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;
use tenantry::fleet::provision::CREATE;
use tenantry::testing::TestApp;

use super::scene::dies;
use crate::support::binary::{program, run};
use crate::support::{db, unique};

/// Runs `tenant create` and lets it die after a step, before or after the journal has it.
async fn crash(app: &TestApp, slug: &str, step: &str, before_journal: bool) {
    let email = format!("admin@{slug}.test");
    let mut arguments = vec!["tenant", "create", slug, "--admin-email", &email, "--halt-after", step];
    if before_journal {
        arguments.push("--halt-before-journal");
    }
    let output = program(&app.environment(), &arguments).output().await.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_some(), "{step}: it was to die: {:?} {said}", output.status);
}

/// What the server and the registry hold of a tenant that was ever begun under this slug.
async fn traces(app: &TestApp, slug: &str) -> (Vec<String>, Vec<String>) {
    let ids = format!(
        "SELECT DISTINCT 't_' || replace(tenant_id::text, '-', '') AS word FROM operations WHERE slug = '{slug}'"
    );
    let names = db::words(app.control_database(), &ids).await;
    let rows = format!("SELECT status AS word FROM tenants WHERE slug = '{slug}'");
    let rows = db::words(app.control_database(), &rows).await;
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    if names.is_empty() {
        return (rows, Vec::new());
    }
    let names = names.join(", ");
    let there = format!(
        "SELECT 'database ' || datname AS word FROM pg_database WHERE datname IN ({names}) \
         UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname IN ({names}) ORDER BY 1"
    );
    (rows, db::words(&app.server(), &there).await)
}

#[actix_web::test]
async fn after_a_crash_at_any_step_the_same_command_resumes() {
    let app = TestApp::shared().await;
    for step in CREATE {
        for before_journal in [false, true] {
            let slug = unique("crash");
            crash(app, &slug, step.as_str(), before_journal).await;
            let email = format!("admin@{slug}.test");
            let arguments = ["tenant", "create", &slug, "--admin-email", &email, "--output", "json"];
            let again = run(app, &arguments).await;
            // The last step may have been done, and journaled: then there is nothing to resume, and the slug is taken.
            let finished = *step == tenantry::fleet::provision::Step::Activate && !before_journal;
            if finished && again.code == Some(4) {
                let (rows, _) = traces(app, &slug).await;
                assert_eq!(rows, ["active"], "{step}");
                continue;
            }
            let made = again.expect(0).json();
            let (rows, there) = traces(app, &slug).await;
            assert_eq!((rows.len(), there.len()), (1, 2), "{step}: {rows:?} {there:?}");
            assert_eq!((&made["status"], &made["slug"]), (&json!("active"), &json!(slug)), "{step}");
            let body = json!({"tenant": slug, "email": email, "password": made["adminPassword"]});
            app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
        }
    }
}

/// It would be made as nobody asked for: elsewhere, or without its administrator.
#[actix_web::test]
async fn another_command_does_not_go_on_with_what_was_begun() {
    let app = TestApp::builder().start().await;
    app.cluster("eu-1", &app.server()).await;
    run(&app, &["cluster", "set", "eu-1", "--region", "eu"]).await.expect(0);
    let slug = unique("begun");
    let email = format!("admin@{slug}.test");
    let create = ["tenant", "create", &slug, "--admin-email", &email, "--output", "json"];
    let same = [&create[..], &["--region", "eu"]].concat();
    dies(&app, &same, "role", false).await;
    let named = format!("name is '{slug}', not 'Other'");
    for (flag, value, said) in [
        ("--region", "us", "region is 'eu', not 'us'"),
        ("--cluster", "local", "cluster is 'eu-1', not 'local'"),
        ("--plan", "gold", "plan is none, not 'gold'"),
        ("--name", "Other", named.as_str()),
        ("--registration", "open", "registration is 'invite', not 'open'"),
        ("--max-connections", "7", "ceiling of connections is none, not '7'"),
    ] {
        let refused = run(&app, &[&create[..], &[flag, value]].concat()).await.expect(4);
        assert!(refused.stderr.contains(said), "{flag}: {refused:#?}");
    }
    let operator = app.operator();
    for no_wait in [true, false] {
        let mut body = json!({"slug": slug, "region": "us", "noWait": no_wait});
        if !no_wait {
            body["adminEmail"] = json!(email);
        }
        let refused = operator.post("/api/v1/admin/tenants", body).await.refused(409, "conflict");
        assert!(refused.text.contains("region is 'eu', not 'us'"), "{refused:?}");
    }
    let alone = run(&app, &["tenant", "create", &slug, "--region", "eu"]).await.expect(4);
    assert!(alone.stderr.contains("Give the administrator again"), "{alone:#?}");
    let (rows, _) = traces(&app, &slug).await;
    assert_eq!(rows, ["provisioning"]);

    let made = run(&app, &same).await.expect(0).json();
    assert_eq!((&made["cluster"], &made["status"]), (&json!("eu-1"), &json!("active")));
    let body = json!({"tenant": slug, "email": email, "password": made["adminPassword"]});
    app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
}

#[actix_web::test]
async fn after_a_crash_at_any_step_a_delete_leaves_nothing() {
    let app = TestApp::shared().await;
    for step in CREATE {
        let slug = unique("undo");
        crash(app, &slug, step.as_str(), true).await;
        run(app, &["tenant", "delete", &slug, "--now", "--yes"]).await.expect(0);
        let (rows, there) = traces(app, &slug).await;
        assert!(rows.is_empty() && there.is_empty(), "{step}: {rows:?} {there:?}");
    }
}

/// What was begun is unroutable: a login says that it is not ready, and nothing else knows of it.
#[actix_web::test]
async fn a_half_made_tenant_is_not_there() {
    let app = TestApp::shared().await;
    let slug = unique("half");
    crash(app, &slug, "verify", false).await;
    let body = json!({"tenant": slug, "email": format!("admin@{slug}.test"), "password": "whatever it was"});
    app.anonymous().post("/api/v1/auth/login", body).await.refused(503, "tenant_unavailable");
    app.anonymous().get(&format!("/t/{slug}/.well-known/jwks.json")).await.expect(404);
}
