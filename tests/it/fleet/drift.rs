//! `fleet drift`: nothing is said of a tenant as its migrations make it, and everything of one that is not.

use diesel_async::SimpleAsyncConnection as _;
use serde_json::{Value, json};
use tenantry::fleet::{CreateTenant, Silent};
use tenantry::router::{AdminConn, Target};
use tenantry::testing::{Fault, FaultProxy, TestApp};

use super::scene::lives_in;
use crate::support::binary::run;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

/// Whoever reads this database's catalog waits until this transaction ends; migrations do not.
async fn gate(database: &Target) -> AdminConn {
    let mut gate = db::open(database).await;
    gate.batch_execute("BEGIN; LOCK TABLE pg_policy").await.expect("a superuser may");
    gate
}

async fn is_waited_for(database: &Target) {
    const WAITS: &str = "SELECT count(*)::text AS word FROM pg_stat_activity \
                         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(seconds(20), "its catalog is read", async || db::word(database, WAITS).await != "0").await;
}

#[actix_web::test]
async fn every_change_behind_the_migrations_is_a_line() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let both = format!("{},{}", acme.slug, globex.slug);
    let sound = run(app, &["fleet", "drift", "--only", &both]).await.expect(0);
    assert!(sound.stderr.contains("compare 2 of 2\n"), "without a terminal, in lines: {sound:#?}");
    let changes = format!(
        "ALTER TABLE contacts ALTER COLUMN title TYPE varchar(200), ADD age int;
         ALTER TABLE users ALTER COLUMN last_name DROP NOT NULL;
         ALTER TABLE roles ALTER COLUMN description SET DEFAULT 'none', DROP CONSTRAINT roles_name_key;
         DROP INDEX users_last_name_idx;
         CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE notes (id bigserial PRIMARY KEY, text text);
         CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS 'SELECT';
         CREATE TRIGGER quiet BEFORE UPDATE ON permissions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
         GRANT SELECT ON users TO PUBLIC;
         ALTER TABLE permissions OWNER TO CURRENT_USER;
         GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"",
        acme.role(),
        globex.role()
    );
    db::execute(acme.database(), &changes).await;
    let said = run(app, &["fleet", "drift", "--only", &both]).await.expect(3);
    for line in [
        "+ column public.contacts.age",
        "~ column public.contacts.title type: expected text, found character varying(200)",
        "~ column public.users.last_name nullability: expected NOT NULL, found NULL",
        "~ column public.roles.description default: expected ''::text, found 'none'::text",
        "- constraint public.roles.roles_name_key",
        "- index public.users.users_last_name_idx",
        "+ type public.mood",
        "+ table public.notes",
        "+ function public.nothing()",
        "+ trigger public.permissions.quiet",
        "~ table public.users grants to everybody: expected nothing, found SELECT",
        "~ table public.permissions owner: expected its role, found an administrator",
        &format!("~ database grants to {}: expected nothing, found CONNECT", globex.role()),
    ] {
        assert!(said.stdout.lines().any(|found| found.trim() == line), "not said: {line}\n{}", said.stdout);
    }
    assert!(
        !said.stdout.contains("notes.") && !said.stdout.contains("notes_id_seq"),
        "its parts go with it: {said:#?}"
    );
    assert!(!said.stdout.contains(globex.slug.as_str()), "{said:#?}");
    let json = run(app, &["fleet", "drift", "--only", &both, "--output", "json"]).await.expect(3).json();
    assert_eq!((&json["compared"], json["tenants"].as_array().map(Vec::len)), (&Value::from(2), Some(1)));
    let differences = json["tenants"][0]["differences"].as_array().expect("differences");
    assert!(differences.iter().any(|it| it["kind"] == "extra" && it["object"] == "table public.notes"), "{json}");
    let left = "SELECT datname::text AS word FROM pg_database WHERE datname LIKE 'tenantry_reference_%' \
                AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = pg_database.datname)";
    eventually(seconds(20), "no scratch database is left", async || db::words(&app.server(), left).await.is_empty())
        .await;
}

