//! `fleet doctor` and `tenantry doctor`: each fault is found, and its command mends it.

use std::process::Command;

use diesel_async::SimpleAsyncConnection as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tenantry::fleet::MigrateFleet;
use tenantry::testing::{Fault, FaultProxy, TestApp};

use super::scene::{backup, dies};
use crate::support::binary::{run, run_with};
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

/// The findings of one kind about one thing, by code.
async fn findings(app: &TestApp, subject: &str) -> Vec<Value> {
    let said = run(app, &["fleet", "doctor", "--output", "json"]).await;
    assert!([Some(0), Some(3)].contains(&said.code), "{said:#?}");
    let all = said.json()["findings"].as_array().cloned().expect("findings");
    assert_eq!(said.code == Some(3), !all.is_empty());
    let about = all.into_iter().filter(|finding| finding["subject"] == subject);
    about
        .inspect(|finding| {
            for field in ["severity", "code", "said", "remedy"] {
                assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {finding}");
            }
        })
        .collect()
}

/// Runs the remedy of the finding of this code.
async fn mend(app: &TestApp, found: &[Value], code: &str) {
    let finding = found.iter().find(|finding| finding["code"] == code);
    let finding = finding.unwrap_or_else(|| panic!("no {code} in {found:?}"));
    let remedy = finding["remedy"].as_str().expect("a command");
    let words: Vec<&str> = remedy.split(' ').collect();
    assert_eq!(words[0], "tenantry", "{remedy}");
    run(app, &words[1..]).await.expect(0);
}

#[actix_web::test]
async fn orphans_are_found_in_both_directions() {
    let app = TestApp::builder().start().await;
    let (acme, globex, hooli) = (app.tenant("acme").await, app.tenant("globex").await, app.tenant("hooli").await);
    let stranger = TestApp::shared().await.tenant("stranger").await;
    assert!(findings(&app, acme.slug.as_str()).await.is_empty());
    let role = format!("t_{:032x}", u128::from_be_bytes(tenantry::kernel::crypto::random()));
    let server = app.server();
    db::execute(&server, &format!("DROP DATABASE \"{}\" WITH (FORCE)", acme.role())).await;
    db::execute(&server, &format!("CREATE ROLE \"{role}\"")).await;
    db::execute(&server, &format!("ALTER ROLE \"{}\" NOLOGIN", hooli.role())).await;
    db::execute(app.control_database(), &format!("DELETE FROM tenants WHERE id = '{}'", globex.id)).await;
    for (subject, code) in [
        (acme.slug.as_str(), "database_missing"),
        (globex.role(), "orphan_database"),
        (hooli.slug.as_str(), "role_missing"),
        (&role, "orphan_role"),
    ] {
        let found = findings(&app, subject).await;
        assert!(found.len() == 1 && found[0]["code"] == code, "{code} of {subject}: {found:?}");
    }
    // Another installation's tenant on the same server is nobody's orphan.
    assert!(findings(&app, stranger.role()).await.is_empty());
    db::execute(&server, &format!("DROP ROLE \"{role}\"")).await;
}

