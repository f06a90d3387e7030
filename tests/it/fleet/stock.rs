//! The stock of ready tenants: taken once each, never half-made, rebuilt when migrations change, crash-safe.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;

use futures_util::future::join_all;
use serde_json::json;
use tenantry::error::Code;
use tenantry::fleet::provision::CLAIMED;
use tenantry::fleet::stock::Kept;
use tenantry::fleet::{AdminPassword, CreateTenant, FirstAdmin, Fleet, Provisioned, Silent};
use tenantry::router::TenantStatus;
use tenantry::testing::TestApp;

use crate::support::binary::{program, run};
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "a password of some length";

/// Tenants that are made at once: some from the stock, the rest from the template.
const CROWD: usize = 40;
const STOCK_OF_CROWD: u32 = 15;

fn wanted(slug: &str) -> CreateTenant {
    let admin = FirstAdmin {
        email: format!("admin@{slug}.test"),
        password: AdminPassword::Given(PASSWORD.into()),
        first_name: "Ada".into(),
        last_name: "Admin".into(),
    };
    CreateTenant { admin: Some(admin), ..CreateTenant::named(slug.parse().unwrap()) }
}

async fn create(fleet: &Fleet, slug: &str) -> Provisioned {
    let made = fleet.create(&wanted(slug), &Default::default(), &Silent).await;
    made.unwrap_or_else(|error| panic!("{slug}: {error:?}"))
}

fn is_from_stock(made: &Provisioned) -> bool {
    let names: Vec<_> = made.steps.iter().map(|step| &*step.name).collect();
    names == CLAIMED
}

async fn login(app: &TestApp, slug: &str, password: &str) {
    let body = json!({"tenant": slug, "email": format!("admin@{slug}.test"), "password": password});
    let answer = app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    assert_eq!(answer.data()["user"]["roles"], json!(["admin"]));
}

/// The states of the stock, sorted.
async fn stock(app: &TestApp) -> Vec<String> {
    db::words(app.control_database(), "SELECT state AS word FROM ready_tenants ORDER BY 1").await
}

/// Databases and roles of the app's cluster that neither a tenant nor the stock of its installation knows.
async fn orphans(app: &TestApp) -> Vec<String> {
    let known = "SELECT database_name AS word FROM tenants UNION ALL SELECT database_name FROM ready_tenants";
    let known: HashSet<String> = db::words(app.control_database(), known).await.into_iter().collect();
    let ids = "SELECT DISTINCT 't_' || replace(tenant_id::text, '-', '') AS word FROM operations";
    let mut ever: HashSet<String> = db::words(app.control_database(), ids).await.into_iter().collect();
    ever.extend(known.iter().cloned());
    let there = "SELECT datname::text AS word FROM pg_database UNION ALL SELECT rolname FROM pg_roles";
    let there = db::words(&app.server(), there).await;
    there.into_iter().filter(|name| ever.contains(name) && !known.contains(name)).collect()
}

#[actix_web::test]
async fn a_tenant_is_taken_from_the_stock_and_the_stock_is_filled_again() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(2, None);
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 2, dropped: 0 });
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept::default());
    let born: Vec<_> = db::words(app.control_database(), "SELECT id::text AS word FROM ready_tenants").await;

    let slug = unique("ready");
    let made = create(&fleet, &slug).await;
    assert!(is_from_stock(&made), "{:?}", made.steps);
    assert!(born.contains(&made.tenant.id.to_string()));
    assert_eq!(made.tenant.status, TenantStatus::Active);
    assert_ne!(made.tenant.schema_version, 0);
    login(&app, &slug, PASSWORD).await;
    assert_eq!(stock(&app).await, ["ready"]);
    let steps = format!(
        "SELECT s.name AS word FROM operation_steps s JOIN operations o ON o.id = s.operation_id \
         WHERE o.slug = '{slug}' AND o.state = 'done' AND s.state = 'done' ORDER BY s.position"
    );
    assert_eq!(db::words(app.control_database(), &steps).await, CLAIMED);
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 1, dropped: 0 });

    // One that nobody waits for is taken from it too, and serves at once; without one, a worker makes it.
    for (status, job) in
        [(TenantStatus::Active, "done"), (TenantStatus::Active, "done"), (TenantStatus::Provisioning, "queued")]
    {
        let later = unique("later");
        let begun = fleet.create_later(&CreateTenant::named(later.parse().unwrap())).await.unwrap();
        let state = format!("SELECT state AS word FROM operations WHERE slug = '{later}'");
        assert_eq!((begun.status, &*db::word(app.control_database(), &state).await), (status, job));
    }
    assert_eq!(stock(&app).await, Vec::<String>::new());
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 2, dropped: 0 });
    // Its role is made for the usual ceiling.
    let wide = CreateTenant { max_connections: Some(200), ..CreateTenant::named(unique("wide").parse().unwrap()) };
    assert!(!is_from_stock(&fleet.create(&wide, &Default::default(), &Silent).await.unwrap()));

    // Without an administrator there is as little to do.
    let bare = CreateTenant::named(unique("bare").parse().unwrap());
    assert!(is_from_stock(&fleet.create(&bare, &Default::default(), &Silent).await.unwrap()));
    // A taken slug takes nothing.
    let refused = fleet.create(&wanted(&slug), &Default::default(), &Silent).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(stock(&app).await, ["ready"]);
}