#[actix_web::test]
async fn a_tenant_is_compared_at_its_own_version() {
    let app = TestApp::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    file("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY)");
    let fleet = app.fleet_with_migrations(directory.path());
    let slug = unique("own");
    fleet.create(&CreateTenant::named(slug.parse().unwrap()), &Default::default(), &Silent).await.unwrap();
    file("V2__notes.sql", "ALTER TABLE orders ADD note text");
    let only = [slug.clone()];
    let behind = fleet.drift(&only, &Silent).await.unwrap();
    assert!(behind.tenants.is_empty(), "being behind is no drift: {behind:#?}");
    // A file that was changed after it was applied is.
    file("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY, total int)");
    let changed = fleet.drift(&only, &Silent).await.unwrap();
    let lines: Vec<_> = changed.tenants[0].differences.iter().map(ToString::to_string).collect();
    assert!(lines.iter().any(|line| line.starts_with("~ migration V1__orders (tenantry.operator_history) checksum")));
    assert!(lines.contains(&"- column public.orders.total".to_owned()), "{lines:#?}");
}

/// What guards rows, keys, durability and the role itself, each switched off by hand.
#[actix_web::test]
async fn what_was_switched_off_is_a_line() {
    let app = TestApp::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let migration = "CREATE TABLE ledgers (id uuid PRIMARY KEY, parent uuid REFERENCES ledgers (id), keeper text);
        CREATE TABLE drafts (id int);
        ALTER TABLE ledgers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON ledgers TO CURRENT_USER USING (keeper = current_user);
        CREATE VIEW open_ledgers WITH (security_barrier) AS SELECT id FROM ledgers";
    std::fs::write(directory.path().join("V1__ledgers.sql"), migration).unwrap();
    let fleet = app.fleet_with_migrations(directory.path());
    let (slug, other) = (unique("guarded"), app.tenant("other").await);
    fleet.create(&CreateTenant::named(slug.parse().unwrap()), &Default::default(), &Silent).await.unwrap();
    let only = [slug.clone()];
    let sound = fleet.drift(&only, &Silent).await.unwrap();
    assert!(sound.tenants.is_empty(), "{sound:#?}");
    let database = lives_in(app, &slug).await;
    let role = format!("SELECT role_name AS word FROM tenants WHERE slug = '{slug}'");
    let role = db::word(app.control_database(), &role).await;
    for change in [
        "ALTER TABLE ledgers DISABLE ROW LEVEL SECURITY".to_owned(),
        "ALTER POLICY own ON ledgers TO PUBLIC".to_owned(),
        "ALTER TABLE ledgers DISABLE TRIGGER ALL".to_owned(),
        "ALTER TABLE drafts SET UNLOGGED".to_owned(),
        "ALTER VIEW open_ledgers RESET (security_barrier)".to_owned(),
        format!("GRANT \"{role}\" TO \"{}\"", other.role()),
        format!("ALTER ROLE \"{role}\" SET row_security = off"),
        format!("ALTER ROLE \"{role}\" NOLOGIN"),
        format!("ALTER DATABASE \"{role}\" SET work_mem = '8MB'"),
    ] {
        db::execute(&database, &change).await;
    }
    let changed = fleet.drift(&only, &Silent).await.unwrap();
    let lines: Vec<_> = changed.tenants[0].differences.iter().map(ToString::to_string).collect();
    let expected = [
        "~ constraint public.ledgers.ledgers_parent_fkey triggers: expected nothing, found disabled on public.ledgers",
        "~ database settings: expected nothing, found work_mem=8MB",
        "~ policy public.ledgers.own roles: expected its role, found everybody",
        "~ role may: expected log in, found nothing",
        &format!("~ role members: expected nothing, found {}", other.role()),
        "~ role settings: expected nothing, found row_security=off",
        "~ table public.drafts persistence: expected logged, found unlogged",
        "~ table public.ledgers row-level security: expected forced, found off (forced once it is on)",
        "~ view public.open_ledgers options: expected security_barrier=true, found nothing",
    ];
    assert_eq!(lines, expected);
    db::execute(&app.server(), &format!("REVOKE \"{role}\" FROM \"{}\"", other.role())).await;
}