/// After the control plane was restored from a backup, a tenant that was made since is known to its database alone. Whose
/// database it is, is read where nothing of a tenant's runs when it is read.
#[actix_web::test]
async fn the_only_copy_of_a_tenant_is_kept_before_it_is_dropped() {
    let app = TestApp::builder().start().await;
    let [made, viewed, planted] = [app.tenant("made").await, app.tenant("viewed").await, app.tenant("planted").await];
    let view = "ALTER TABLE tenantry.stamp RENAME TO saved; CREATE VIEW tenantry.stamp AS TABLE tenantry.saved";
    db::execute(viewed.database(), view).await;
    let domain = "CREATE DOMAIN public.odd AS text; ALTER TABLE tenantry.stamp ADD COLUMN more public.odd";
    db::execute(planted.database(), domain).await;
    db::execute(app.control_database(), "DELETE FROM tenants").await;
    let found = findings(&app, made.role()).await;
    assert!(found.len() == 1 && found[0]["code"] == "orphan_database", "{found:?}");
    let said = found[0]["said"].as_str().expect("text");
    let words = [format!("for tenant {} since 20", made.id), "restored from a backup".into(), "only copy".into()];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    let name = made.role();
    let remedy = format!(
        "pg_dump \"$(printf %s \"$CLUSTER_ADMIN_URL\" | sed -E 's#^([a-z]+://[^/?]*)(/[^?]*)?#\\1/{name}#')\" \
         --format=custom --file={name}.dump && psql \"$CLUSTER_ADMIN_URL\" -c 'DROP DATABASE \"{name}\"'"
    );
    assert_eq!(found[0]["remedy"], remedy, "{found:?}");
    for other in [&viewed, &planted] {
        assert!(findings(&app, other.role()).await.is_empty(), "{}", other.slug);
    }
    // As printed, whatever else the address says: what is dropped is what was dumped.
    let dir = tempfile::tempdir().expect("a directory");
    let address = format!("{}&sslrootcert=/nowhere/ca.pem", app.server().to_url().expose_secret());
    let mended = Command::new("sh").args(["-c", &remedy]).env("CLUSTER_ADMIN_URL", address).current_dir(&dir).output();
    let mended = mended.expect("a shell");
    assert!(mended.status.success(), "{mended:?}");
    let dump = dir.path().join(format!("{name}.dump"));
    let listed = Command::new("pg_restore").arg("--list").arg(dump).output().expect("pg_restore");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("TABLE public users"), "{listed:?}");
    // Its role is what is left of it.
    let left = findings(&app, name).await;
    assert!(left.iter().all(|finding| finding["code"] != "orphan_database"), "{left:?}");
}

/// The doctor waits for one server while a tenant is made on it by another way.
#[actix_web::test]
async fn a_tenant_that_is_made_while_the_doctor_looks_is_no_orphan() {
    let app = TestApp::builder().start().await;
    let proxy = FaultProxy::start(&app.server());
    app.cluster_behind("behind", &proxy).await;
    app.tenant("early").await;
    let fleet = app.fleet();
    proxy.set(Fault::BlackHole).await;
    let before = proxy.accepted();
    let (said, late) = tokio::join!(fleet.diagnose(), async {
        eventually(seconds(20), "it has begun", async || proxy.accepted() > before).await;
        let late = app.tenant("late").await;
        proxy.set(Fault::Pass).await;
        late
    });
    let findings = said.expect("the control plane answers").findings;
    assert!(findings.iter().all(|finding| finding.subject != late.role()), "{findings:?}");
}

/// While the doctor waits between two of its looks, a tenant becomes active, and a job begins.
#[actix_web::test]
async fn what_changes_while_the_doctor_looks_is_not_told_of() {
    const WAITS: &str = "SELECT count(*)::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                         AND wait_event_type = 'Lock' AND query LIKE '%\"operations\".\"state\" = $%'";
    let app = TestApp::builder().start().await;
    let (made, busy) = (app.tenant("made").await, app.tenant("busy").await);
    let (control, fleet) = (app.control_database(), app.fleet());
    let status = |status: &str| format!("UPDATE tenants SET status = '{status}' WHERE id = '{}'", made.id);
    db::execute(control, &status("provisioning")).await;
    let found = findings(&app, made.slug.as_str()).await;
    assert!(found.len() == 1 && found[0]["code"] == "tenant_half_made", "{found:?}");
    let remedy = format!("tenantry tenant delete {} --yes", made.slug);
    assert_eq!(found[0]["remedy"], remedy, "one that serves after all is archived by it, not dropped");

    let mut gate = db::open(control).await;
    gate.batch_execute("BEGIN; LOCK TABLE operations").await.expect("nobody has it");
    let meanwhile = format!(
        "{}; SELECT pg_advisory_lock(('x' || left(encode(sha256(convert_to('tenant operation {id}', 'UTF8')), 'hex'), \
         16))::bit(64)::bigint); INSERT INTO operations (id, tenant_id, slug, kind, state) \
         VALUES (gen_random_uuid(), '{id}', '{}', 'backup', 'running'); COMMIT",
        status("active"),
        busy.slug,
        id = busy.id
    );
    let (said, ()) = tokio::join!(fleet.diagnose(), async {
        eventually(seconds(20), "it looks at the jobs", async || db::word(control, WAITS).await != "0").await;
        gate.batch_execute(&meanwhile).await.expect("nobody is in the way");
    });
    let findings_then = said.expect("the control plane answers").findings;
    let about = |slug: &str| findings_then.iter().filter(|one| one.subject == slug).count();
    assert_eq!((about(made.slug.as_str()), about(busy.slug.as_str())), (0, 0), "{findings_then:?}");
    // Once its driver is gone, the job is told of.
    drop(gate);
    eventually(seconds(20), "it is told of", async || {
        findings(&app, busy.slug.as_str()).await.iter().any(|one| one["code"] == "job_interrupted")
    })
    .await;
}