/// Nobody waits, and the administrator is there. Where the stock has none, nothing is begun.
#[actix_web::test]
async fn one_that_nobody_waits_for_has_its_administrator_from_the_stock() {
    const TENANTS: &str = "/api/v1/admin/tenants";
    let app = TestApp::builder().start().await;
    app.fleet_with_stock(2, None).keep_stock().await.unwrap();
    let (first, second, never) = (unique("first"), unique("second"), unique("never"));
    let create = async |slug: &str| {
        let email = format!("admin@{slug}.test");
        run(&app, &["tenant", "create", slug, "--admin-email", &email, "--no-wait", "--output", "json"]).await
    };
    let body = |slug: &str| json!({"slug": slug, "adminEmail": format!("admin@{slug}.test"), "noWait": true});
    let post = async |slug: &str| app.operator().post(TENANTS, body(slug)).await;
    // However many there are, none is made for so many connections.
    let mut wide = body(&never);
    wide["maxConnections"] = json!(91);
    let refused = app.operator().post(TENANTS, wide).await.expect(422);
    assert_eq!(refused.invalid(), [("noWait".to_owned(), "needs_wait".to_owned())]);
    assert!(refused.text.contains("so many connections"), "{refused:?}");
    assert_eq!(stock(&app).await, ["ready", "ready"]);
    let made = create(&first).await.expect(0).json();
    assert_eq!(made["status"], "active", "{made}");
    login(&app, &first, made["adminPassword"].as_str().unwrap()).await;
    let made = post(&second).await.expect(201);
    assert_eq!(made.data()["status"], "active", "{made:?}");
    login(&app, &second, made.data()["adminPassword"].as_str().unwrap()).await;

    assert_eq!(stock(&app).await, Vec::<String>::new());
    let refused = create(&never).await.expect(4);
    assert!(refused.stderr.contains("--no-wait"), "{refused:#?}");
    assert_eq!(post(&never).await.expect(422).invalid(), [("noWait".to_owned(), "needs_wait".to_owned())]);
    app.operator().get(&format!("{TENANTS}/{never}")).await.expect(404);
}

/// A worker makes whole what was taken and was not what it should be.
#[actix_web::test]
async fn one_that_nobody_waits_for_is_made_by_a_worker_where_the_stock_is_ill() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(1, None);
    fleet.keep_stock().await.unwrap();
    let name = db::word(app.control_database(), "SELECT database_name AS word FROM ready_tenants").await;
    db::execute(&app.server(), &format!("DROP DATABASE {name}")).await;
    let later = fleet.create_later(&CreateTenant::named(unique("ill").parse().unwrap())).await.unwrap();
    assert_eq!((later.status, later.database_name), (TenantStatus::Provisioning, name));
    eventually(seconds(30), "it serves", async || {
        fleet.work().await.unwrap();
        fleet.get(&later.id.to_string()).await.unwrap().status == TenantStatus::Active
    })
    .await;
}

#[actix_web::test]
async fn a_stock_of_old_migrations_is_taken_by_nobody_and_made_anew() {
    let app = TestApp::builder().start().await;
    assert_eq!(app.fleet_with_stock(1, None).keep_stock().await.unwrap().made, 1);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("V1__orders.sql"), "CREATE TABLE orders (id int);").unwrap();
    let fleet = app.fleet_with_stock(1, Some(directory.path()));

    let made = create(&fleet, &unique("newer")).await;
    assert!(!is_from_stock(&made), "it lacks a table: {:?}", made.steps);
    // One with other files of the same release may be another node's, for a while.
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 1, dropped: 0 });
    let age = "UPDATE ready_tenants SET created_at = created_at - interval '1 minute' \
               WHERE migrations = (SELECT migrations FROM ready_tenants ORDER BY created_at LIMIT 1)";
    db::execute(app.control_database(), age).await;
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 0, dropped: 1 });
    assert_eq!(orphans(&app).await, Vec::<String>::new());

    let made = create(&fleet, &unique("newer")).await;
    assert!(is_from_stock(&made), "{:?}", made.steps);
    let database = app.server().with_database(&made.tenant.database_name);
    assert_eq!(db::word(&database, "SELECT count(id)::text AS word FROM orders").await, "0");
}

