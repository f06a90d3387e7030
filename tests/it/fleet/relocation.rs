//! A tenant to another server: under writes, after a crash at any step, and when something is in the way.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tenantry::fleet::relocate::Step;
use tenantry::router::Target;
use tenantry::testing::{Tenant, TestApp};

use crate::support::binary::{Said, program, run};
use crate::support::servers::Server;
use crate::support::{db, eventually, say, seconds};

const CONTACTS: &str = "/api/v1/contacts";

/// A server that others can subscribe to.
async fn logical() -> Server {
    let settings = [("wal_level", "logical"), ("max_wal_senders", "10"), ("max_replication_slots", "10")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Server::start_with(|options| tenantry::dev::LocalPostgresOptions { settings: settings.into(), ..options }).await
}

/// Two servers that a tenant can be moved between.
struct Ground {
    app: TestApp,
    servers: Vec<(&'static str, Server)>,
}

impl Ground {
    async fn new() -> Self {
        let app = TestApp::builder().start().await;
        let mut servers = Vec::new();
        for name in ["east", "west"] {
            let server = logical().await;
            app.cluster(name, &server.target()).await;
            servers.push((name, server));
        }
        Self { app, servers }
    }

    fn server(&self, name: &str) -> Target {
        self.servers.iter().find(|(known, _)| *known == name).expect("east or west").1.target()
    }

    /// Where the tenant's role may log in, and where its database is.
    async fn there(&self, tenant: &Tenant) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut open, mut databases) = (Vec::new(), Vec::new());
        for (name, server) in &self.servers {
            let role =
                format!("SELECT 'open' AS word FROM pg_roles WHERE rolname = '{}' AND rolcanlogin", tenant.role());
            let database = format!("SELECT datname::text AS word FROM pg_database WHERE datname = '{}'", tenant.role());
            open.extend((!db::words(&server.target(), &role).await.is_empty()).then_some(*name));
            databases.extend((!db::words(&server.target(), &database).await.is_empty()).then_some(*name));
        }
        (open, databases)
    }

    /// What replication makes, anywhere.
    async fn leftovers(&self) -> Vec<String> {
        let query = "SELECT rolname::text AS word FROM pg_roles WHERE rolname LIKE 'tenantry\\_move%' \
                     UNION ALL SELECT slot_name::text FROM pg_replication_slots \
                     UNION ALL SELECT subname::text FROM pg_subscription";
        let mut all = Vec::new();
        for (_, server) in &self.servers {
            all.extend(db::words(&server.target(), query).await);
        }
        all
    }

    async fn moving(&self, tenant: &Tenant, more: &[&str]) -> Said {
        let arguments = [&["tenant", "move", tenant.slug.as_str(), "--yes", "--output", "json"], more].concat();
        run(&self.app, &arguments).await
    }

    async fn crash(&self, tenant: &Tenant, more: &[&str], step: Step, before_journal: bool) {
        let mut arguments = vec!["tenant", "move", tenant.slug.as_str(), "--halt-after", step.as_str()];
        arguments.extend(more);
        if before_journal {
            arguments.push("--halt-before-journal");
        }
        let output = program(&self.app.environment(), &arguments).output().await.expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal().is_some(), "{step}: it was to die: {:?} {said}", output.status);
    }
}

/// Owners and grants of everything in a database, and who may connect: what distinguishes a tenant's from any other.
async fn catalog(database: &Target) -> Vec<String> {
    let query = "SELECT 'table ' || relnamespace::regnamespace || ' ' || relname || ' ' || pg_get_userbyid(relowner) || ' ' \
                     || coalesce(relacl::text, '') AS word FROM pg_class WHERE relnamespace IN \
                     ('public'::regnamespace, 'tenantry'::regnamespace) \
                 UNION ALL SELECT 'schema ' || nspname || ' ' || coalesce((SELECT string_agg(acl::text, ',' ORDER BY \
                     acl::text) FROM unnest(nspacl) acl), '') FROM pg_namespace WHERE nspname IN ('public', 'tenantry') \
                 UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
                     WHERE connamespace = 'public'::regnamespace \
                 UNION ALL SELECT 'database ' || pg_get_userbyid(datdba) || ' ' || coalesce(datacl::text, '') \
                     FROM pg_database WHERE datname = current_database() ORDER BY 1";
    db::words(database, query).await
}