/// Sign-ups wait for an operator's word as long as it takes, and hide no job that waits for a worker.
#[actix_web::test]
async fn many_sign_ups_hide_no_job_that_waits() {
    const OLD: &str = "01900000-0000-7000-8000-000000000001";
    let app = TestApp::builder().start().await;
    let waiting = format!(
        "INSERT INTO operations (id, kind, state, background, started_at) \
         VALUES ('{OLD}', 'drift', 'queued', true, now() - interval '1 hour'); \
         INSERT INTO operations (id, kind, state, input) \
         SELECT gen_random_uuid(), 'create', 'queued', '{{\"approval\": true}}' FROM generate_series(1, 700)"
    );
    db::execute(app.control_database(), &waiting).await;
    let found = findings(&app, OLD).await;
    assert!(found.len() == 1 && found[0]["code"] == "job_waits", "{found:?}");
    // Of more than can be listed, it says how many.
    let failed = "INSERT INTO operations (id, tenant_id, slug, kind, state, finished_at) \
                  SELECT gen_random_uuid(), gen_random_uuid(), 'gone', 'backup', 'failed', now() \
                  FROM generate_series(1, 503)";
    db::execute(app.control_database(), failed).await;
    let found = findings(&app, "failed").await;
    assert!(found.len() == 1 && found[0]["code"] == "more_jobs", "{found:?}");
    assert!(found[0]["said"].as_str().is_some_and(|said| said.starts_with("3 more jobs")), "{found:?}");
}

/// It takes connections, and then says nothing.
#[actix_web::test]
async fn a_server_that_falls_silent_is_told_of() {
    let app = TestApp::builder().start().await;
    let proxy = FaultProxy::start(&app.server());
    app.cluster_behind("silent", &proxy).await;
    proxy.set(Fault::BlackHole).await;
    let said = app.fleet().with_look_deadline(seconds(1)).diagnose().await.expect("the control plane answers");
    proxy.set(Fault::Pass).await;
    let found = said.findings.iter().find(|one| one.subject == "silent").expect("a finding");
    let told = (found.code, found.said.as_str());
    assert_eq!(told, ("cluster_unreachable", "The database server did not answer within 1 s."));
}

#[actix_web::test]
async fn an_interrupted_job_comes_with_the_command_that_goes_on() {
    let app = TestApp::builder().start().await;
    let slug = unique("half");
    let killed = run(&app, &["tenant", "create", &slug, "--halt-after", "database"]).await;
    assert_eq!(killed.code, None, "{killed:#?}");
    let found = findings(&app, &slug).await;
    mend(&app, &found, "job_interrupted").await;
    assert!(findings(&app, &slug).await.is_empty());
    let status = format!("SELECT status AS word FROM tenants WHERE slug = '{slug}'");
    assert_eq!(db::word(app.control_database(), &status).await, "active");
}

/// What goes on with a copy names the original, and what goes on with all says so.
#[actix_web::test]
async fn the_command_that_goes_on_is_the_one_that_began() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("copied").await;
    let slug = acme.slug.as_str();
    let made = backup(&app, slug).await["id"].as_str().expect("an id").to_owned();
    let (beside, clone) = (unique("beside"), unique("clone"));
    dies(&app, &["tenant", "restore", slug, "--backup", &made, "--as", &beside], "load", false).await;
    dies(&app, &["tenant", "clone", slug, &clone, "--keep-credentials"], "load", false).await;
    for copy in [&beside, &clone] {
        let found = findings(&app, copy).await;
        mend(&app, &found, "job_interrupted").await;
        assert!(findings(&app, copy).await.is_empty(), "{copy}");
    }
    dies(&app, &["tenant", "rotate-credentials", "--all"], "rotate", true).await;
    let all = "SELECT id::text AS word FROM operations WHERE kind = 'rotate_credentials' AND tenant_id IS NULL";
    let all = db::word(app.control_database(), all).await;
    let found = findings(&app, &all).await;
    mend(&app, &found, "job_interrupted").await;
    assert!(findings(&app, &all).await.is_empty());
}

