//! Another password: under traffic, after a crash at any step, for one tenant and for all.

use std::cell::Cell;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::thread;

use futures_util::future::join_all;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tenantry::control::tenants;
use tenantry::error::ApiError;
use tenantry::fleet::rotate::ROTATE;
use tenantry::fleet::{OperationOptions, Progress};
use tenantry::kernel::TenantId;
use tenantry::router::{AdminConn, ConnectFailure, ConnectOptions, MainConn, Target};
use tenantry::testing::{Tenant, TestApp};

use super::attach::customers;
use crate::support::binary::{program, run};
use crate::support::{db, eventually, say, seconds, unique};

/// The way into a tenant's database, as the registry knows it.
async fn registered(app: &TestApp, id: TenantId) -> Target {
    let control = app.control();
    let keys = control.keys.clone();
    let target = control.db.read(async move |conn: &mut MainConn| -> Result<_, ApiError> {
        Ok(tenants::target(conn, &keys, id).await?.1)
    });
    target.await.expect("a tenant")
}

/// What a server says to somebody who comes with these credentials.
async fn admitted(target: &Target) -> Result<(), ConnectFailure> {
    AdminConn::open(target, &ConnectOptions::default()).await.map(drop).map_err(|error| error.kind)
}

/// The registry's password is the server's, the old one is dead, and nothing is left of the rotation.
async fn is_rotated(app: &TestApp, id: TenantId, old: &Target) {
    let new = registered(app, id).await;
    assert_ne!(new.password.expose_secret(), old.password.expose_secret());
    assert_eq!(admitted(&new).await, Ok(()));
    assert_eq!(admitted(old).await, Err(ConnectFailure::Authentication));
    let left = format!("SELECT count(*)::text AS word FROM rotating_passwords WHERE id = '{id}'");
    assert_eq!(db::word(app.control_database(), &left).await, "0");
}