/// Somebody gave its role something elsewhere on the server.
#[actix_web::test]
async fn one_that_cannot_be_dropped_keeps_no_other_and_the_stock_is_filled() {
    let app = TestApp::builder().start().await;
    assert_eq!(app.fleet_with_stock(2, None).keep_stock().await.unwrap().made, 2);
    let first = "SELECT role_name AS word FROM ready_tenants ORDER BY created_at LIMIT 1";
    let role = db::word(app.control_database(), first).await;
    let held = unique("held").replace('-', "_");
    db::execute(&app.server(), &format!("CREATE DATABASE {held} OWNER {role} TEMPLATE template0")).await;
    let age = "UPDATE ready_tenants SET created_at = created_at - interval '1 minute'";
    db::execute(app.control_database(), age).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("V1__orders.sql"), "CREATE TABLE orders (id int);").unwrap();
    let fleet = app.fleet_with_stock(2, Some(directory.path()));

    fleet.keep_stock().await.expect_err("one is still there");
    assert_eq!(stock(&app).await, ["dropping", "ready", "ready"]);
    let made = create(&fleet, &unique("after")).await;
    assert!(is_from_stock(&made), "{:?}", made.steps);
    fleet.keep_stock().await.expect_err("it is tried again");
    assert_eq!(stock(&app).await, ["dropping", "ready", "ready"]);

    db::execute(&app.server(), &format!("DROP DATABASE {held}")).await;
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 0, dropped: 1 });
    assert_eq!(orphans(&app).await, Vec::<String>::new());
}

/// Nobody can take it meanwhile, and what was begun is dropped by whoever looks next.
#[actix_web::test]
async fn a_ready_tenant_that_was_never_finished_is_dropped() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(1, None);
    for begun in ["role", "database"] {
        let looks = match begun {
            "role" => "SELECT r.id::text AS word FROM ready_tenants r",
            _ => "SELECT r.id::text AS word FROM ready_tenants r WHERE state = 'making'",
        };
        let interrupted = actix_web::rt::spawn({
            let fleet = fleet.clone();
            async move { fleet.keep_stock().await }
        });
        let control = app.control_database().clone();
        eventually(seconds(20), "one is in the making", async || !db::words(&control, looks).await.is_empty()).await;
        let names = db::words(&control, "SELECT database_name AS word FROM ready_tenants").await;
        let object = match begun {
            "role" => format!("SELECT rolname::text AS word FROM pg_roles WHERE rolname = '{}'", names[0]),
            _ => format!("SELECT datname::text AS word FROM pg_database WHERE datname = '{}'", names[0]),
        };
        let server = app.server();
        eventually(seconds(20), begun, async || !db::words(&server, &object).await.is_empty()).await;
        interrupted.abort();
        let _ = interrupted.await;
        // It may have come to its end in the same moment.
        if stock(&app).await == ["making"] {
            let made = create(&fleet, &unique("meanwhile")).await;
            assert!(!is_from_stock(&made));
        }
        eventually(seconds(20), "the stock is whole", async || {
            fleet.keep_stock().await.unwrap();
            stock(&app).await == ["ready"]
        })
        .await;
        assert_eq!(orphans(&app).await, Vec::<String>::new());
        create(&fleet, &unique("after")).await;
    }
}