/// A failure is told of until something else was done to its tenant.
#[actix_web::test]
async fn a_failure_that_was_made_good_is_not_told_of() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("failing").await;
    let slug = acme.slug.as_str();
    backup(&app, slug).await;
    let failed = format!(
        "UPDATE operations SET state = 'failed', error = 'dump: no' WHERE kind = 'backup' AND tenant_id = '{}'",
        acme.id
    );
    db::execute(app.control_database(), &failed).await;
    let found = findings(&app, slug).await;
    assert!(found.iter().any(|one| one["code"] == "job_failed"), "{found:?}");
    let export = tempfile::tempdir().expect("a directory");
    let to = export.path().join("export");
    run(&app, &["tenant", "rotate-credentials", slug]).await.expect(0);
    run(&app, &["tenant", "export", slug, "--to", to.to_str().expect("text")]).await.expect(0);
    assert!(findings(&app, slug).await.is_empty());
}

/// A comparison holds nothing: one that failed is done again by whoever wants to know, and mended by nobody.
#[actix_web::test]
async fn a_comparison_that_failed_is_not_told_of() {
    const DRIFT: &str = "01900000-0000-7000-8000-000000000001";
    const DRAIN: &str = "01900000-0000-7000-8000-000000000002";
    let app = TestApp::builder().start().await;
    let failed = format!(
        "INSERT INTO operations (id, kind, state, background, error, input, finished_at) VALUES \
         ('{DRIFT}', 'drift', 'failed', true, 'compare: no', '{{}}', now()), \
         ('{DRAIN}', 'drain', 'failed', true, 'move: no', '{{\"cluster\": \"east\"}}', now())"
    );
    db::execute(app.control_database(), &failed).await;
    assert_eq!(findings(&app, DRAIN).await[0]["code"], "job_failed");
    assert!(findings(&app, DRIFT).await.is_empty());
}

#[actix_web::test]
async fn clusters_budgets_schemas_and_secrets_are_looked_at() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    app.cluster("away", &app.server()).await;
    let control = app.control_database();
    db::execute(control, "UPDATE clusters SET port = 1 WHERE name = 'away'").await;
    db::execute(control, "UPDATE clusters SET connection_budget = 100000 WHERE name = 'local'").await;
    db::execute(control, "UPDATE tenants SET schema_version = 1").await;
    let found = findings(&app, "local").await;
    mend(&app, &found, "budget_too_large").await;
    assert!(findings(&app, "local").await.is_empty());
    assert_eq!(findings(&app, "away").await[0]["code"], "cluster_unreachable");
    let behind = findings(&app, "schema version 1").await;
    assert!(behind[0]["said"].as_str().unwrap().contains(acme.slug.as_str()), "{behind:?}");
    db::execute(
        control,
        "UPDATE signing_keys SET private_sealed = set_byte(private_sealed, 40, get_byte(private_sealed, 40) # 1) \
         WHERE tenant_id IS NOT NULL",
    )
    .await;
    let key = format!("SELECT id::text AS word FROM signing_keys WHERE tenant_id = '{}'", acme.id);
    let key = db::word(control, &key).await;
    assert_eq!(findings(&app, &key).await[0]["code"], "secret_does_not_open");
    let answer = app.operator().get("/api/v1/admin/fleet/doctor").await.expect(200);
    let codes: Vec<_> = answer.data()["findings"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert!(codes.contains(&Value::from("secret_does_not_open")), "{answer:?}");
    app.anonymous().get("/api/v1/admin/fleet/doctor").await.expect(401);
    let own = run(&app, &["doctor", "--output", "json"]).await.expect(3).json();
    let codes: Vec<_> = own["findings"].as_array().unwrap().iter().map(|finding| finding["code"].clone()).collect();
    assert!(codes.contains(&Value::from("cluster_unreachable")), "{own}");
    assert!(codes.contains(&Value::from("secret_does_not_open")), "{own}");
}

