//! Clusters over REST and on the command line: what their servers are, what room they have, who is placed where.

use diesel_async::SimpleAsyncConnection as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::fleet::{CreateTenant, Silent};
use tenantry::testing::TestApp;

use crate::support::binary::{run, run_with};
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn an_operator_sees_changes_and_removes_a_cluster() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let operator = app.operator();
    let path = "/api/v1/admin/clusters/second";
    let seen = operator.get(path).await.expect(200);
    let server = &seen.data()["server"];
    assert!(server["version"].as_str().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())));
    assert!(server["extensions"].as_array().is_some_and(|all| all.contains(&json!("plpgsql"))), "{server}");
    assert!(server["bytes"].as_i64() > Some(1_000_000) && server["connections"].as_i64() > Some(0), "{server}");
    let room = &seen.data()["headRoom"];
    assert_eq!((&room["tenants"], room["connections"].is_number()), (&json!(null), true), "{room}");
    assert!(!seen.text.contains("password") && !seen.text.contains("postgres://"), "{seen:?}");

    let etag = seen.header("etag").unwrap().to_owned();
    let body = json!({"region": "eu", "maxTenants": 5, "connectionBudget": 7});
    let changed = operator.with("if-match", &etag).patch(path, body.clone()).await.expect(200);
    assert_eq!((&changed.data()["region"], &changed.data()["headRoom"]["tenants"]), (&json!("eu"), &json!(5)));
    assert!(changed.data()["headRoom"]["beyondBudget"].as_i64() > Some(0), "{changed:?}");
    operator.with("if-match", &etag).patch(path, body).await.refused(412, "version_mismatch");
    operator.patch(path, json!({"maxTenants": null, "draining": true})).await.expect(200);
    operator.patch(path, json!({"maxTenants": 0})).await.refused(422, "validation_failed");
    for field in ["draining", "adminUrl"] {
        let null = operator.patch(path, json!({field: null})).await;
        assert_eq!(null.invalid(), [(field.to_owned(), "required".to_owned())]);
    }
    operator.patch(path, json!({"tlsMode": "require"})).await.refused(422, "validation_failed");
    operator.patch(path, json!({"name": "other"})).await.refused(422, "validation_failed");
    let listed = run(&app, &["cluster", "list", "--output", "json"]).await.expect(0).json();
    assert_eq!((&listed[1]["draining"], &listed[1]["connectionBudget"]), (&json!(true), &json!(7)));
    run(&app, &["cluster", "show", "second"]).await.expect(0);
    assert_eq!(listed[1]["connectionBudgetIsDefault"], json!(false));

    // Without a number of its own it has that of the settings, and says so.
    let back = operator.patch(path, json!({"connectionBudget": null})).await.expect(200);
    let back = back.data();
    assert_eq!((&back["connectionBudget"], &back["connectionBudgetIsDefault"]), (&json!(80), &json!(true)));
    assert!(back["headRoom"]["beyondBudget"].is_number(), "{back}");
    let mut environment = app.environment();
    environment.push(("TENANTRY_ROUTER__CLUSTER_BUDGET".into(), "12".into()));
    let show = run_with(&environment, &["cluster", "show", "second", "--output", "json"]).await.expect(0).json();
    assert_eq!((&show["connectionBudget"], &show["connectionBudgetIsDefault"]), (&json!(12), &json!(true)));

    operator.delete(path).await.expect(204);
    operator.delete(path).await.expect(404);
    operator.get(path).await.expect(404);
    app.tenant("acme").await;
    operator.delete("/api/v1/admin/clusters/local").await.refused(409, "conflict");
    // Refused, it is as it was.
    let local = operator.get("/api/v1/admin/clusters/local").await.expect(200);
    assert_eq!(local.data()["draining"], json!(false));
}

