//! Databases that moves and restores leave behind: shown in one place, swept by one sweep.

use std::fs;
use std::path::Path;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::testing::{TestApp, TestCluster};

use crate::support::binary::run;
use crate::support::db;
use crate::support::servers::Server;

async fn listed(app: &TestApp, tenant: &str) -> Vec<Value> {
    let said = run(app, &["tenant", "kept", tenant, "--output", "json"]).await.expect(0).json();
    let path = format!("/api/v1/admin/kept-databases?tenant={tenant}");
    let answer = app.operator().get(&path).await.expect(200);
    assert_eq!(answer.data(), &said, "the same over REST");
    said.as_array().cloned().expect("a list")
}

#[actix_web::test]
async fn what_moves_and_restores_leave_is_shown_and_dropped_alike() {
    let (app, server) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("east", &server.target()).await;
    let tenant = app.tenant_on("east", "kept").await;
    let slug = tenant.slug.as_str();
    let id = tenant.admin().contact("Faithful").await;
    let backup = run(&app, &["tenant", "backup", slug, "--output", "json"]).await.expect(0).json();
    let restore = ["tenant", "restore", slug, "--backup", backup["id"].as_str().expect("an id")];
    run(&app, &restore).await.expect(0);
    run(&app, &["tenant", "move", slug, "--to", "local"]).await.expect(0);
    run(&app, &restore).await.expect(0);
    let kept = listed(&app, slug).await;
    let told: Vec<_> = kept.iter().map(|one| (one["leftBy"].as_str(), one["cluster"].as_str())).collect();
    let expected = [("restore", "east"), ("move", "east"), ("restore", "local")];
    assert_eq!(told, expected.map(|(left_by, cluster)| (Some(left_by), Some(cluster))), "{kept:?}");
    assert!(kept.iter().all(|one| one["slug"] == slug && one["tenantId"] == json!(tenant.id)), "{kept:?}");
    // None of them serves, and none is taken for left over.
    let of_tenant = tenant.id.uuid().simple().to_string();
    let doctor = async || {
        let said = run(&app, &["fleet", "doctor", "--output", "json"]).await.json();
        let findings = said["findings"].as_array().expect("findings").clone().into_iter();
        findings.filter(|one| [slug, &of_tenant].iter().any(|name| one.to_string().contains(name))).collect::<Vec<_>>()
    };
    assert!(doctor().await.is_empty());
    assert_eq!(app.fleet().purge_kept().await.unwrap(), 0, "their time is not over");

    // Told of once the sweep should have dropped them; each finding comes with the command that does.
    db::execute(app.control_database(), "UPDATE kept_databases SET purge_after = now() - interval '2 hours'").await;
    let found = doctor().await;
    assert_eq!(found.len(), 3, "{found:?}");
    let remedy = format!("tenantry tenant kept {slug} --drop --yes");
    assert!(found.iter().all(|one| one["code"] == "kept_too_long" && one["remedy"] == remedy.as_str()), "{found:?}");
    assert_eq!(app.fleet().purge_kept().await.unwrap(), 3);
    assert!(listed(&app, slug).await.is_empty());
    let names = format!(
        "SELECT datname::text AS word FROM pg_database WHERE datname LIKE 't\\_{0}%' \
         UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE 't\\_{0}%'",
        of_tenant
    );
    assert!(db::words(&server.target(), &names).await.is_empty(), "its role too");
    assert_eq!(db::words(&app.server(), &names).await.len(), 2, "the one it lives in, and its role");
    run(&app, &restore).await.expect(0);
    tenant.person(tenant.email(), tenant.password()).get(&format!("/api/v1/contacts/{id}")).await.expect(200);

    // Before its time, because somebody says so; or with its tenant.
    run(&app, &["tenant", "kept", slug, "--drop"]).await.expect(4);
    let dropped = run(&app, &["tenant", "kept", slug, "--drop", "--yes", "--output", "json"]).await.expect(0).json();
    assert_eq!(dropped["databasesDropped"], 1);
    run(&app, &restore).await.expect(0);
    run(&app, &["tenant", "delete", slug, "--now", "--yes"]).await.expect(0);
    assert!(db::words(&app.server(), &names).await.is_empty());
    app.clock().advance(TimeDelta::days(30));
    assert_eq!(app.fleet().purge_kept().await.unwrap(), 0);
    run(&app, &["tenant", "kept", slug]).await.expect(4);
    app.anonymous().get("/api/v1/admin/kept-databases").await.expect(401);
}