/// Over REST a cluster that has no budget of its own is held against the node's, as it is on the command line.
#[actix_web::test]
async fn the_nodes_own_budget_is_held_against_a_server_over_rest() {
    let (app, small) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("small", &small.target()).await;
    let answer = app.operator().get("/api/v1/admin/fleet/doctor").await.expect(200);
    let findings = answer.data()["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["subject"] == "small").expect("a finding");
    assert_eq!(found["code"], "budget_too_large", "{found}");
    let said = "its connection budget is 80, but the server has max_connections 60 - 3 reserved = 57";
    assert_eq!(found["said"], said);
}

/// A plan that cannot be made takes its database along; one whose process was killed leaves it to whoever reads this.
#[actix_web::test]
async fn what_migrations_were_tried_in_is_dropped_or_found() {
    let (app, server) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("east", &server.target()).await;
    app.tenant("behind").await;
    db::execute(app.control_database(), "UPDATE tenants SET schema_version = 1, migrations_hash = NULL").await;
    // What every database begins with lacks the language that migrations are written in.
    let begins = |connections: &str| format!("ALTER DATABASE template0 ALLOW_CONNECTIONS {connections}");
    db::execute(&server.target(), &begins("true")).await;
    db::execute(&server.target().with_database("template0"), "DROP EXTENSION plpgsql").await;
    db::execute(&server.target(), &begins("false")).await;
    let trials = "SELECT datname::text AS word FROM pg_database WHERE datname LIKE 'tenantry_trial_%'";
    app.fleet().plan_migration(&MigrateFleet::default()).await.expect_err("nothing can be made in it");
    assert_eq!(db::words(&server.target(), trials).await, Vec::<String>::new());

    db::execute(&server.target(), "CREATE DATABASE tenantry_trial_0190").await;
    let found = findings(&app, "tenantry_trial_0190").await;
    assert!(found.len() == 1 && found[0]["code"] == "scratch_left", "{found:?}");
    let remedy = "psql \"$CLUSTER_ADMIN_URL\" -c 'DROP DATABASE \"tenantry_trial_0190\"'";
    assert_eq!(found[0]["remedy"], remedy, "{found:?}");

    db::execute(&server.target(), "CREATE ROLE tenantry_reference_00").await;
    let remedy = "psql \"$CLUSTER_ADMIN_URL\" -c 'DROP ROLE \"tenantry_reference_00\"'";
    // Whoever made it has gone.
    eventually(seconds(20), "a role without its database is found", async || {
        let found = findings(&app, "tenantry_reference_00").await;
        found.len() == 1 && found[0]["code"] == "scratch_left" && found[0]["remedy"] == remedy
    })
    .await;
}

#[actix_web::test]
async fn doctor_says_what_an_installation_lacks() {
    let said = run_with(&[], &["doctor"]).await.expect(3);
    assert!(said.stdout.contains("not_configured"), "{said:#?}");
    let app = TestApp::shared().await;
    let mut environment = app.environment();
    for (name, value) in &mut environment {
        if name == "TENANTRY_DATABASE_URL" {
            *value = "postgres://nobody:nothing@127.0.0.1:1/nowhere".into();
        }
    }
    let said = run_with(&environment, &["doctor"]).await.expect(3);
    assert!(said.stdout.contains("control_plane_unreachable"), "{said:#?}");
    // A database without the schema.
    let empty = tenantry::testing::TestCluster::get().await.database("empty").await;
    for (name, value) in &mut environment {
        if name == "TENANTRY_DATABASE_URL" {
            use secrecy::ExposeSecret as _;
            *value = empty.target().to_url().expose_secret().to_owned();
        }
    }
    let said = run_with(&environment, &["doctor"]).await.expect(3);
    assert!(said.stdout.contains("control_schema_behind") && said.stdout.contains("tenantry migrate"), "{said:#?}");
}
