//! Backup, and restore in place and beside: what comes back is what was there, whatever dies on the way, and nothing
//! comes back from a backup of which a bit was changed.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tenantry::fleet::backup::Step as BackupStep;
use tenantry::fleet::restore::{BesideStep, InPlaceStep};
use tenantry::fleet::{Fleet, FleetSettings};
use tenantry::kernel::TenantId;
use tenantry::rest::passwords::{Passwords, Peppers};
use tenantry::router::migrate::MigrateOptions;
use tenantry::storage::Storage;
use tenantry::testing::TestApp;

use super::scene::{backup, dies, lives_in, with_people_and_contacts};
use crate::support::binary::{run, run_with};
use crate::support::dir::Dir;
use crate::support::{db, eventually, s3, seconds, unique};

fn folder(app: &TestApp, tenant: TenantId, id: &str) -> PathBuf {
    app.storage().join("backups").join(tenant.to_string()).join(id)
}

#[actix_web::test]
async fn what_was_there_comes_back_in_place() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let made = backup(app, slug).await;
    let id = made["id"].as_str().unwrap();
    assert!(made["rows"].as_i64().unwrap() > 5 && made["bytes"].as_i64().unwrap() > 1000, "{made}");
    let listed = run(app, &["tenant", "backups", slug, "--output", "json"]).await.expect(0).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &made["id"]));
    // The storage holds nothing that anybody could read.
    for entry in fs::read_dir(folder(app, acme.id, id)).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for clear in ["PGDMP", "contacts", acme.email(), "Ada"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear}");
        }
    }
    db::execute(
        acme.database(),
        "DELETE FROM contacts; UPDATE users SET first_name = 'Eve'; DROP TABLE role_permissions",
    )
    .await;
    let restored = run(app, &["tenant", "restore", slug, "--backup", id, "--output", "json"]).await.expect(0).json();
    assert_eq!((&restored["id"], &restored["backupId"]), (&json!(acme.id), &made["id"]));
    let now = lives_in(app, slug).await;
    assert_ne!(now.database, acme.database().database);
    assert_eq!(restored["databaseName"], json!(now.database));
    assert_eq!(db::fingerprint(&now).await, before);
    // Its people log in anew, and see what was there; sessions of before are over.
    let again = acme.person(acme.email(), acme.password());
    eventually(seconds(5), "served from there", async || again.get("/api/v1/users/me").await.status == 200).await;
    let contacts = again.get("/api/v1/contacts").await.expect(200);
    assert_eq!(contacts.data().as_array().unwrap().len(), 3);
    let admin = acme.admin();
    eventually(seconds(5), "sessions of before are over", async || admin.get("/api/v1/contacts").await.status == 401)
        .await;
    again.contact("After").await;
    // The one before is closed, kept for the grace period, and then goes.
    let old = &acme.database().database;
    let closed = format!("SELECT datallowconn::text AS word FROM pg_database WHERE datname = '{old}'");
    assert_eq!(db::word(&app.server(), &closed).await, "false");
    // With the tenant goes everything that it ever lived in.
    run(app, &["tenant", "delete", slug, "--now", "--yes"]).await.expect(0);
    let left = format!("SELECT datname::text AS word FROM pg_database WHERE datname LIKE '{old}%'");
    assert_eq!(db::words(&app.server(), &left).await, Vec::<String>::new());
    // Its backup outlives it, and makes a new tenant of the same name.
    let back = run(app, &["tenant", "restore", slug, "--backup", id, "--output", "json"]).await.expect(0).json();
    assert_ne!(back["id"], json!(acme.id));
    assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before);
}