/// Reads and writes on and on while `work` runs: every answer is a good one.
async fn under_load<T>(tenant: &Tenant, work: impl Future<Output = T>) -> T {
    let count = Cell::new(0_u32);
    let (admin, count_of) = (tenant.admin(), &count);
    admin.contact("First").await;
    let asking = (0..4).map(|number| {
        let admin = admin.clone();
        async move {
            loop {
                if number == 0 {
                    admin.contact("Onward").await;
                } else {
                    admin.get("/api/v1/contacts").await.expect(200);
                }
                count_of.set(count_of.get() + 1);
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    });
    let done = tokio::select! {
        done = work => done,
        endless = join_all(asking) => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they ask on and on") }
    };
    say(&format!("{} requests meanwhile, every one served", count.get()));
    assert!(count.get() > 20, "only {} requests", count.get());
    done
}

#[actix_web::test]
async fn a_rotation_under_load_fails_no_request_and_kills_the_old_password() {
    let app = TestApp::shared().await;
    let acme = app.tenant("rotating").await;
    for _ in 0..3 {
        let old = registered(app, acme.id).await;
        let arguments = ["tenant", "rotate-credentials", acme.slug.as_str(), "--output", "json"];
        let said = under_load(&acme, run(app, &arguments)).await.expect(0);
        is_rotated(app, acme.id, &old).await;
        let new = registered(app, acme.id).await;
        let secrets = [old.password.expose_secret(), new.password.expose_secret(), "SCRAM-SHA-256"];
        assert!(secrets.iter().all(|secret| !said.all().contains(secret)), "{said:?}");
        let view = said.json();
        assert_eq!(view["slug"], acme.slug.as_str());
        assert_eq!(view["steps"].as_array().map(Vec::len), Some(ROTATE.len()), "{view}");
    }
}

async fn crash(app: &TestApp, slug: &str, step: &str, before_journal: bool) {
    let mut arguments = vec!["tenant", "rotate-credentials", slug, "--halt-after", step];
    if before_journal {
        arguments.push("--halt-before-journal");
    }
    let output = program(&app.environment(), &arguments).output().await.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_some(), "{step}: it was to die: {:?} {said}", output.status);
}

/// Whoever dies in the middle is relieved by a worker: nobody has to run anything again, though anybody may.
#[actix_web::test]
async fn after_a_crash_at_any_step_a_worker_or_the_same_command_ends_it() {
    let app = &TestApp::builder().start().await;
    let (acme, worker) = (app.tenant("crashing").await, app.fleet());
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    for step in ROTATE {
        for before_journal in [false, true] {
            let old = registered(app, acme.id).await;
            crash(app, acme.slug.as_str(), step.as_str(), before_journal).await;
            if before_journal {
                run(app, &["tenant", "rotate-credentials", acme.slug.as_str()]).await.expect(0);
            }
            let unfinished = format!(
                "SELECT count(*)::text AS word FROM operations WHERE tenant_id = '{}' AND state <> 'done'",
                acme.id
            );
            let ended = async || {
                worker.work().await.expect("the control plane answers");
                db::word(app.control_database(), &unfinished).await == "0"
            };
            eventually(seconds(15), &format!("{step}: ended"), ended).await;
            is_rotated(app, acme.id, &old).await;
            admin.get("/api/v1/contacts").await.expect(200);
        }
    }
}

/// Between the server and the registry nothing is left half done, whoever asks for it.
#[actix_web::test]
async fn a_rotation_that_is_cancelled_half_way_is_ended_by_a_worker() {
    let app = &TestApp::builder().start().await;
    let (acme, worker) = (app.tenant("cancelled").await, app.fleet());
    let old = registered(app, acme.id).await;
    crash(app, acme.slug.as_str(), "alter_role", false).await;
    let cancel = format!("UPDATE operations SET cancel_requested = true WHERE tenant_id = '{}'", acme.id);
    db::execute(app.control_database(), &cancel).await;
    let state =
        format!("SELECT state AS word FROM operations WHERE tenant_id = '{}' AND kind = 'rotate_credentials'", acme.id);
    eventually(seconds(20), "it is ended", async || {
        worker.work().await.expect("the control plane answers");
        db::word(app.control_database(), &state).await == "done"
    })
    .await;
    is_rotated(app, acme.id, &old).await;
    acme.admin().get("/api/v1/contacts").await.expect(200);
}

#[actix_web::test]
async fn all_tenants_but_those_that_cannot_be_are_rotated_and_listed() {
    let app = TestApp::builder().start().await;
    let (well, ill) = (app.tenant("well").await, app.tenant("ill").await);
    let olds = [registered(&app, well.id).await, registered(&app, ill.id).await];
    let away = format!("ALTER ROLE {0} RENAME TO {0}_away", ill.role());
    db::execute(&app.server(), &away).await;
    let arguments = ["tenant", "rotate-credentials", "--all", "--output", "json"];
    let dying = ["tenant", "rotate-credentials", "--all", "--halt-after", "rotate", "--halt-before-journal"];
    let died = program(&app.environment(), &dying).output().await.expect("the program runs");
    assert!(died.status.signal().is_some(), "{died:?}");
    is_rotated(&app, well.id, &olds[0]).await;
    let rotated = registered(&app, well.id).await;
    // Gone on with: who was rotated before the crash is not rotated again.
    let said = run(&app, &arguments).await.expect(3);
    assert_eq!(said.json()["rotated"], 1);
    assert_eq!(said.json()["failed"][0]["slug"], ill.slug.as_str(), "{said:?}");
    assert!(said.stderr.contains("1 of 2 tenants"), "{said:?}");
    assert_eq!(admitted(&rotated).await, Ok(()));
    db::execute(&app.server(), &format!("ALTER ROLE {0}_away RENAME TO {0}", ill.role())).await;
    let said = run(&app, &arguments).await.expect(0);
    assert_eq!(said.json(), json!({"rotated": 2, "failed": []}));
    assert!(said.stderr.contains("rotate 2 of 2\n"), "how far it has come, in lines: {said:#?}");
    is_rotated(&app, ill.id, &olds[1]).await;
}

/// Somebody who works on tenants, and has ended once a run has met that; one of them is gone then.
struct Ends {
    control: Target,
    holder: String,
    gone: TenantId,
}

impl Progress for Ends {
    fn note(&self, text: &str) {
        if !text.contains("Another process") {
            return;
        }
        let control = self.control.clone();
        let deleted = format!("DELETE FROM tenants WHERE id = '{}'", self.gone);
        let ended = format!("SELECT pg_terminate_backend({})", self.holder);
        // The run waits for it; its runtime cannot. Nobody else is at work, who would wait for the runtime with a lock.
        let done = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                db::execute(&control, &deleted).await;
                db::execute(&control, &ended).await;
            });
        });
        done.join().expect("the statements run");
    }
}

#[actix_web::test]
async fn what_somebody_else_worked_on_is_rotated_afterwards_and_what_is_gone_has_not_failed() {
    let app = TestApp::builder().start().await;
    let (late, gone) = (app.tenant("late").await, app.tenant("gone").await);
    let old = registered(&app, late.id).await;
    let control = app.control_database();
    let mut holder = db::open(control).await;
    for tenant in [&late, &gone] {
        let hold = format!(
            "SELECT pg_advisory_lock(('x' || left(encode(sha256(convert_to('tenant operation {}', 'UTF8')), 'hex'), \
             16))::bit(64)::bigint)::text AS word",
            tenant.id
        );
        db::words_on(&mut holder, &hold).await;
    }
    let pid = db::words_on(&mut holder, "SELECT pg_backend_pid()::text AS word").await.remove(0);
    let ends = Ends { control: control.clone(), holder: pid, gone: gone.id };
    let done = app.fleet().rotate_all(&OperationOptions::default(), &ends).await.expect("a result");
    assert!(done.rotated == 1 && done.failed.is_empty(), "{done:?}");
    is_rotated(&app, late.id, &old).await;
}

