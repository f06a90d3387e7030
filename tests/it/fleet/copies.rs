//! What a tenant's database has from its administrator is in every copy of it.

use tenantry::testing::{Tenant, TestApp};

use super::scene::{backup, dies, lives_in, with_people_and_contacts};
use crate::support::binary::{run, run_with};
use crate::support::clients::Newer;
use crate::support::{db, eventually, seconds, unique};

/// A backup restored as a new tenant and in place, and a clone: the slugs of all three.
async fn copies(app: &TestApp, tenant: &Tenant) -> [String; 3] {
    let (slug, beside, clone) = (tenant.slug.to_string(), unique("beside"), unique("clone"));
    let id = backup(app, &slug).await["id"].as_str().unwrap().to_owned();
    run(app, &["tenant", "clone", &slug, &clone]).await.expect(0);
    run(app, &["tenant", "restore", &slug, "--backup", &id, "--as", &beside]).await.expect(0);
    run(app, &["tenant", "restore", &slug, "--backup", &id]).await.expect(0);
    [slug, beside, clone]
}

/// They are said as the tenant's role, which may not say what an administrator's objects begin with.
#[actix_web::test]
async fn default_privileges_of_an_administrator_are_left_out() {
    let app = TestApp::shared().await;
    let acme = app.tenant("defaults").await;
    let at = lives_in(app, acme.slug.as_str()).await;
    let grant = "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO \"{role}\"; \
                 SET ROLE \"{role}\"; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC; \
                 CREATE SCHEMA \"public old\"; CREATE TABLE \"public old\".notes (note text)";
    db::execute(&at, &grant.replace("{role}", acme.role())).await;
    for slug in copies(app, &acme).await {
        let copy = lives_in(app, &slug).await;
        // In the list of a dump it begins as `public` does, which is there already.
        let there = "SELECT count(*)::text AS word FROM pg_class WHERE relname = 'notes'";
        assert_eq!(db::word(&copy, there).await, "1", "{slug}");
        let whose = "SELECT defaclrole::regrole::text AS word FROM pg_default_acl";
        assert_eq!(db::words(&copy, whose).await, ["pg_database_owner"], "{slug}");
    }
}

/// Its own role may not install what an administrator has, nor load what was added to the extension's own tables.
#[actix_web::test]
async fn an_administrator_s_extension_comes_along() {
    let app = TestApp::shared().await;
    // Not trusted, and of every server with the usual modules.
    let usual = "SELECT count(*)::text AS word FROM pg_available_extensions WHERE name = 'pgstattuple'";
    if db::word(&app.server(), usual).await != "1" {
        return;
    }
    let acme = app.tenant("extended").await;
    // The usual modules have no table for settings. One that every database has from the start takes its place.
    let install = "CREATE SCHEMA tools; CREATE EXTENSION pgstattuple SCHEMA tools; \
                   ALTER EXTENSION pgstattuple ADD TABLE information_schema.sql_sizing; \
                   UPDATE pg_extension SET extconfig = ARRAY['information_schema.sql_sizing'::regclass::oid], \
                   extcondition = ARRAY['WHERE sizing_id = 424242'] WHERE extname = 'pgstattuple'; \
                   INSERT INTO information_schema.sql_sizing VALUES (424242, 'kept'); \
                   GRANT UPDATE (comments) ON information_schema.sql_sizing TO \"{role}\"; \
                   SET ROLE \"{role}\"; CREATE EXTENSION pg_trgm SCHEMA public";
    db::execute(acme.database(), &install.replace("{role}", acme.role())).await;
    for slug in copies(app, &acme).await {
        let copy = lives_in(app, &slug).await;
        let installed = "SELECT e.extname || ' ' || n.nspname || ' ' || pg_has_role(b.datdba, e.extowner, 'USAGE')::text AS word \
                         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace, pg_database b \
                         WHERE e.extname <> 'plpgsql' AND b.datname = current_database() ORDER BY e.extname";
        assert_eq!(db::words(&copy, installed).await, ["pg_trgm public true", "pgstattuple tools false"], "{slug}");
        let kept = "SELECT sizing_name AS word FROM information_schema.sql_sizing WHERE sizing_id = 424242";
        assert_eq!(db::words(&copy, kept).await, ["kept"], "{slug}");
        let may = "SELECT concat_ws(' ', has_column_privilege(datdba, t, 'comments', 'UPDATE'), \
                   has_column_privilege(datdba, t, 'sizing_name', 'UPDATE'), has_schema_privilege(datdba, 'tools', 'CREATE')) \
                   AS word FROM pg_database, (SELECT 'information_schema.sql_sizing') AS named (t) \
                   WHERE datname = current_database()";
        assert_eq!(db::word(&copy, may).await, "t f f", "{slug}");
    }
}