/// Ownership and rights are what a tenant's database has that was never restored.
#[actix_web::test]
async fn rights_are_as_they_were() {
    const RIGHTS: &str = "SELECT kind || ' ' || name || ' ' || replace(owner, :role, 'self') || ' ' || \
        replace(coalesce(acl, '-'), :role, 'self') AS word FROM ( \
        SELECT 'relation' AS kind, relname::text AS name, relowner::regrole::text AS owner, relacl::text AS acl \
        FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'tenantry'::regnamespace) \
        UNION ALL SELECT 'routine', proname::text, proowner::regrole::text, proacl::text FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace \
        UNION ALL SELECT 'schema', nspname::text, nspowner::regrole::text, nspacl::text FROM pg_namespace \
        WHERE nspname IN ('public', 'tenantry')) AS rights ORDER BY 1";
    let app = TestApp::shared().await;
    let acme = app.tenant("rights").await;
    let rights = |role: String| RIGHTS.replace(":role", &format!("'{role}'"));
    let before = db::words(acme.database(), &rights(acme.role().to_owned())).await;
    let id = backup(app, acme.slug.as_str()).await["id"].as_str().unwrap().to_owned();
    let beside = unique("beside");
    run(app, &["tenant", "restore", acme.slug.as_str(), "--backup", &id, "--as", &beside]).await.expect(0);
    let copy = lives_in(app, &beside).await;
    assert_eq!(db::words(&copy, &rights(copy.database.clone())).await, before);
    run(app, &["tenant", "restore", acme.slug.as_str(), "--backup", &id]).await.expect(0);
    let now = lives_in(app, acme.slug.as_str()).await;
    assert_eq!(db::words(&now, &rights(acme.role().to_owned())).await, before);
}

#[actix_web::test]
async fn a_copy_beside_is_somebody_else() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let before = db::fingerprint(acme.database()).await;
    let login = acme.log_in_as(acme.email(), acme.password()).await.expect(200);
    let id = backup(app, acme.slug.as_str()).await["id"].as_str().unwrap().to_owned();
    let beside = unique("beside");
    let arguments = ["tenant", "restore", acme.slug.as_str(), "--backup", &id, "--as", &beside, "--output", "json"];
    let made = run(app, &arguments).await.expect(0).json();
    assert_ne!(made["id"], json!(acme.id));
    let copy = lives_in(app, &beside).await;
    assert_eq!(db::fingerprint(&copy).await, before);
    let stamp = "SELECT tenant_id::text AS word FROM tenantry.stamp";
    assert_eq!(json!(db::word(&copy, stamp).await), made["id"]);
    assert_eq!(db::word(&copy, "SELECT count(*)::text AS word FROM sessions").await, "0");
    // What opens the one does not open the other.
    let refresh = json!({"refreshToken": login.data()["refreshToken"], "tenant": beside});
    let refreshed = app.anonymous().post("/api/v1/auth/refresh", refresh).await;
    assert!(refreshed.status >= 400, "{refreshed:?}");
    let body = json!({"tenant": beside, "email": acme.email(), "password": acme.password()});
    let token = app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    let there = app.anonymous().bearing(token.data()["accessToken"].as_str().unwrap());
    there.contact("Only there").await;
    assert_eq!(db::fingerprint(acme.database()).await, before);
    // A slug that is taken is refused, and so is a backup of another tenant.
    run(app, &arguments).await.expect(4);
    run(app, &["tenant", "restore", &beside, "--backup", &id]).await.expect(4);
}