#[actix_web::test]
async fn a_tenant_is_placed_by_region_and_by_name_where_there_is_room() {
    let app = TestApp::builder().start().await;
    app.cluster("eu-1", &app.server()).await;
    run(&app, &["cluster", "set", "eu-1", "--region", "eu", "--max-tenants", "2"]).await.expect(0);
    let create = async |arguments: &[&str]| {
        let slug = unique("placed");
        run(&app, &[&["tenant", "create", &slug, "--output", "json"], arguments].concat()).await
    };
    let made = create(&["--region", "eu", "--plan", "gold"]).await.expect(0).json();
    assert_eq!((&made["cluster"], &made["plan"]), (&json!("eu-1"), &json!("gold")));
    // The least loaded one is the other.
    assert_eq!(create(&[]).await.expect(0).json()["cluster"], json!("local"));
    create(&["--plan", "No Plan"]).await.expect(4);
    create(&["--region", "mars"]).await.expect(4);
    create(&["--cluster", "local", "--region", "eu"]).await.expect(4);
    create(&["--cluster", "eu-1"]).await.expect(0);
    let full = create(&["--cluster", "eu-1"]).await.expect(4);
    assert!(full.stderr.contains("full"), "{full:?}");
    create(&["--region", "eu"]).await.expect(4);
    let draining = json!({"draining": true});
    app.operator().patch("/api/v1/admin/clusters/local", draining).await.expect(200);
    let draining = create(&["--cluster", "local"]).await.expect(4);
    assert!(draining.stderr.contains("draining"), "{draining:?}");
    let begun = "SELECT slug AS word FROM tenants WHERE status <> 'active'";
    assert_eq!(db::words(app.control_database(), begun).await, Vec::<String>::new());
}

/// Whatever is in the way of it, and whenever it is seen.
#[actix_web::test]
async fn a_cluster_that_cannot_be_removed_takes_tenants_as_before() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let stock = app.fleet_with_stock(1, None);
    let ready = "SELECT count(*)::text AS word FROM ready_tenants JOIN clusters c ON c.id = cluster_id \
                 WHERE c.name = 'second' AND state = 'ready'";
    let draining = async || {
        let shown = run(&app, &["cluster", "show", "second", "--output", "json"]).await.expect(0).json();
        shown["draining"].clone()
    };
    stock.keep_stock().await.unwrap();
    let keep = "INSERT INTO kept_databases (id, tenant_id, cluster_id, database_name, left_by, purge_after) \
                SELECT gen_random_uuid(), gen_random_uuid(), id, 'left', 'move', now() + interval '1 day' \
                FROM clusters WHERE name = 'second'";
    db::execute(app.control_database(), keep).await;
    let refused = app.operator().delete("/api/v1/admin/clusters/second").await.refused(409, "conflict");
    assert!(refused.text.contains("tenant kept"), "{refused:?}");
    assert!(run(&app, &["cluster", "remove", "second", "--yes"]).await.expect(4).stderr.contains("tenant kept"));
    assert_eq!(draining().await, json!(false));
    assert_eq!(db::word(app.control_database(), ready).await, "1", "its stock is as it was");
    run(&app, &["tenant", "create", &unique("still"), "--cluster", "second"]).await.expect(0);

    // What comes in its way only after its stock is gone.
    let late = "DELETE FROM kept_databases; \
                CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    RAISE foreign_key_violation USING TABLE = 'tenants'; END $$; \
                CREATE TRIGGER in_the_way BEFORE DELETE ON clusters FOR EACH ROW EXECUTE FUNCTION in_the_way()";
    db::execute(app.control_database(), late).await;
    for slug in db::words(app.control_database(), "SELECT slug AS word FROM tenants WHERE slug LIKE 'still%'").await {
        run(&app, &["tenant", "delete", &slug, "--now", "--yes"]).await.expect(0);
    }
    app.operator().delete("/api/v1/admin/clusters/second").await.refused(409, "conflict");
    assert_eq!(draining().await, json!(false));
    let made = "CREATE OR REPLACE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    RAISE foreign_key_violation USING TABLE = 'ready_tenants'; END $$";
    db::execute(app.control_database(), made).await;
    let refused = app.operator().delete("/api/v1/admin/clusters/second").await.refused(409, "conflict");
    assert!(refused.text.contains("is being made"), "{refused:?}");
    // One that drained goes on with that.
    run(&app, &["cluster", "drain", "second", "--no-move"]).await.expect(0);
    app.operator().delete("/api/v1/admin/clusters/second").await.refused(409, "conflict");
    assert_eq!(draining().await, json!(true));
}