/// The history is the tenant's role's own, which may put anything in its place.
#[actix_web::test]
async fn a_history_that_would_run_something_is_not_read() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("planted").await;
    let role = tenant.role();
    let runs = format!(
        "SET ROLE \"{role}\"; DROP TABLE tenantry.schema_history; \
         CREATE FUNCTION public.runs() RETURNS text LANGUAGE plpgsql AS \
         $f$ BEGIN EXECUTE 'ALTER ROLE \"{role}\" SUPERUSER'; RETURN 'V1__identity'; END $f$"
    );
    db::execute(tenant.database(), &runs).await;
    for plant in [
        "CREATE VIEW tenantry.schema_history AS SELECT 1 AS version, public.runs() AS name, ''::text AS checksum",
        "DROP VIEW tenantry.schema_history; CREATE TYPE public.told AS (word text); \
         CREATE FUNCTION public.tells(public.told) RETURNS text LANGUAGE sql AS 'SELECT public.runs()'; \
         CREATE CAST (public.told AS text) WITH FUNCTION public.tells(public.told); \
         CREATE TABLE tenantry.schema_history (version int, name public.told, checksum text); \
         INSERT INTO tenantry.schema_history VALUES (1, ROW('x'), '')",
    ] {
        db::execute(tenant.database(), &format!("SET ROLE \"{role}\"; {plant}")).await;
        let report = app.fleet().drift(&[tenant.slug.to_string()], &Silent).await.unwrap();
        let error = report.tenants[0].error.as_deref().expect("it is not compared");
        assert!(error.contains("no plain table"), "{error}");
        let is_super = format!("SELECT rolsuper::text AS word FROM pg_roles WHERE rolname = '{role}'");
        assert_eq!(db::word(&app.server(), &is_super).await, "false");
    }
}

/// Its catalog is read when its history has been: a migration ends in between.
#[actix_web::test]
async fn what_a_migration_makes_meanwhile_is_no_drift() {
    let app = TestApp::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let fleet = app.fleet_with_migrations(directory.path());
    let (slug, ahead) = (unique("behind"), unique("ahead"));
    let create = async |slug: &str| {
        fleet.create(&CreateTenant::named(slug.parse().unwrap()), &Default::default(), &Silent).await.unwrap();
        lives_in(app, slug).await
    };
    file("V1__orders.sql", "CREATE TABLE orders (id uuid PRIMARY KEY)");
    let database = create(&slug).await;
    file("V2__notes.sql", "ALTER TABLE orders ADD note text");
    let applied = "SELECT row_to_json(h)::text AS word FROM tenantry.operator_history h WHERE version = 2";
    let applied = db::word(&create(&ahead).await, applied).await;
    let mut gate = gate(&database).await;
    let migrate = format!(
        "ALTER TABLE public.orders ADD note text; INSERT INTO tenantry.operator_history \
         SELECT * FROM json_populate_record(NULL::tenantry.operator_history, '{applied}'); COMMIT"
    );
    let only = [slug];
    let (said, ()) = tokio::join!(fleet.drift(&only, &Silent), async {
        is_waited_for(&database).await;
        gate.batch_execute(&migrate).await.expect("it is migrated");
    });
    let said = said.unwrap();
    assert!(said.compared == 1 && said.tenants.is_empty(), "{said:#?}");
}