#[actix_web::test]
async fn one_bit_flipped_and_nothing_is_restored() {
    let app = TestApp::shared().await;
    let acme = app.tenant("flipped").await;
    let slug = acme.slug.as_str();
    let id = backup(app, slug).await["id"].as_str().unwrap().to_owned();
    let before = db::fingerprint(acme.database()).await;
    let databases = format!("SELECT datname::text AS word FROM pg_database WHERE datname LIKE '{}%'", acme.role());
    for object in ["dump", "manifest"] {
        let path = folder(app, acme.id, &id).join(object);
        let whole = fs::read(&path).unwrap();
        for at in [0, 9, 41, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            let said = run(app, &["tenant", "restore", slug, "--backup", &id]).await.expect(4);
            assert!(said.stderr.contains("changed"), "{said:?}");
        }
        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        run(app, &["tenant", "restore", slug, "--backup", &id, "--as", &unique("cut")]).await.expect(4);
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(db::words(&app.server(), &databases).await, [acme.role()], "nothing was made of it");
    assert_eq!(db::fingerprint(acme.database()).await, before);
    // Another backup's objects in its place are as bad.
    let other = backup(app, slug).await["id"].as_str().unwrap().to_owned();
    let whole = fs::read(folder(app, acme.id, &id).join("dump")).unwrap();
    fs::copy(folder(app, acme.id, &other).join("dump"), folder(app, acme.id, &id).join("dump")).unwrap();
    run(app, &["tenant", "restore", slug, "--backup", &id]).await.expect(4);
    fs::write(folder(app, acme.id, &id).join("dump"), whole).unwrap();
    run(app, &["tenant", "restore", slug, "--backup", &id]).await.expect(0);
}

#[actix_web::test]
async fn after_a_crash_at_any_step_a_backup_is_whole() {
    let app = TestApp::shared().await;
    let acme = app.tenant("crashed").await;
    let slug = acme.slug.as_str();
    for step in BackupStep::ALL {
        for before_journal in [false, true] {
            dies(app, &["tenant", "backup", slug], step.as_str(), before_journal).await;
            let made = backup(app, slug).await;
            let list = run(app, &["tenant", "backups", slug, "--output", "json"]).await.expect(0).json();
            let done = list.as_array().unwrap().iter().filter(|one| one["state"] == "done").count();
            assert_eq!(done, list.as_array().unwrap().len(), "{step}: nothing is left half done");
            assert!(folder(app, acme.id, made["id"].as_str().unwrap()).join("dump").exists(), "{step}");
        }
    }
}

#[actix_web::test]
async fn after_a_crash_at_any_step_a_restore_goes_on() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let id = backup(app, slug).await["id"].as_str().unwrap().to_owned();
    for (at, step) in InPlaceStep::ALL.iter().enumerate() {
        db::execute(&lives_in(app, slug).await, "DELETE FROM contacts").await;
        let arguments = ["tenant", "restore", slug, "--backup", &id];
        dies(app, &arguments, step.as_str(), at % 2 == 0).await;
        // Whole either way: what it has now, or what it gets.
        let contacts = db::word(&lives_in(app, slug).await, "SELECT count(*)::text AS word FROM contacts").await;
        let switched = matches!(step, InPlaceStep::Switch | InPlaceStep::Fence);
        assert_eq!(contacts, if switched { "3" } else { "0" }, "{step}");
        run(app, &arguments).await.expect(0);
        assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before, "{step}");
    }
    for (at, step) in BesideStep::ALL.iter().enumerate() {
        let beside = unique("beside");
        let arguments = ["tenant", "restore", slug, "--backup", &id, "--as", &beside];
        dies(app, &arguments, step.as_str(), at % 2 == 1).await;
        run(app, &arguments).await.expect(0);
        assert_eq!(db::fingerprint(&lives_in(app, &beside).await).await, before, "{step}");
    }
    // What was begun and not gone on with is taken back.
    let beside = unique("beside");
    dies(app, &["tenant", "restore", slug, "--backup", &id, "--as", &beside], "load", true).await;
    run(app, &["tenant", "delete", &beside, "--now", "--yes"]).await.expect(0);
}

/// What is loaded and not lived in yet is kept on record, and may be dropped: the restore loads it once more.
#[actix_web::test]
async fn what_an_interrupted_restore_has_loaded_may_be_dropped() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let id = backup(app, slug).await["id"].as_str().unwrap().to_owned();
    let arguments = ["tenant", "restore", slug, "--backup", &id];
    dies(app, &arguments, "sessions", false).await;
    run(app, &["tenant", "kept", slug, "--drop", "--yes"]).await.expect(0);
    // What the registry says of the database before is not true of this one.
    let forget =
        format!("UPDATE tenants SET operator_version = 7, migrations_hash = 'of before' WHERE slug = '{slug}'");
    db::execute(app.control_database(), &forget).await;
    run(app, &arguments).await.expect(0);
    let now = lives_in(app, slug).await;
    assert_ne!(now.database, acme.role(), "another one than before");
    assert_eq!(db::fingerprint(&now).await, before);
    assert_eq!(db::word(&now, "SELECT count(*)::text AS word FROM sessions").await, "0");
    let known = format!(
        "SELECT (operator_version = 0 AND migrations_hash <> 'of before')::text AS word FROM tenants WHERE slug = '{slug}'"
    );
    assert_eq!(db::word(app.control_database(), &known).await, "true");
}