/// As `kill -9` leaves it: nobody has to undo anything. While it is under way, nobody works against it.
#[actix_web::test]
async fn a_removal_that_is_interrupted_leaves_the_cluster_as_it_was() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    app.tenant("acme").await;
    let (control, stock) = (app.control_database(), app.fleet_with_stock(1, None));
    assert_eq!(stock.keep_stock().await.unwrap().made, 2);
    let waits = async |what: &str| {
        let waiting = format!(
            "SELECT count(*)::text AS word FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '{what}%'"
        );
        eventually(seconds(20), what, async || db::word(control, &waiting).await == "1").await;
    };
    let remove = || {
        let fleet = app.fleet();
        actix_web::rt::spawn(async move { fleet.remove_cluster("second").await })
    };
    let mut gate = db::open(control).await;
    gate.batch_execute("BEGIN; LOCK TABLE ready_tenants IN EXCLUSIVE MODE").await.expect("nobody has it");
    let interrupted = remove();
    waits("UPDATE \"ready_tenants\"").await;
    interrupted.abort();
    let _ = interrupted.await;
    gate.batch_execute("ROLLBACK").await.unwrap();
    let shown = run(&app, &["cluster", "show", "second", "--output", "json"]).await.expect(0).json();
    assert_eq!(shown["draining"], json!(false));
    let ready = "SELECT count(*)::text AS word FROM ready_tenants WHERE state = 'ready'";
    eventually(seconds(20), "its stock is whole", async || {
        stock.keep_stock().await.unwrap();
        db::word(control, ready).await == "2"
    })
    .await;

    // Its stock has gone, and its row waits.
    gate.batch_execute("BEGIN; SELECT FROM clusters WHERE name = 'second' FOR NO KEY UPDATE").await.unwrap();
    let whole = remove();
    waits("DELETE").await;
    assert_eq!(stock.keep_stock().await.unwrap().made, 0, "nobody fills what goes");
    // The least loaded one is that.
    let made = run(&app, &["tenant", "create", &unique("elsewhere"), "--output", "json"]).await.expect(0).json();
    assert_eq!(made["cluster"], json!("local"));
    let refused = run(&app, &["tenant", "create", &unique("named"), "--cluster", "second"]).await.expect(4);
    assert!(refused.stderr.contains("is being removed"), "{refused:?}");
    gate.batch_execute("ROLLBACK").await.unwrap();
    whole.await.unwrap().unwrap();
    app.operator().get("/api/v1/admin/clusters/second").await.expect(404);
}

/// Whoever makes one has the right to it, and ends it in another state than the removal has seen.
#[actix_web::test]
async fn a_removal_waits_for_the_ready_tenant_that_is_being_made() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let control = app.control_database();
    app.fleet_with_stock(1, None).keep_stock().await.unwrap();
    let making =
        "UPDATE ready_tenants SET state = 'making' WHERE cluster_id = (SELECT id FROM clusters WHERE name = 'second')";
    db::execute(control, making).await;
    let mut maker = db::open(control).await;
    let hold = "SELECT pg_advisory_lock(('x' || left(encode(sha256(convert_to('tenant operation ' || id, 'UTF8')), 'hex'), \
                16))::bit(64)::bigint) FROM ready_tenants WHERE state = 'making'";
    maker.batch_execute(hold).await.unwrap();
    let asking = "SELECT (count(*) >= 2)::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                  AND application_name = 'tenantry-provision' AND query LIKE 'SELECT pg_try_advisory_lock(%'";
    let fleet = app.fleet();
    let removal = actix_web::rt::spawn(async move { fleet.remove_cluster("second").await });
    // One asks for the removal, and one, when the stock was seen, for the tenant.
    eventually(seconds(20), "it waits for the maker", async || db::word(control, asking).await == "true").await;
    maker.batch_execute("UPDATE ready_tenants SET state = 'ready'").await.unwrap();
    maker.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    removal.await.unwrap().unwrap();
    app.operator().get("/api/v1/admin/clusters/second").await.expect(404);
}

/// What `serve` would refuse to start with is refused before it stands in the registry.
#[actix_web::test]
async fn a_server_that_cannot_keep_the_budget_is_refused() {
    let app = TestApp::builder().connection_budget(100).start().await;
    let small = Server::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = small.target().to_url();
    std::fs::write(file.path(), url.expose_secret()).unwrap();
    let (operator, path) = (app.operator(), "/api/v1/admin/clusters/local");
    let change =
        ["cluster", "set", "local", "--admin-url-file", file.path().to_str().unwrap(), "--tls-mode", "disable"];
    let arithmetic = "max_connections 60 - 3 reserved = 57";
    let too_large = [("connectionBudget".to_owned(), "too_large".to_owned())];

    let own = run(&app, &change).await.expect(4);
    assert!(own.stderr.contains("budget of 100") && own.stderr.contains(arithmetic), "{own:#?}");
    let moved =
        |budget: Value| json!({"adminUrl": url.expose_secret(), "tlsMode": "disable", "connectionBudget": budget});
    for budget in [json!(58), json!(null)] {
        let refused = operator.patch(path, moved(budget)).await.expect(422);
        assert_eq!(refused.invalid(), too_large);
        assert!(refused.text.contains(arithmetic), "{refused:?}");
    }
    let default = run(&app, &[&change[..], &["--connection-budget", "default"]].concat()).await.expect(4);
    assert!(default.stderr.contains("budget of 80"), "{default:#?}");

    let taken = operator.patch(path, moved(json!(57))).await.expect(200);
    assert_eq!(taken.data()["connectionBudget"], json!(57));
    // And it stays where it is, for the nodes' own budget is more than it has.
    let back = run(&app, &["cluster", "set", "local", "--connection-budget", "default"]).await.expect(4);
    assert!(back.stderr.contains("budget of 80") && back.stderr.contains(arithmetic), "{back:#?}");
    let back = operator.patch(path, json!({"connectionBudget": null})).await.expect(422);
    assert_eq!(back.invalid(), too_large);
}