/// A server that takes connections and then says nothing, in the middle of a look.
#[actix_web::test]
async fn a_database_that_falls_silent_holds_nobody_up() {
    let app = TestApp::builder().start().await;
    let proxy = FaultProxy::start(&app.server());
    app.cluster_behind("behind", &proxy).await;
    let silent = app.tenant_on("behind", "silent").await;
    let (fleet, only) = (app.fleet().with_look_deadline(seconds(2)), [silent.slug.to_string()]);
    let mut held = gate(silent.database()).await;
    let (said, ()) = tokio::join!(fleet.drift(&only, &Silent), async {
        is_waited_for(silent.database()).await;
        proxy.set(Fault::BlackHole).await;
        held.batch_execute("COMMIT").await.expect("nobody is in the way");
    });
    proxy.set(Fault::Pass).await;
    let said = said.unwrap();
    assert_eq!(said.tenants[0].error.as_deref(), Some("The database server did not answer within 2 s."), "{said:#?}");

    // Whoever wants the job to stop is heard all the same.
    let (operator, worker) = (app.operator(), app.fleet());
    let _held = gate(silent.database()).await;
    let asked = operator.post("/api/v1/admin/fleet/drift", json!({"only": only})).await.expect(202);
    worker.work().await.expect("the control plane answers");
    is_waited_for(silent.database()).await;
    let job = format!("/api/v1/admin/jobs/{}", asked.id());
    operator.post(&format!("{job}/cancel"), json!({})).await.expect(200);
    eventually(seconds(15), "it is cancelled", async || {
        operator.get(&job).await.expect(200).data()["state"] == "cancelled"
    })
    .await;
}

/// Whoever waits for a comparison may go away while it is made; its database and its role go too.
#[actix_web::test]
async fn what_tenants_are_compared_with_is_dropped_by_all_means() {
    const SCRATCH: &str = "SELECT datname::text AS word FROM pg_database WHERE datname LIKE 'tenantry_reference_%' \
                           UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'tenantry_reference_%'";
    let (app, server) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("east", &server.target()).await;
    let acme = app.tenant_on("east", "acme").await;
    let (fleet, only) = (app.fleet(), [acme.slug.to_string()]);
    let under_way = async || db::words(&server.target(), SCRATCH).await.len() == 2;
    tokio::select! {
        _ = fleet.drift(&only, &Silent) => panic!("it was to go away before"),
        () = eventually(seconds(60), "the reference is being made", under_way) => {}
    }
    eventually(seconds(60), "nothing is left", async || db::words(&server.target(), SCRATCH).await.is_empty()).await;
}

#[actix_web::test]
async fn who_cannot_be_compared_is_listed() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    db::execute(&app.server(), &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS false", acme.role())).await;
    let said = run(app, &["fleet", "drift", "--only", acme.slug.as_str(), "--output", "json"]).await.expect(3);
    assert!(said.json()["tenants"][0]["error"].is_string(), "{said:#?}");
    run(app, &["fleet", "drift", "--only", "nobody-has-this"]).await.expect(4);
}

#[actix_web::test]
async fn a_worker_compares_and_its_job_says_what_it_found() {
    const PATH: &str = "/api/v1/admin/fleet/drift";
    // Its own: workers of other tests would take what waits here.
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    db::execute(acme.database(), "ALTER TABLE contacts ADD age int").await;
    let (operator, worker) = (app.operator(), app.fleet());
    operator.post(PATH, json!({"only": ["nobody-has-this"]})).await.refused(404, "not_found");
    operator.post(PATH, json!({"every": true})).await.refused(422, "validation_failed");
    for (body, compared, differs) in [(json!({}), 2, true), (json!({"only": [globex.slug]}), 1, false)] {
        let asked = operator.post(PATH, body).await.expect(202);
        let location = asked.header("location").expect("where the job is").to_owned();
        assert_eq!((&asked.data()["kind"], &asked.data()["state"]), (&json!("drift"), &json!("queued")));
        assert_eq!(location, format!("/api/v1/admin/jobs/{}", asked.id()));
        operator.post(PATH, json!({})).await.refused(409, "conflict");
        eventually(seconds(60), "it is done", async || {
            worker.work().await.expect("the control plane answers");
            operator.get(&location).await.expect(200).data()["state"] == "done"
        })
        .await;
        let job = operator.get(&location).await.expect(200);
        let result = &job.data()["result"];
        assert_eq!((&result["compared"], &result["leftOut"]), (&json!(compared), &json!(0)), "{job:?}");
        let tenants = result["tenants"].as_array().expect("tenants");
        let found = tenants.iter().map(|one| (&one["slug"], &one["differences"][0]["object"]));
        let expected = (json!(acme.slug), json!("column public.contacts.age"));
        assert!(found.eq(differs.then_some((&expected.0, &expected.1))), "{job:?}");
    }
}