/// Backups that are made by themselves are taken away by themselves; the newest one stays, and so does whatever somebody
/// asked for.
#[actix_web::test]
async fn scheduled_backups_come_and_go() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("daily").await;
    let day = Duration::from_secs(24 * 60 * 60);
    let settings = FleetSettings {
        public_url: "http://tenantry.test".to_owned(),
        purge_grace: 7 * day,
        operator_migrations: None,
        placement: tenantry::control::clusters::Placement::Databases,
        storage: Some(Storage::directory(app.storage())),
        backup_every: Some(day),
        backup_keep: 30 * day,
        export_retention: 7 * day,
        dump_limit: 0,
        drain_timeout: Duration::from_secs(1),
        migrate: MigrateOptions::default(),
        ready_tenants: 0,
        cluster_budget: 80,
    };
    let fleet = Fleet::new(app.control(), Passwords::of_tests(1, Peppers::default()), settings);
    let kept = backup(&app, acme.slug.as_str()).await["id"].as_str().unwrap().to_owned();
    // Until its job has ended, the next one is not queued.
    let whole = format!(
        "SELECT count(*)::text AS word FROM backups b JOIN operations o ON o.id = b.id \
         WHERE b.tenant_id = '{}' AND b.state = 'done' AND b.scheduled AND o.state = 'done'",
        acme.id
    );
    for day in 1..=3 {
        assert_eq!(fleet.schedule_backups().await.unwrap(), 0, "the last one is not a day old");
        app.clock().advance(chrono::TimeDelta::days(1) + chrono::TimeDelta::minutes(1));
        assert_eq!(fleet.schedule_backups().await.unwrap(), 1);
        let made = async || db::word(app.control_database(), &whole).await == day.to_string();
        eventually(seconds(60), "a worker makes it", async || {
            fleet.work().await.unwrap();
            made().await
        })
        .await;
    }
    assert_eq!(fleet.prune_backups().await.unwrap(), 0);
    app.clock().advance(chrono::TimeDelta::days(29));
    // One that cannot be removed keeps no other.
    let oldest = "SELECT id::text AS word FROM backups WHERE scheduled ORDER BY created_at LIMIT 1";
    let oldest = db::word(app.control_database(), oldest).await;
    let stays = format!(
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it stays'; END $$; \
         CREATE TRIGGER stays BEFORE DELETE ON backups FOR EACH ROW WHEN (OLD.id = '{oldest}') EXECUTE FUNCTION stay()"
    );
    db::execute(app.control_database(), &stays).await;
    assert_eq!(fleet.prune_backups().await.unwrap(), 1);
    db::execute(app.control_database(), "DROP TRIGGER stays ON backups").await;
    assert_eq!(fleet.prune_backups().await.unwrap(), 1);
    app.clock().advance(chrono::TimeDelta::days(365));
    assert_eq!(fleet.prune_backups().await.unwrap(), 0, "the newest stays");
    let left = fleet.backups(acme.slug.as_str()).await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.iter().any(|backup| backup.id.to_string() == kept && !backup.scheduled));
    let folders = fs::read_dir(app.storage().join("backups").join(acme.id.to_string())).unwrap().count();
    assert_eq!(folders, 2);
}

/// The same through a server that speaks S3, on a socket.
#[actix_web::test]
async fn a_bucket_holds_backups_too() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let before = db::fingerprint(acme.database()).await;
    let dir = Dir::new();
    let files = dir.path();
    fs::create_dir(files.join("tenants")).unwrap();
    let endpoint = s3::serve(files, "access", "s3cr3t").await;
    let mut environment = app.environment();
    environment.retain(|(name, _)| name != "TENANTRY_STORAGE_URL");
    let url = format!("s3://tenants/eu?endpoint={endpoint}&region=eu-central-1");
    environment.push(("TENANTRY_STORAGE_URL".into(), url));
    let slug = acme.slug.as_str();
    environment.push(("AWS_ACCESS_KEY_ID".into(), "access".into()));
    let mut wrong = environment.clone();
    wrong.push(("AWS_SECRET_ACCESS_KEY".into(), "guessed".into()));
    let said = run_with(&wrong, &["tenant", "backup", slug]).await.expect(1);
    assert!(!said.all().contains("guessed"), "{said:?}");
    environment.push(("AWS_SECRET_ACCESS_KEY".into(), "s3cr3t".into()));
    let made = run_with(&environment, &["tenant", "backup", slug, "--output", "json"]).await.expect(0).json();
    let id = made["id"].as_str().unwrap();
    assert!(files.join(format!("tenants/eu/backups/{}/{id}/dump", acme.id)).exists());
    db::execute(acme.database(), "DELETE FROM contacts").await;
    run_with(&environment, &["tenant", "restore", slug, "--backup", id]).await.expect(0);
    assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before);
    let certificate = files.join("certificate.json");
    let arguments = ["tenant", "erase", slug, "--certificate", certificate.to_str().unwrap(), "--yes"];
    run_with(&environment, &arguments).await.expect(0);
    assert!(!files.join(format!("tenants/eu/backups/{}/{id}/dump", acme.id)).exists());
}