/// Writes numbers one after the other and reads on and on while `work` runs; every answer is a good one. Gives how many
/// were written.
async fn under_writes<T>(tenant: &Tenant, from: u32, work: impl Future<Output = T>) -> (T, u32) {
    let (next, slowest) = (Cell::new(from), Cell::new(Duration::ZERO));
    let (next_of, slowest_of, admin) = (&next, &slowest, tenant.admin());
    let write = |admin: tenantry::testing::Persona| async move {
        loop {
            let (number, begun) = (next_of.get(), std::time::Instant::now());
            next_of.set(number + 1);
            admin.contact(&format!("n{number}")).await;
            slowest_of.set(slowest_of.get().max(begun.elapsed()));
        }
    };
    let read = |admin: tenantry::testing::Persona| async move {
        loop {
            admin.get(CONTACTS).await.expect(200);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let writing = join_all((0..2).map(|_| write(admin.clone())));
    let reading = join_all((0..3).map(|_| read(admin.clone())));
    let done = tokio::select! {
        done = work => done,
        endless = writing => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they write on and on") }
        endless = reading => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they read on and on") }
    };
    say(&format!("{} writes, the slowest {:?}", next.get() - from, slowest.get()));
    (done, next.get())
}

/// Every number is there once. The last ones may have been under way when the writers ended.
async fn every_number_once(database: &Target, written: u32) {
    let numbers = "SELECT last_name AS word FROM contacts WHERE last_name ~ '^n[0-9]+$'";
    let mut found: Vec<u32> =
        db::words(database, numbers).await.iter().map(|name| name[1..].parse().unwrap()).collect();
    found.sort_unstable();
    let expected: Vec<u32> = (0..written).collect();
    let doubled = found.windows(2).any(|pair| pair[0] == pair[1]);
    assert!(!doubled, "a row is doubled");
    let lost: Vec<_> = expected.iter().filter(|number| !found.contains(number)).collect();
    assert!(lost.iter().all(|number| **number + 4 >= written), "lost of {written}: {lost:?}");
}

fn is_moved(view: &Value, to: &str) {
    assert_eq!((&view["cluster"], &view["to"]), (&Value::from(to), &Value::from(to)), "{view}");
    assert!(view["pauseMs"].as_u64().is_some_and(|ms| ms > 0), "{view}");
    assert!(view["checksums"].as_array().is_some_and(|tables| tables.len() > 5), "{view}");
}

#[actix_web::test]
async fn a_tenant_moves_under_writes_and_loses_nothing() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "moving").await;
    tenant.admin().contact("n0").await;
    let before = catalog(&ground.server("east").with_database(tenant.role())).await;
    let mut written = 1;
    for (from, to, method) in [("east", "west", "dump"), ("west", "east", "replicate")] {
        let arguments = ["--to", to, "--method", method];
        let (said, so_far) = under_writes(&tenant, written, ground.moving(&tenant, &arguments)).await;
        let view = said.expect(0).json();
        is_moved(&view, to);
        say(&format!("{method}: held for {} ms", view["pauseMs"]));
        assert_eq!((&view["from"], &view["method"]), (&Value::from(from), &Value::from(method)));
        for _ in 0..3 {
            tenant.admin().get(CONTACTS).await.expect(200);
        }
        let here = ground.server(to).with_database(tenant.role());
        written = so_far;
        every_number_once(&here, written).await;
        // The numbers that were on their way when the writers ended may or may not be there: begin anew.
        db::execute(
            &here,
            &format!(
                "DELETE FROM contacts WHERE last_name ~ '^n' AND substr(last_name, 2)::int >= {}",
                written.saturating_sub(4)
            ),
        )
        .await;
        written = written.saturating_sub(4);
        let (open, databases) = ground.there(&tenant).await;
        assert_eq!((open, databases), (vec![to], vec!["east", "west"]), "the old copy is fenced, and kept");
        assert_eq!(catalog(&here).await, before, "{method}");
        assert!(ground.leftovers().await.is_empty());
        // Asked again, it says the same; moving back has to wait for the copy to go.
        assert_eq!(ground.moving(&tenant, &arguments).await.expect(0).json()["pauseMs"], view["pauseMs"]);
        assert!(ground.moving(&tenant, &["--to", from]).await.expect(4).stderr.contains("--confirm"));
        assert_eq!(ground.moving(&tenant, &["--confirm"]).await.expect(0).json()["copiesDropped"], 1);
        assert_eq!(ground.there(&tenant).await, (vec![to], vec![to]));
    }
}