/// Whoever confirms a move has looked at what was moved, and not at what a restore in place has put aside before.
#[actix_web::test]
async fn a_confirmed_move_leaves_what_a_restore_keeps() {
    let (app, server) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("east", &server.target()).await;
    let tenant = app.tenant_on("east", "confirmed").await;
    let slug = tenant.slug.as_str();
    let backup = run(&app, &["tenant", "backup", slug, "--output", "json"]).await.expect(0).json();
    run(&app, &["tenant", "restore", slug, "--backup", backup["id"].as_str().expect("an id")]).await.expect(0);
    run(&app, &["tenant", "move", slug, "--to", "local"]).await.expect(0);
    let restores = listed(&app, slug).await.into_iter().find(|one| one["leftBy"] == "restore").expect("the restore's");
    let confirmed =
        run(&app, &["tenant", "move", slug, "--confirm", "--yes", "--output", "json"]).await.expect(0).json();
    assert_eq!(confirmed["copiesDropped"], 1);
    assert_eq!(listed(&app, slug).await, std::slice::from_ref(&restores));
    let of_tenant = format!(
        "SELECT datname::text AS word FROM pg_database WHERE datname LIKE 't\\_{0}%' \
         UNION ALL SELECT 'role' FROM pg_roles WHERE rolname LIKE 't\\_{0}%'",
        tenant.id.uuid().simple()
    );
    let there = db::words(&server.target(), &of_tenant).await;
    assert_eq!(
        there,
        [tenant.database().database.as_str(), "role"],
        "as it was, with the role that owns it: {restores}"
    );
    let back = run(&app, &["tenant", "move", slug, "--to", "east"]).await;
    assert_eq!(back.code, Some(4), "{back:#?}");
    assert!(back.all().contains(&format!("tenantry tenant kept {slug} --drop --yes")), "{back:#?}");
    // The role goes with the last of them; over REST as on the command line.
    let (operator, path) = (app.operator(), format!("/api/v1/admin/tenants/{slug}/kept-databases"));
    app.anonymous().delete(&path).await.expect(401);
    operator.delete(&path).await.expect(204);
    assert!(db::words(&server.target(), &of_tenant).await.is_empty());
    assert!(listed(&app, slug).await.is_empty());
    operator.delete(&path).await.expect(204);
    operator.delete("/api/v1/admin/tenants/nobody-has-this/kept-databases").await.refused(404, "not_found");
    run(&app, &["tenant", "move", slug, "--to", "east"]).await.expect(0);
}

/// The control plane's migrations, in their order.
fn main_migrations() -> Vec<(u32, String)> {
    let mut files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("main-migrations"))
        .expect("migrations")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let version: u32 = name[1..].split("__").next().and_then(|text| text.parse().ok()).expect("a version");
            (version, fs::read_to_string(path).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

/// The two tables of before become one, and nothing that was kept is forgotten.
#[actix_web::test]
async fn what_was_kept_before_the_upgrade_is_kept_after_it() {
    let database = TestCluster::get().await.database("upgrade").await;
    let files = main_migrations();
    let merge = files.iter().position(|(_, text)| text.contains("CREATE TABLE kept_databases")).expect("the merge");
    for (_, text) in &files[..merge] {
        db::execute(database.target(), text).await;
    }
    let cluster = "INSERT INTO clusters (id, name, host, port, admin_user, admin_database, admin_password_sealed, tls_mode) \
                   VALUES (gen_random_uuid(), 'east', 'localhost', 5432, 'postgres', 'postgres', '\\x00', 'disable')";
    db::execute(database.target(), cluster).await;
    let rows = "INSERT INTO tenant_copies (id, tenant_id, cluster_id, database_name, role_name, purge_after) \
                    SELECT gen_random_uuid(), gen_random_uuid(), id, of_database, 'role', '2030-01-01' FROM clusters, \
                    unnest(ARRAY['moved', 'both']) of_database; \
                INSERT INTO former_databases (id, tenant_id, cluster_id, database_name, purge_after) \
                    SELECT gen_random_uuid(), gen_random_uuid(), id, of_database, '2031-01-01' FROM clusters, \
                    unnest(ARRAY['restored', 'both']) of_database";
    db::execute(database.target(), rows).await;
    db::execute(database.target(), &files[merge].1).await;
    let kept = "SELECT concat_ws(' ', database_name, left_by, role_name, extract(year FROM purge_after)) AS word \
                FROM kept_databases ORDER BY 1";
    let expected = ["both move role 2030", "moved move role 2030", "restored restore 2031"];
    assert_eq!(db::words(database.target(), kept).await, expected);
}

/// A step came in front of the hold: what was begun before is gone on with in its places.
#[actix_web::test]
async fn a_move_across_the_upgrade_keeps_its_steps() {
    let database = TestCluster::get().await.database("moving").await;
    let files = main_migrations();
    let shift = files.iter().position(|(_, text)| text.contains("name = 'hold'")).expect("the shift");
    for (_, text) in &files[..shift] {
        db::execute(database.target(), text).await;
    }
    for (state, kind, steps) in [
        ("failed", "move", "prepare target schema replicate hold fence copy"),
        ("done", "move", "prepare target schema replicate hold fence copy"),
        ("cancelled", "move", "prepare target schema replicate weigh hold"),
        ("failed", "drain", "a b c d hold e"),
    ] {
        let row = format!(
            "WITH begun AS (INSERT INTO operations (id, kind, state, finished_at) \
                 VALUES (gen_random_uuid(), '{kind}', '{state}', now()) RETURNING id) \
             INSERT INTO operation_steps (operation_id, position, name, state) \
                 SELECT id, place - 1, name, 'done' FROM begun, \
                 string_to_table('{steps}', ' ') WITH ORDINALITY AS listed (name, place)"
        );
        db::execute(database.target(), &row).await;
    }
    db::execute(database.target(), &files[shift].1).await;
    let places = "SELECT kind || ' ' || o.state || ' ' || string_agg(position::text, '' ORDER BY position) AS word \
                  FROM operation_steps s JOIN operations o ON o.id = operation_id GROUP BY o.id ORDER BY 1";
    let expected = ["drain failed 012345", "move cancelled 012345", "move done 0123456", "move failed 0123567"];
    assert_eq!(db::words(database.target(), places).await, expected);
}