#[actix_web::test]
async fn over_rest_each_is_a_job() {
    let app = TestApp::builder().start().await;
    let acme = with_people_and_contacts(&app).await;
    let (fleet, operator) = (app.fleet(), app.operator());
    let path = format!("/api/v1/admin/tenants/{}", acme.slug);
    // Asks for it, lets a worker do it, and gives what came of it.
    let job = async |call: &str, body: Value| {
        let accepted = operator.post(&format!("{path}/{call}"), body).await.expect(202);
        let location = accepted.header("location").expect("where to follow it").to_owned();
        assert_eq!(location, format!("/api/v1/admin/jobs/{}", accepted.data()["id"].as_str().unwrap()));
        eventually(seconds(60), call, async || {
            fleet.work().await.unwrap();
            let job = operator.get(&location).await.expect(200);
            assert_ne!(job.data()["state"], "failed", "{job:?}");
            job.data()["state"] == "done"
        })
        .await;
        operator.get(&location).await.expect(200).data()["result"].clone()
    };
    let made = job("backups", json!({})).await;
    let listed = operator.get(&format!("{path}/backups?pageSize=1")).await.expect(200);
    assert_eq!((&listed.data()[0]["id"], &listed.data()[0]["state"]), (&made["backupId"], &json!("done")));
    let before = db::fingerprint(acme.database()).await;
    let restored = job("restore", json!({"backupId": made["backupId"]})).await;
    assert_eq!(restored["tenantId"], json!(acme.id));
    let beside = unique("beside");
    // By the names of the command line's flags.
    let copy = job("restore", json!({"backup": made["backupId"], "as": beside})).await;
    assert_eq!(copy["slug"], json!(beside));
    assert_eq!(db::fingerprint(&lives_in(&app, &beside).await).await, before);
    let clone = unique("clone");
    job("clone", json!({"slug": clone, "mask": "default"})).await;
    let masked = "SELECT count(*)::text AS word FROM contacts WHERE last_name LIKE 'Name %'";
    assert_eq!(db::word(&lives_in(&app, &clone).await, masked).await, "3");

    // Without a backup it is what it always was.
    operator.post(&format!("{path}/restore"), json!({})).await.refused(409, "conflict");
    operator.post(&format!("{path}/restore"), json!({"as": beside})).await.refused(422, "validation_failed");
    operator.post(&format!("{path}/clone"), json!({"slug": beside})).await.refused(409, "already_exists");

    // What cannot even begin has failed, and is not tried for ever.
    let id = made["backupId"].as_str().unwrap();
    fs::write(folder(&app, acme.id, id).join("manifest"), "nonsense").unwrap();
    let body = json!({"backupId": id});
    let broken = operator.post(&format!("{path}/restore"), body).await.expect(202);
    let location = broken.header("location").unwrap().to_owned();
    eventually(seconds(30), "it fails", async || {
        fleet.work().await.unwrap();
        operator.get(&location).await.expect(200).data()["state"] == "failed"
    })
    .await;

    let erased = job("erase", json!({})).await;
    assert_eq!(erased["certificate"]["tenant"], json!(acme.id));
    fleet.check_certificate(&erased.to_string()).await.expect("genuine");
    operator.get(&format!("{path}/backups")).await.expect(404);
}