/// Dies after each step, before the journal has it or after; then it is gone on with, or taken back.
#[actix_web::test]
async fn after_a_crash_at_any_step_a_move_is_finished_or_taken_back() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "crashing").await;
    let admin = tenant.admin();
    admin.contact("Survivor").await;
    let (mut here, mut there) = ("east", "west");
    let by_replication = [Step::Schema, Step::Replicate, Step::Copy];
    let by_dump = Step::ALL.iter().filter(|step| !matches!(step, Step::Schema | Step::Replicate));
    let cases = by_dump.map(|step| ("dump", *step)).chain(by_replication.map(|step| ("replicate", step)));
    for (method, step) in cases {
        let arguments = ["--to", there, "--method", method, "--hold-deadline", "60s"];
        if matches!((method, step), ("dump", Step::Target | Step::Fence | Step::Open) | ("replicate", Step::Replicate))
        {
            ground.crash(&tenant, &arguments, step, false).await;
            assert!(ground.there(&tenant).await.0.len() <= 1, "{method} {step}: both can be written to");
            ground.moving(&tenant, &["--abort"]).await.expect(0);
            assert_eq!(ground.there(&tenant).await, (vec![here], vec![here]), "{method} {step}");
            assert!(ground.leftovers().await.is_empty(), "{method} {step}");
            admin.get(CONTACTS).await.expect(200);
            ground.moving(&tenant, &["--abort"]).await.expect(4);
        }
        ground.crash(&tenant, &arguments, step, true).await;
        assert!(ground.there(&tenant).await.0.len() <= 1, "{method} {step}: both can be written to");
        if step == Step::Switch {
            ground.moving(&tenant, &["--abort"]).await.expect(4);
        }
        let view = ground.moving(&tenant, &arguments).await.expect(0).json();
        is_moved(&view, there);
        assert_eq!(ground.there(&tenant).await.0, [there], "{method} {step}");
        assert!(ground.leftovers().await.is_empty(), "{method} {step}");
        let name = admin.get(CONTACTS).await.expect(200);
        assert!(name.text.contains("Survivor"));
        ground.moving(&tenant, &["--confirm"]).await.expect(0);
        (here, there) = (there, here);
    }
}

/// Whatever stands in the way: the tenant is served where it was, and nothing is left behind.
#[actix_web::test]
async fn a_move_that_fails_changes_nothing() {
    let mut ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "staying").await;
    let admin = tenant.admin();
    let id = admin.contact("Faithful").await;
    let west = ground.server("west");
    let stays = async |ground: &Ground, what: &str| {
        assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]), "{what}");
        admin.get(&format!("{CONTACTS}/{id}")).await.expect(200);
        let held = "SELECT count(*)::text AS word FROM tenant_holds";
        assert_eq!(db::word(ground.app.control_database(), held).await, "0", "{what}");
    };

    ground.moving(&tenant, &["--to", "nowhere"]).await.expect(4);
    ground.moving(&tenant, &["--to", "east"]).await.expect(4);
    stays(&ground, "no such cluster").await;
    run(&ground.app, &["cluster", "set", "west", "--max-tenants", "1"]).await.expect(0);
    let other = ground.app.tenant_on("west", "there").await;
    assert!(ground.moving(&tenant, &["--to", "west"]).await.expect(4).stderr.contains("no room"));
    stays(&ground, "target full").await;
    run(&ground.app, &["cluster", "set", "west", "--max-tenants", "default"]).await.expect(0);
    run(&ground.app, &["tenant", "delete", other.slug.as_str(), "--now", "--yes"]).await.expect(0);

    let late = ground.moving(&tenant, &["--to", "west", "--hold-deadline", "1ms"]).await.expect(4);
    assert!(late.stderr.contains("--hold-deadline"), "{late:?}");
    stays(&ground, "hold deadline").await;

    ground.crash(&tenant, &["--to", "west"], Step::Copy, false).await;
    let copy = west.with_database(tenant.role());
    db::execute(&copy, "UPDATE contacts SET last_name = 'Faithless'").await;
    let differs = ground.moving(&tenant, &["--to", "west"]).await.expect(4);
    assert!(differs.stderr.contains("public.contacts"), "{differs:?}");
    stays(&ground, "verification differs").await;

    // The mover dies and nobody comes back for it: when the hold has run out, a worker takes the move back.
    ground.crash(&tenant, &["--to", "west", "--hold-deadline", "500ms"], Step::Fence, false).await;
    let (fleet, waiting) = (ground.app.fleet(), admin.get(CONTACTS));
    let worker = async {
        let ended = async || fleet.end_expired_holds().await.expect("the control plane answers") == 1;
        eventually(seconds(20), "the hold is ended", ended).await;
    };
    let (answer, ()) = tokio::join!(waiting, worker);
    assert!(answer.status == 200 || answer.code() == "tenant_unavailable", "{answer:?}");
    let serves = async || admin.get(CONTACTS).await.status == 200;
    eventually(seconds(10), "the source serves", serves).await;
    stays(&ground, "the mover is gone").await;

    // The target goes away in the middle: what it has is dropped once it is back.
    ground.crash(&tenant, &["--to", "west"], Step::Target, false).await;
    ground.servers[1].1.stop().await;
    ground.moving(&tenant, &["--to", "west"]).await.expect(1);
    let served = async || admin.get(CONTACTS).await.status == 200;
    eventually(seconds(10), "the source serves", served).await;
    ground.servers[1].1.restart().await;
    assert_eq!(ground.app.fleet().purge_copies().await.unwrap(), 1);
    stays(&ground, "target unreachable").await;
}