/// The image has clients of 17, and servers may be of 14.
#[actix_web::test]
async fn clients_that_are_newer_than_the_server_restore_and_clone() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let (slug, clients) = (acme.slug.as_str(), Newer::new());
    let environment = clients.environment(app.environment());
    // In its rows are what the programs themselves would say, and take for their own.
    let notes = "SET ROLE \"{role}\"; CREATE TABLE notes (note text); \
                 INSERT INTO notes VALUES ('SET transaction_timeout = 0;'), (E'\\\\! false\\n\\\\.\\n:slug'); \
                 CREATE TABLE \"\\! false\" (x int); SELECT lo_create(0)";
    db::execute(acme.database(), &notes.replace("{role}", acme.role())).await;
    let there =
        "SELECT note AS word FROM notes UNION ALL SELECT count(*)::text FROM pg_largeobject_metadata ORDER BY 1";
    let (before, rows) = (db::fingerprint(acme.database()).await, db::words(acme.database(), there).await);
    let id = backup(app, slug).await["id"].as_str().unwrap().to_owned();
    let (beside, clone) = (unique("beside"), unique("clone"));
    run_with(&environment, &["tenant", "clone", slug, &clone, "--keep-credentials"]).await.expect(0);
    run_with(&environment, &["tenant", "restore", slug, "--backup", &id, "--as", &beside]).await.expect(0);
    run_with(&environment, &["tenant", "restore", slug, "--backup", &id]).await.expect(0);
    assert!(clients.was_run());
    for slug in [slug, &beside] {
        assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before, "{slug}");
    }
    for slug in [slug, &beside, &clone] {
        assert_eq!(db::words(&lives_in(app, slug).await, there).await, rows, "{slug}");
    }
}

/// They are in no dump.
#[actix_web::test]
async fn a_restore_in_place_says_which_settings_are_left_behind() {
    let app = TestApp::shared().await;
    let acme = app.tenant("set").await;
    let id = backup(app, acme.slug.as_str()).await["id"].as_str().unwrap().to_owned();
    let arguments = ["tenant", "restore", acme.slug.as_str(), "--backup", &id];
    let set =
        "ALTER DATABASE \"{role}\" SET work_mem = '5MB'; ALTER ROLE \"{role}\" IN DATABASE \"{role}\" SET jit = off";
    db::execute(&app.server(), &set.replace("{role}", acme.role())).await;
    let said = run(app, &arguments).await.expect(0);
    assert!(said.all().contains("(ALTER DATABASE … SET): jit, work_mem"), "{said:?}");
    let said = run(app, &arguments).await.expect(0);
    assert!(!said.all().contains("ALTER DATABASE"), "{said:?}");
}

/// Whoever goes on finds the tenant in its new database, which has none of them.
#[actix_web::test]
async fn a_restore_that_is_gone_on_with_after_its_switch_says_so_too() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("switched").await;
    let id = backup(&app, acme.slug.as_str()).await["id"].as_str().unwrap().to_owned();
    let arguments = ["tenant", "restore", acme.slug.as_str(), "--backup", &id];
    let set = async || {
        let database = lives_in(&app, acme.slug.as_str()).await.database;
        db::execute(&app.server(), &format!("ALTER DATABASE \"{database}\" SET work_mem = '5MB'")).await;
    };
    set().await;
    dies(&app, &arguments, "switch", false).await;
    // A worker tells nobody, but in the job.
    let control = app.control_database();
    db::execute(control, "UPDATE operations SET background = true WHERE kind = 'restore'").await;
    let (worker, of_restore) = (app.fleet(), "FROM operations WHERE kind = 'restore'");
    eventually(seconds(20), "a worker has done it", async || {
        worker.work().await.expect("work");
        db::word(control, &format!("SELECT state AS word {of_restore}")).await == "done"
    })
    .await;
    let left = db::word(control, &format!("SELECT (result->'leftBehind')::text AS word {of_restore}")).await;
    assert_eq!(left, "[\"work_mem\"]");

    set().await;
    dies(&app, &arguments, "switch", false).await;
    // The next one dies as well: here, as if it had before its journal had their names.
    dies(&app, &arguments, "check", false).await;
    let nameless = "UPDATE operations SET result = NULL WHERE kind = 'restore' AND state = 'running'";
    db::execute(control, nameless).await;
    let said = run(&app, &arguments).await.expect(0);
    assert!(said.all().contains("(ALTER DATABASE … SET): work_mem"), "{said:?}");
    let said = run(&app, &arguments).await.expect(0);
    assert!(!said.all().contains("ALTER DATABASE"), "{said:?}");
}