/// As `tenantry dev` writes the one of its own cluster.
#[actix_web::test]
async fn a_server_s_url_says_itself_what_the_server_has_to_prove() {
    let app = TestApp::builder().start().await;
    let second = Server::start().await;
    let (file, plain) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let url = second.target().to_url().expose_secret().to_owned();
    let silent = url.strip_suffix("?sslmode=disable").expect("it says so");
    std::fs::write(file.path(), &url).unwrap();
    std::fs::write(plain.path(), silent).unwrap();
    let (file, plain) = (file.path().to_str().unwrap(), plain.path().to_str().unwrap());
    let add = |file| ["cluster", "add", "second", "--admin-url-file", file, "--output", "json"];
    let (operator, path) = (app.operator(), "/api/v1/admin/clusters/second");

    let refused = run(&app, &[&add(file)[..], &["--tls-mode", "require"]].concat()).await.expect(4);
    let line = "sslmode in the database URL is 'disable', and the TLS mode 'require'; leave one of them out";
    assert!(refused.stderr.contains(line), "{refused:#?}");
    let both = json!({"name": "second", "adminUrl": url, "tlsMode": "verify-full"});
    let refused = operator.post("/api/v1/admin/clusters", both).await;
    assert_eq!(refused.invalid(), [("adminUrl".to_owned(), "invalid".to_owned())]);
    // Nobody said that it may speak in plain text.
    let refused = run(&app, &add(plain)).await.expect(4);
    assert!(refused.stderr.contains("does not speak TLS"), "{refused:#?}");
    assert_eq!(run(&app, &add(file)).await.expect(0).json()["tlsMode"], "disable");
    for change in [json!({"adminUrl": url}), json!({"adminUrl": url, "tlsMode": null})] {
        assert_eq!(operator.patch(path, change).await.expect(200).data()["tlsMode"], "disable");
    }
    operator.patch(path, json!({"adminUrl": silent})).await.expect(422);
    let set = run(&app, &["cluster", "set", "second", "--admin-url-file", file, "--output", "json"]).await.expect(0);
    assert_eq!(set.json()["tlsMode"], "disable");
}

/// Those who ask at the same moment do not all see the last place free.
#[actix_web::test]
async fn a_cluster_never_takes_more_than_its_bound() {
    let app = TestApp::builder().start().await;
    run(&app, &["cluster", "set", "local", "--max-tenants", "3"]).await.expect(0);
    let fleet = app.fleet_with_stock(5, None);
    assert_eq!(fleet.keep_stock().await.unwrap().made, 3, "no more than it takes");
    let asking = (0..8).map(|_| {
        let fleet = fleet.clone();
        async move {
            let wanted = CreateTenant::named(unique("bound").parse().unwrap());
            fleet.create(&wanted, &Default::default(), &Silent).await.is_ok()
        }
    });
    let made = futures_util::future::join_all(asking).await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 3);
    assert_eq!(fleet.keep_stock().await.unwrap().made, 0);
}

#[actix_web::test]
async fn servers_are_looked_at_again_when_what_is_known_is_old() {
    let app = TestApp::builder().start().await;
    let fleet = app.fleet();
    assert_eq!(fleet.look_at_clusters().await.unwrap(), 0, "it was looked at when it was added");
    let bytes = "SELECT bytes::text AS word FROM cluster_facts WHERE probed_at > now() - interval '1 minute'";
    let looked = async |measured: &str| {
        let old = format!(
            "UPDATE cluster_facts SET bytes = 1, probed_at = now() - interval '1 hour', bytes_at = now() - {measured}::interval"
        );
        db::execute(app.control_database(), &old).await;
        assert_eq!(fleet.look_at_clusters().await.unwrap(), 1);
        db::word(app.control_database(), bytes).await
    };
    assert_eq!(looked("'14 minutes'").await, "1", "measuring is the dear part of a look");
    assert_ne!(looked("'16 minutes'").await, "1");
}