#[actix_web::test]
async fn a_drained_cluster_gives_its_tenants_to_others() {
    let ground = Ground::new().await;
    let (one, two) = (ground.app.tenant_on("east", "one").await, ground.app.tenant_on("east", "two").await);
    run(&ground.app, &["cluster", "drain", "local", "--no-move"]).await.expect(0);
    let drain = ["cluster", "drain", "east", "--output", "json"];
    // One of them cannot be moved at first.
    db::execute(&ground.server("west"), &format!("CREATE ROLE {}", two.role())).await;
    let halted = ["cluster", "drain", "east", "--halt-after", "move", "--halt-before-journal"];
    let died = program(&ground.app.environment(), &halted).output().await.expect("the program runs");
    assert!(died.status.signal().is_some(), "{died:?}");
    let said = run(&ground.app, &drain).await.expect(3);
    let view = said.json();
    assert_eq!((&view["draining"], &view["tenants"]), (&Value::from(true), &Value::from(1)), "{view}");
    assert_eq!(view["moved"], Value::from(vec![one.slug.as_str()]), "{view}");
    assert_eq!(view["failed"][0]["slug"], two.slug.as_str(), "{view}");
    db::execute(&ground.server("west"), &format!("DROP ROLE {}", two.role())).await;
    assert_eq!(run(&ground.app, &drain).await.expect(0).json()["moved"], Value::from(vec![two.slug.as_str()]));
    for tenant in [&one, &two] {
        tenant.admin().get(CONTACTS).await.expect(200);
        assert_eq!(ground.there(tenant).await.0, ["west"]);
    }
    // The copies keep the cluster, until they are gone.
    assert!(run(&ground.app, &["cluster", "remove", "east", "--yes"]).await.expect(4).stderr.contains("--confirm"));
    for tenant in [&one, &two] {
        ground.moving(tenant, &["--confirm"]).await.expect(0);
    }
    run(&ground.app, &["cluster", "remove", "east", "--yes"]).await.expect(0);
    let undone = run(&ground.app, &["cluster", "drain", "local", "--undo", "--output", "json"]).await.expect(0).json();
    assert_eq!(undone["draining"], false);

    // The same over REST, done by a worker.
    let (operator, worker) = (ground.app.operator(), ground.app.fleet());
    let job = async |path: String, body: Value| {
        let asked = operator.post(&path, body).await.expect(202);
        let location = asked.header("location").expect("where the job is").to_owned();
        let done = async || {
            worker.work().await.expect("the control plane answers");
            let job = operator.get(&location).await.expect(200);
            assert_ne!(job.data()["state"], "failed", "{job:?}");
            job.data()["state"] == "done"
        };
        eventually(seconds(30), &path, done).await;
        operator.get(&location).await.expect(200).data()["result"].clone()
    };
    let of_one = format!("/api/v1/admin/tenants/{}", one.slug);
    job(format!("{of_one}/rotate-credentials"), serde_json::json!({})).await;
    let moved = job(format!("{of_one}/move"), serde_json::json!({"to": "local"})).await;
    assert!(moved["pauseMs"].as_u64().is_some_and(|ms| ms > 0) && moved["to"] == "local", "{moved}");
    let drained = job("/api/v1/admin/clusters/west/drain".into(), serde_json::json!({})).await;
    assert_eq!(drained["moved"], serde_json::json!([two.slug.as_str()]));
    for tenant in [&one, &two] {
        tenant.admin().get(CONTACTS).await.expect(200);
        assert!(ground.there(tenant).await.0.is_empty());
    }
}