/// The same by a worker, which goes on where a killed command stopped.
#[actix_web::test]
async fn over_rest_all_are_rotated_by_a_worker_and_those_that_cannot_be_are_listed() {
    const PATH: &str = "/api/v1/admin/fleet/rotate-credentials";
    // Its own: workers of other tests would take what waits here.
    let app = TestApp::builder().start().await;
    let (well, ill) = (app.tenant("well").await, app.tenant("ill").await);
    let (operator, worker) = (app.operator(), app.fleet());
    let olds = [registered(&app, well.id).await, registered(&app, ill.id).await];
    let done = async |job: &str| {
        let at = format!("/api/v1/admin/jobs/{job}");
        eventually(seconds(60), "it is done", async || {
            worker.work().await.expect("the control plane answers");
            operator.get(&at).await.expect(200).data()["state"] == "done"
        })
        .await;
        operator.get(&at).await.expect(200).data()["result"].clone()
    };
    let asked = operator.post(PATH, json!({})).await.expect(202);
    assert_eq!(asked.header("location"), Some(format!("/api/v1/admin/jobs/{}", asked.id()).as_str()));
    let (data, nothing) = (asked.data(), json!(null));
    assert_eq!((&data["kind"], &data["tenant"]), (&json!("rotate_credentials"), &nothing));
    assert_eq!(operator.post(PATH, json!({})).await.expect(202).id(), asked.id(), "one run at a time");
    operator.post(&format!("/api/v1/admin/jobs/{}/cancel", asked.id()), json!({})).await.expect(200);
    worker.work().await.expect("the control plane answers");
    assert_eq!(admitted(&olds[0]).await, Ok(()), "cancelled before its turn, it does nothing");

    let away = format!("ALTER ROLE {0} RENAME TO {0}_away", ill.role());
    db::execute(&app.server(), &away).await;
    let dying = ["tenant", "rotate-credentials", "--all", "--halt-after", "rotate", "--halt-before-journal"];
    let died = program(&app.environment(), &dying).output().await.expect("the program runs");
    assert!(died.status.signal().is_some(), "{died:?}");
    is_rotated(&app, well.id, &olds[0]).await;
    let rotated = registered(&app, well.id).await;
    let result = done(&operator.post(PATH, json!({})).await.expect(202).id()).await;
    assert_eq!((&result["rotated"], &result["failed"][0]["slug"]), (&json!(1), &json!(ill.slug)), "{result}");
    assert!(result["failed"][0]["error"].is_string() && result["failed"][1].is_null(), "{result}");
    assert_eq!(admitted(&rotated).await, Ok(()), "who was rotated before the crash is not rotated again");

    db::execute(&app.server(), &format!("ALTER ROLE {0}_away RENAME TO {0}", ill.role())).await;
    let again = operator.post(PATH, json!({})).await.expect(202).id();
    assert_eq!(done(&again).await, json!({"rotated": 2, "failed": []}));
    is_rotated(&app, well.id, &rotated).await;
    is_rotated(&app, ill.id, &olds[1]).await;
    for tenant in [&well, &ill] {
        tenant.admin().get("/api/v1/contacts").await.expect(200);
    }
}