#[actix_web::test]
async fn a_tenant_is_made_once_per_key_and_lists_have_numbered_pages() {
    let app = TestApp::builder().start().await;
    let operator = app.operator();
    let once = operator.with("idempotency-key", &unique("key"));
    let slug = unique("once");
    let body = json!({"slug": slug, "adminEmail": format!("a@{slug}.test"), "plan": "gold"});
    let first = once.post("/api/v1/admin/tenants", body.clone()).await.expect(201);
    assert!(first.data()["adminPassword"].is_string());
    let again = once.post("/api/v1/admin/tenants", body).await.expect(201);
    assert_eq!((again.header("idempotency-replayed"), again.id()), (Some("true"), first.id()));
    assert_eq!((again.header("location"), again.header("etag")), (first.header("location"), first.header("etag")));
    assert_eq!((&again.data()["plan"], &again.data()["adminPassword"]), (&json!("gold"), &json!(null)));
    once.post("/api/v1/admin/tenants", json!({"slug": unique("other")})).await.refused(422, "idempotency_key_reused");

    for _ in 0..2 {
        operator.post("/api/v1/admin/tenants", json!({"slug": unique("more")})).await.expect(201);
    }
    let page = operator.get("/api/v1/admin/tenants?pageSize=2&page=2").await.expect(200);
    assert_eq!(page.data().as_array().map(Vec::len), Some(1));
    operator.get("/api/v1/admin/tenants?page=0").await.refused(400, "invalid_query");
    let total = async |path: &str| {
        let page = operator.get(&format!("/api/v1/admin/{path}pageSize=1&includeTotal=true")).await.expect(200);
        page.body["meta"]["pagination"]["total"].clone()
    };
    assert_eq!((total("tenants?").await, total(&format!("tenants?q={slug}&")).await), (json!(3), json!(1)));
    let jobs = operator.get("/api/v1/admin/jobs?kind=create&pageSize=100").await.expect(200);
    assert_eq!(total("jobs?kind=create&").await, json!(jobs.data().as_array().map_or(0, Vec::len)));
    assert_eq!(total("jobs?kind=create&state=failed&").await, json!(0));
    assert_eq!(total("audit?actor=nobody&").await, json!(0));
}

/// As `kill -9` leaves it between the tenant and the answer: the same key finds what it made.
#[actix_web::test]
async fn a_key_whose_answer_was_lost_finds_its_tenant() {
    let app = TestApp::builder().start().await;
    let once = app.operator().with("idempotency-key", &unique("key"));
    let slug = unique("lost");
    let body = json!({"slug": slug, "adminEmail": format!("a@{slug}.test")});
    let first = once.post("/api/v1/admin/tenants", body.clone()).await.expect(201);
    let lost = "UPDATE request_records SET status = NULL, location = NULL, version = NULL, body = NULL";
    db::execute(app.control_database(), lost).await;
    app.operator().post("/api/v1/admin/tenants", body.clone()).await.refused(409, "already_exists");
    for _ in 0..2 {
        let again = once.post("/api/v1/admin/tenants", body.clone()).await.expect(201);
        assert_eq!((again.id(), again.header("location")), (first.id(), first.header("location")));
        assert_eq!(again.data()["steps"].as_array().map(Vec::len), first.data()["steps"].as_array().map(Vec::len));
        assert!(first.data()["adminPassword"].is_string() && again.data()["adminPassword"].is_null(), "{again:?}");
    }
    // It goes on with what was half made, and then there is a password to tell.
    let interrupted = format!(
        "{lost}; UPDATE tenants SET status = 'provisioning'; DELETE FROM operation_steps; \
         UPDATE operations SET state = 'running', finished_at = NULL"
    );
    db::execute(app.control_database(), &interrupted).await;
    let again = once.post("/api/v1/admin/tenants", body).await.expect(201);
    assert_eq!((again.id(), &again.data()["status"]), (first.id(), &json!("active")));
    let login = json!({"tenant": slug, "email": format!("a@{slug}.test"), "password": again.data()["adminPassword"]});
    app.anonymous().post("/api/v1/auth/login", login).await.expect(200);
}