#[actix_web::test]
async fn after_a_crash_at_any_step_of_taking_one_the_same_command_resumes() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(1, None);
    for step in CLAIMED {
        assert_eq!(fleet.keep_stock().await.unwrap().made, 1);
        let slug = unique("crash");
        let email = format!("admin@{slug}.test");
        let create = ["tenant", "create", &slug, "--admin-email", &email, "--output", "json"];
        let halted = [&create[..], &["--halt-after", step]].concat();
        let output = program(&app.environment(), &halted).output().await.expect("the program runs");
        assert!(output.status.signal().is_some(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(stock(&app).await, Vec::<String>::new(), "{step}: it was taken");

        let status = format!("SELECT status || ' ' || database_name AS word FROM tenants WHERE slug = '{slug}'");
        let before = db::word(app.control_database(), &status).await;
        let again = run(&app, &create).await;
        if *step == "activate" {
            // It was done, and journaled: the slug is taken.
            again.expect(4);
            assert!(before.starts_with("active "), "{before}");
        } else {
            assert!(before.starts_with("provisioning "), "{step}: {before}");
            let body = json!({"tenant": slug, "email": email, "password": "whatever it was"});
            app.anonymous().post("/api/v1/auth/login", body).await.refused(401, "invalid_credentials");
            let made = again.expect(0).json();
            let password = made["adminPassword"].as_str().expect("a password");
            login(&app, &slug, password).await;
        }
        let after = db::word(app.control_database(), &status).await;
        assert_eq!(after.split_once(' ').unwrap().1, before.split_once(' ').unwrap().1, "{step}: the same database");
        let admins = format!(
            "SELECT count(*)::text AS word FROM tenants t JOIN signing_keys k ON k.tenant_id = t.id \
                              WHERE slug = '{slug}'"
        );
        assert_eq!(db::word(app.control_database(), &admins).await, "1", "{step}: one key");
        assert_eq!(orphans(&app).await, Vec::<String>::new());
    }
}

#[actix_web::test]
async fn a_ready_tenant_that_is_not_what_it_should_be_is_made_whole() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(1, None);
    fleet.keep_stock().await.unwrap();
    let name = db::word(app.control_database(), "SELECT database_name AS word FROM ready_tenants").await;
    db::execute(&app.server(), &format!("DROP DATABASE {name}")).await;
    let slug = unique("gone");
    let made = create(&fleet, &slug).await;
    assert_eq!((made.tenant.database_name.as_str(), is_from_stock(&made)), (&*name, false));
    login(&app, &slug, PASSWORD).await;
}

#[actix_web::test]
async fn a_cluster_that_is_removed_takes_its_stock_with_it() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let fleet = app.fleet_with_stock(1, None);
    assert_eq!(fleet.keep_stock().await.unwrap().made, 2);
    run(&app, &["cluster", "drain", "second"]).await.expect(0);
    assert_eq!(fleet.keep_stock().await.unwrap(), Kept { made: 0, dropped: 1 });
    run(&app, &["cluster", "drain", "second", "--undo"]).await.expect(0);
    assert_eq!(fleet.keep_stock().await.unwrap().made, 1);
    let removed = run(&app, &["cluster", "remove", "second", "--yes", "--output", "json"]).await.expect(0).json();
    assert_eq!(removed, json!({"name": "second", "gone": true}));
    assert_eq!(stock(&app).await, ["ready"]);
    assert_eq!(orphans(&app).await, Vec::<String>::new());
}

/// Several nodes fill it at the same time, and none fills it twice.
#[actix_web::test]
async fn nodes_keep_one_stock_together() {
    let app = TestApp::builder().start().await;
    let nodes: Vec<_> = (0..3).map(|_| app.fleet_with_stock(2, None)).collect();
    let kept: usize = join_all(nodes.iter().map(Fleet::keep_stock)).await.into_iter().map(|k| k.unwrap().made).sum();
    assert_eq!((kept, stock(&app).await.len()), (2, 2));
}

async fn crowd(size: usize, stocked: u32) {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet_with_stock(stocked, None);
    fleet.keep_stock().await.unwrap();
    // As over REST: each of the crowd asks by itself, and the stock is filled meanwhile.
    let nodes: Vec<_> = (0..2).map(|_| app.fleet_with_stock(stocked, None)).collect();
    let slugs: Vec<_> = (0..size).map(|_| unique("crowd")).collect();
    let asking = slugs.iter().enumerate().map(|(n, slug)| create(&nodes[n % nodes.len()], slug));
    let (made, kept) = futures_util::future::join(join_all(asking), fleet.keep_stock()).await;
    kept.unwrap();

    let from_stock = made.iter().filter(|made| is_from_stock(made)).count();
    assert!(from_stock >= stocked as usize && from_stock < size, "{from_stock} from the stock");
    let databases: HashSet<_> = made.iter().map(|made| made.tenant.database_name.clone()).collect();
    assert_eq!(databases.len(), size, "none doubled");
    let active = "SELECT count(*)::text AS word FROM tenants WHERE status = 'active' AND schema_version > 0";
    assert_eq!(db::word(app.control_database(), active).await, size.to_string(), "none lost, none half-made");
    let open = "SELECT slug AS word FROM operations WHERE state <> 'done'";
    assert_eq!(db::words(app.control_database(), open).await, Vec::<String>::new());
    assert_eq!(orphans(&app).await, Vec::<String>::new());
    for slug in slugs.iter().step_by(size / 5) {
        login(&app, slug, PASSWORD).await;
    }
}

#[actix_web::test]
async fn many_at_once_are_neither_lost_nor_doubled_nor_half_made() {
    crowd(CROWD, STOCK_OF_CROWD).await;
}

#[actix_web::test]
#[ignore = "takes a minute of both processors: `make test ARGS='-- --ignored'`"]
async fn two_hundred_at_once_are_neither_lost_nor_doubled_nor_half_made() {
    crowd(200, 60).await;
}