/// A dedicated database: its role changes its own password, or the owner's new URL is handed in.
#[actix_web::test]
async fn a_dedicated_database_gets_another_password_or_another_url() {
    let app = TestApp::shared().await;
    let (name, files) = (unique("own"), tempfile::tempdir().unwrap());
    let server = app.server();
    db::execute(&server, &format!("CREATE ROLE {name} LOGIN PASSWORD 'first'")).await;
    db::execute(&server, &format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0")).await;
    let with = |password: &str| Target {
        database: name.clone(),
        user: name.clone(),
        password: SecretString::from(password.to_owned()),
        ..server.clone()
    };
    let path = files.path().join("url");
    let write = |target: &Target| fs::write(&path, target.to_url().expose_secret()).unwrap();
    let file = path.to_string_lossy().into_owned();
    write(&with("first"));
    let mode = server.tls.mode.as_str();
    // Its URL says what the server has to prove.
    let attach = ["tenant", "attach", &name, "--database-url-file", &file, "--output", "json"];
    let id: TenantId = run(app, &attach).await.expect(0).json()["id"].as_str().unwrap().parse().unwrap();
    run(app, &["tenant", "rotate-credentials", &name]).await.expect(0);
    is_rotated(app, id, &with("first")).await;

    db::execute(&server, &format!("ALTER ROLE {name} PASSWORD 'by its owner'")).await;
    write(&with("by its owner"));
    let replace = ["tenant", "rotate-credentials", &name, "--database-url-file", &file, "--tls-mode", mode];
    run(app, &replace).await.expect(0);
    assert_eq!(registered(app, id).await.password.expose_secret(), "by its owner");
    // Another database is refused, though it lets us in.
    let globex = app.tenant("globex").await;
    write(&Target { database: globex.role().to_owned(), ..server.clone() });
    assert_eq!(run(app, &replace).await.code, Some(4));
    // And a tenant on a cluster has no URL of its own.
    let shared =
        ["tenant", "rotate-credentials", globex.slug.as_str(), "--database-url-file", &file, "--tls-mode", mode];
    assert_eq!(run(app, &shared).await.code, Some(4));
}

/// The same over REST, at once: no URL is kept for a worker.
#[actix_web::test]
async fn another_url_is_handed_in_over_rest_and_kept_nowhere() {
    let app = TestApp::shared().await;
    let (name, operator) = (unique("handed"), app.operator());
    let first = customers(app, &name).await;
    let url = |password: &str| {
        let target = Target { password: SecretString::from(password.to_owned()), ..first.clone() };
        target.to_url().expose_secret().to_owned()
    };
    let new = json!({"slug": name, "databaseUrl": first.to_url().expose_secret()});
    let made = operator.post("/api/v1/admin/dedicated-tenants", new).await.expect(201);
    let id: TenantId = made.id().parse().unwrap();
    let password = unique("by-its-owner-");
    db::execute(&app.server(), &format!("ALTER ROLE {name} PASSWORD '{password}'")).await;

    let path = format!("/api/v1/admin/tenants/{name}/rotate-credentials");
    let (globex, once) = (app.tenant("globex").await, operator.with("idempotency-key", &unique("once")));
    let other = Target { database: globex.role().to_owned(), ..app.server() };
    let empty = unique("empty");
    db::execute(&app.server(), &format!("CREATE DATABASE {empty} OWNER {name} TEMPLATE template0")).await;
    let empty = Target { database: empty, password: password.clone().into(), ..first.clone() };
    for (body, field, code) in [
        (json!({"databaseUrl": url("hunter2")}), "databaseUrl", "authentication_failed"),
        (json!({"databaseUrl": other.to_url().expose_secret()}), "databaseUrl", "another_database"),
        (json!({"databaseUrl": empty.to_url().expose_secret()}), "databaseUrl", "another_database"),
        (json!({"tlsMode": "require"}), "databaseUrl", "required"),
        (json!({"databaseUrl": url(&password), "clientCert": "x"}), "clientKey", "required"),
    ] {
        let refused = once.post(&path, body).await;
        assert_eq!(refused.invalid(), [(field.to_owned(), code.to_owned())], "{refused:?}");
        assert!(!refused.text.contains("hunter2"), "{refused:?}");
    }
    // A copy has the same stamp: what would go there is not what requests see.
    let stamped = Target { password: password.clone().into(), ..first.clone() };
    let stamp = db::word(&stamped, "SELECT tenant_id || ' ' || installation_id AS word FROM tenantry.stamp").await;
    let (tenant, installation) = stamp.split_once(' ').expect("both");
    let copied = format!(
        "CREATE SCHEMA tenantry; CREATE TABLE tenantry.stamp AS \
         SELECT '{tenant}'::uuid AS tenant_id, '{installation}'::uuid AS installation_id"
    );
    db::execute(&empty, &copied).await;
    let copy = json!({"databaseUrl": url(&password), "directUrl": empty.to_url().expose_secret()});
    assert_eq!(once.post(&path, copy).await.invalid(), [("databaseUrl".to_owned(), "urls_differ".to_owned())]);
    assert_eq!(registered(app, id).await.password.expose_secret(), first.password.expose_secret());

    let body = json!({"databaseUrl": url(&password)});
    let done = once.post(&path, body.clone()).await.expect(200);
    assert_eq!((done.id(), &done.data()["kind"]), (made.id(), &json!("dedicated")));
    assert_eq!(registered(app, id).await.password.expose_secret(), password);
    let again = once.post(&path, body.clone()).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), done.data()));
    let kept = "SELECT r::text AS word FROM request_records r UNION ALL SELECT o::text FROM operations o \
                UNION ALL SELECT a::text FROM operator_audit a UNION ALL SELECT t::text FROM tenants t";
    let kept = db::words(app.control_database(), kept).await.join("\n");
    assert!(!kept.contains(&password) && !done.text.contains(&password), "the password was told or kept");
    let shared = format!("/api/v1/admin/tenants/{}/rotate-credentials", globex.slug);
    operator.post(&shared, body).await.refused(409, "conflict");
}
