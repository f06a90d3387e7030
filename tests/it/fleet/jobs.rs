//! Longer work as operators follow it over REST.

use diesel_async::SimpleAsyncConnection as _;
use serde_json::json;
use tenantry::fleet::{CreateTenant, OperationOptions, Silent};
use tenantry::kernel::crypto::sha256;
use tenantry::testing::{Tenant, TestApp};

use super::scene::{backup, dies};
use crate::support::binary::run;
use crate::support::dir::Dir;
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, unique};

/// Where the tenant's only job of a kind is.
async fn job_of(app: &TestApp, tenant: &Tenant, kind: &str) -> String {
    let path = format!("/api/v1/admin/jobs?tenantId={}&kind={kind}", tenant.slug);
    let jobs = app.operator().get(&path).await.expect(200);
    format!("/api/v1/admin/jobs/{}", jobs.data()[0]["id"].as_str().expect("an id"))
}

#[actix_web::test]
async fn what_waits_for_a_worker_is_seen_and_cancelled_and_can_be_asked_for_again() {
    // Its own: workers of other tests would take what waits here.
    let app = TestApp::builder().start().await;
    let slug = unique("job");
    let wanted = CreateTenant::named(slug.parse().expect("a slug"));
    let tenant = app.fleet().create_later(&wanted).await.expect("queued");
    let operator = app.operator();
    let jobs = operator.get(&format!("/api/v1/admin/jobs?tenantId={slug}")).await.expect(200);
    let job = &jobs.data()[0];
    assert_eq!((&job["kind"], &job["state"]), (&json!("create"), &json!("queued")), "{job}");
    assert_eq!((&job["progress"], &job["result"]), (&json!(0), &json!(null)), "{job}");
    assert_eq!(job.get("requestId"), Some(&json!(null)), "no request began it: {job}");
    assert_eq!(job["tenant"], json!({"id": tenant.id, "slug": slug}));

    let path = format!("/api/v1/admin/jobs/{}", job["id"].as_str().expect("an id"));
    let tag = operator.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    let knowing = operator.with("if-none-match", &tag);
    assert_eq!(knowing.get(&path).await.expect(304).header("etag"), Some(tag.as_str()));
    let cancelled = operator.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    assert_eq!(cancelled.data()["state"], "cancelled");
    assert_eq!(knowing.get(&path).await.expect(200).data()["state"], "cancelled");
    assert!(cancelled.data()["finishedAt"].is_string());
    operator.post(&format!("{path}/cancel"), json!({})).await.refused(409, "conflict");

    // Nobody makes it now; asking again does.
    app.fleet().create(&wanted, &OperationOptions::default(), &Silent).await.expect("made");
    let done = operator.get(&path).await.expect(200);
    assert_eq!((&done.data()["state"], &done.data()["progress"]), (&json!("done"), &json!(100)));
    let steps = done.data()["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["name"] == "database"), "{steps:?}");
}

/// As `tenant create --no-wait` has it.
#[actix_web::test]
async fn a_tenant_that_is_not_waited_for_is_a_job() {
    const TENANTS: &str = "/api/v1/admin/tenants";
    let app = TestApp::builder().start().await;
    let (operator, slug) = (app.operator(), unique("nowait"));
    let once = operator.with("idempotency-key", &unique("key"));
    let body = json!({"slug": slug, "noWait": true});
    let queued = once.post(TENANTS, body.clone()).await.expect(202);
    let at = format!("/api/v1/admin/jobs/{}", queued.id());
    assert_eq!(queued.header("location"), Some(at.as_str()));
    assert_eq!((&queued.data()["kind"], &queued.data()["state"]), (&json!("create"), &json!("queued")), "{queued:?}");
    assert_eq!(queued.data()["tenant"]["slug"], json!(slug));
    // Whoever asks again, without a key, hears of the same job.
    assert_eq!(operator.post(TENANTS, body.clone()).await.expect(202).id(), queued.id());
    operator.post(&format!("{at}/cancel"), json!({})).await.expect(200);
    let anew = operator.post(TENANTS, body.clone()).await.expect(202);
    assert_eq!((anew.id(), &anew.data()["state"]), (queued.id(), &json!("queued")), "not left to nobody");
    let worker = app.fleet();
    eventually(seconds(60), "a worker makes it", async || {
        worker.work().await.expect("worked");
        operator.get(&at).await.expect(200).data()["state"] == "done"
    })
    .await;
    operator.get(&format!("{TENANTS}/{slug}")).await.expect(200);
    operator.post(TENANTS, body.clone()).await.refused(409, "already_exists");
    let again = once.post(TENANTS, body.clone()).await.expect(202);
    assert_eq!((again.id(), again.header("idempotency-replayed")), (queued.id(), Some("true")));
    // As `kill -9` leaves it between the job and the answer.
    let lost = "UPDATE request_records SET status = NULL, location = NULL, version = NULL, body = NULL";
    db::execute(app.control_database(), lost).await;
    assert_eq!(once.post(TENANTS, body).await.expect(202).id(), queued.id());

    let slug = unique("never");
    let admin = json!({"slug": slug, "noWait": true, "adminEmail": format!("a@{slug}.test")});
    let refused = operator.post(TENANTS, admin).await.expect(422);
    assert_eq!(refused.invalid(), [("noWait".to_owned(), "needs_wait".to_owned())]);
    operator.get(&format!("{TENANTS}/{slug}")).await.expect(404);
}

/// As `tenant archive` has it: what `DELETE` does, with the tenant for an answer.
#[actix_web::test]
async fn a_tenant_is_archived_and_given_back() {
    let app = TestApp::builder().start().await;
    let (acme, operator) = (app.tenant("archived").await, app.operator());
    let person = acme.admin();
    person.get("/api/v1/contacts").await.expect(200);
    let path = format!("/api/v1/admin/tenants/{}", acme.slug);
    let archived = operator.post(&format!("{path}/archive"), json!({})).await.expect(200);
    let data = archived.data();
    assert_eq!((&data["id"], &data["status"]), (&json!(acme.id), &json!("archived")), "{archived:?}");
    assert!(archived.header("etag").is_some(), "{archived:?}");
    let gone = async || person.get("/api/v1/contacts").await.code() == "token_invalid";
    eventually(seconds(3), "nobody gets in", gone).await;
    let until = format!("SELECT (purge_after > now())::text AS word FROM tenants WHERE id = '{}'", acme.id);
    assert_eq!(db::word(app.control_database(), &until).await, "true");
    operator.post(&format!("{path}/restore"), json!({})).await.expect(200);
    eventually(seconds(3), "it is back", async || person.get("/api/v1/contacts").await.status == 200).await;

    let half = unique("half");
    operator.post("/api/v1/admin/tenants", json!({"slug": half, "noWait": true})).await.expect(202);
    let half = format!("/api/v1/admin/tenants/{half}");
    operator.post(&format!("{half}/archive"), json!({})).await.refused(409, "conflict");
    operator.get(&half).await.expect(200);
}

/// A job is found by the request that began it, whoever drives it.
#[actix_web::test]
async fn a_job_says_which_request_began_it() {
    let app = TestApp::builder().start().await;
    let (operator, slug) = (app.operator(), unique("asked"));
    let ids = ["made", "turned", "gone"].map(|what| unique(&format!("abc-{what}_1.")));
    let [made, turned, gone] = ids.each_ref().map(|id| operator.with("x-request-id", id));
    made.post("/api/v1/admin/tenants", json!({"slug": slug})).await.expect(201);
    let path = format!("/api/v1/admin/tenants/{slug}");
    let job = turned.post(&format!("{path}/rotate-credentials"), json!({})).await.expect(202);
    let at = format!("/api/v1/admin/jobs/{}", job.id());
    let found = operator.get(&at).await.expect(200);
    let listed = operator.get(&format!("/api/v1/admin/jobs?tenantId={slug}")).await.expect(200);
    for seen in [job.data(), found.data(), &listed.data()[0]] {
        assert_eq!((&seen["id"], &seen["requestId"]), (&json!(job.id()), &json!(ids[1])), "{seen}");
    }
    operator.post(&format!("{at}/cancel"), json!({})).await.expect(200);
    gone.delete(&format!("{path}?now=true")).await.expect(204);
    let begun = format!("SELECT kind || ' ' || request_id AS word FROM operations WHERE slug = '{slug}' ORDER BY id");
    let kinds = ["create", "rotate_credentials", "delete"].iter().zip(&ids);
    let expected: Vec<_> = kinds.map(|(kind, id)| format!("{kind} {id}")).collect();
    assert_eq!(db::words(app.control_database(), &begun).await, expected);
}

#[actix_web::test]
async fn any_number_of_workers_make_what_waits_once() {
    let app = TestApp::shared().await;
    let slugs: Vec<String> = (0..4).map(|_| unique("later")).collect();
    for slug in &slugs {
        app.fleet().create_later(&CreateTenant::named(slug.parse().expect("a slug"))).await.expect("queued");
    }
    let workers = [app.fleet(), app.fleet()];
    let (first, second) = futures_util::future::join(workers[0].work(), workers[1].work()).await;
    first.and(second).expect("worked");
    let operator = app.operator();
    for slug in &slugs {
        eventually(seconds(60), "the tenant serves", async || {
            workers[0].work().await.expect("worked");
            // It serves a moment before its job is called done.
            let jobs = operator.get(&format!("/api/v1/admin/jobs?tenantId={slug}&state=done")).await.expect(200);
            jobs.data().as_array().map(Vec::len) == Some(1)
        })
        .await;
        let tenant = operator.get(&format!("/api/v1/admin/tenants/{slug}")).await.expect(200);
        assert_eq!(tenant.data()["status"], "active");
    }
}

#[actix_web::test]
async fn a_job_that_is_not_there_is_404_and_pages_go_on() {
    let app = TestApp::shared().await;
    let operator = app.operator();
    operator.get(&format!("/api/v1/admin/jobs/{}", uuid::Uuid::now_v7())).await.refused(404, "not_found");
    for _ in 0..2 {
        let wanted = CreateTenant::named(unique("page").parse().expect("a slug"));
        app.fleet().create_later(&wanted).await.expect("queued");
    }
    let first = operator.get("/api/v1/admin/jobs?pageSize=1&kind=create").await.expect(200);
    let cursor = first.body["meta"]["pagination"]["nextCursor"].as_str().expect("a further page").to_owned();
    let second = operator.get(&format!("/api/v1/admin/jobs?pageSize=1&kind=create&cursor={cursor}")).await.expect(200);
    assert_ne!(first.data()[0]["id"], second.data()[0]["id"]);
    assert!(first.data()[0]["createdAt"].as_str() >= second.data()[0]["createdAt"].as_str());
    operator.get(&format!("/api/v1/admin/jobs?pageSize=1&cursor={cursor}")).await.refused(400, "cursor_invalid");
}

/// A command that was interrupted drives nothing any more: its job ends when somebody cancels it, not a moment before.
#[actix_web::test]
async fn an_interrupted_job_is_cancelled_and_in_nobodys_way() {
    let app = TestApp::builder().start().await;
    let (acme, dir) = (app.tenant("stopped").await, Dir::new());
    let (operator, slug) = (app.operator(), acme.slug.as_str());
    let to = dir.path().join("export");
    dies(&app, &["tenant", "export", slug, "--to", to.to_str().expect("a name")], "directory", false).await;
    let job = job_of(&app, &acme, "export").await;
    let cancel = async || operator.post(&format!("{job}/cancel"), json!({})).await.expect(200);

    // As somebody who drives it still.
    let digest = sha256(format!("tenant operation {}", acme.id).as_bytes());
    let key = i64::from_be_bytes(digest[..8].try_into().expect("eight bytes"));
    let mut driver = db::open(app.control_database()).await;
    db::words_on(&mut driver, &format!("SELECT 'held' AS word FROM pg_advisory_lock({key})")).await;
    let asked = cancel().await;
    assert_eq!((&asked.data()["state"], &asked.data()["cancelRequested"]), (&json!("running"), &json!(true)));
    drop(driver);

    eventually(seconds(10), "it is cancelled", async || cancel().await.data()["state"] == "cancelled").await;
    assert!(operator.get(&job).await.expect(200).data()["finishedAt"].is_string());
    backup(&app, slug).await;
}

/// Nobody drives a creation that died, failed or was stopped. Asked for again without waiting, it is a worker's.
#[actix_web::test]
async fn an_unfinished_creation_that_is_asked_for_again_is_left_to_a_worker() {
    let app = TestApp::builder().start().await;
    let (operator, fleet) = (app.operator(), app.fleet());
    for end in ["running", "failed", "cancelled"] {
        let slug = unique(end);
        dies(&app, &["tenant", "create", &slug], "role", false).await;
        let jobs = operator.get(&format!("/api/v1/admin/jobs?tenantId={slug}")).await.expect(200);
        let job = format!("/api/v1/admin/jobs/{}", jobs.data()[0]["id"].as_str().expect("an id"));
        match end {
            "failed" => {
                let failed = "UPDATE operations SET state = 'failed', finished_at = now(), error = 'role: no answer'";
                db::execute(app.control_database(), &format!("{failed} WHERE slug = '{slug}'")).await;
            }
            "cancelled" => {
                // As long as the server has not noticed that its driver is gone, it is only asked to stop.
                let cancelled = async || {
                    let asked = operator.post(&format!("{job}/cancel"), json!({})).await.expect(200);
                    asked.data()["state"] == "cancelled"
                };
                eventually(seconds(10), "it is cancelled", cancelled).await;
            }
            _ => {}
        }
        assert_eq!(operator.get(&job).await.expect(200).data()["state"], end);

        let wanted = CreateTenant::named(slug.parse().expect("a slug"));
        let begun = fleet.create_later(&wanted).await.expect("left to a worker");
        let queued = operator.get(&job).await.expect(200);
        assert_eq!((&queued.data()["state"], &queued.data()["error"]), (&json!("queued"), &json!(null)), "{end}");
        assert_eq!(fleet.create_later(&wanted).await.expect("a worker has it").id, begun.id);
        eventually(seconds(60), "a worker has made it", async || {
            fleet.work().await.expect("the control plane answers");
            operator.get(&job).await.expect(200).data()["state"] == "done"
        })
        .await;
        let tenant = operator.get(&format!("/api/v1/admin/tenants/{slug}")).await.expect(200);
        assert_eq!((&tenant.data()["id"], &tenant.data()["status"]), (&json!(begun.id), &json!("active")));
    }
    // A worker would make it without the administrator that was asked for.
    let slug = unique("led");
    dies(&app, &["tenant", "create", &slug, "--admin-email", &format!("a@{slug}.test")], "role", false).await;
    run(&app, &["tenant", "create", &slug, "--no-wait"]).await.expect(4);
    operator.post("/api/v1/admin/tenants", json!({"slug": slug, "noWait": true})).await.refused(409, "conflict");
}

/// What holds something of the tenant's is taken back before it ends; what is done already is finished.
#[actix_web::test]
async fn an_interrupted_move_that_is_cancelled_is_taken_back_or_finished() {
    let app = TestApp::builder().start().await;
    let east = Server::start().await;
    app.cluster("east", &east.target()).await;
    let (operator, worker) = (app.operator(), app.fleet());
    for (step, end, there) in [("copy", "undone", 0), ("switch", "done", 1)] {
        let tenant = app.tenant("staying").await;
        let slug = tenant.slug.as_str();
        dies(&app, &["tenant", "move", slug, "--to", "east"], step, false).await;
        let job = job_of(&app, &tenant, "move").await;
        let state = async || operator.get(&job).await.expect(200).data()["state"].clone();
        eventually(seconds(10), "it is left to a worker", async || {
            operator.post(&format!("{job}/cancel"), json!({})).await.expect(200);
            let left =
                format!("SELECT background::text AS word FROM operations WHERE slug = '{slug}' AND kind = 'move'");
            db::word(app.control_database(), &left).await == "true"
        })
        .await;
        eventually(seconds(60), "a worker has ended it", async || {
            worker.work().await.expect("the control plane answers");
            state().await == end
        })
        .await;
        let held = format!("SELECT operation_id::text AS word FROM tenant_holds WHERE tenant_id = '{}'", tenant.id);
        assert_eq!(db::words(app.control_database(), &held).await, Vec::<String>::new(), "{step}");
        let role = format!("SELECT rolname::text AS word FROM pg_roles WHERE rolname = '{}'", tenant.role());
        assert_eq!(db::words(&east.target(), &role).await.len(), there, "{step}");
        backup(&app, slug).await;
    }
}

/// A server that stands still in the middle of a dump: nothing flows by which anybody could notice that the job is to stop.
#[actix_web::test]
async fn a_backup_that_hangs_is_cancelled() {
    const WAITS: &str = "SELECT pid::text AS word FROM pg_stat_activity \
                         WHERE application_name = 'tenantry-pg_dump' AND wait_event_type = 'Lock'";
    let (app, server) = (TestApp::builder().start().await, Server::start().await);
    app.cluster("second", &server.target()).await;
    let tenant = app.tenant_on("second", "frozen").await;
    let (operator, worker) = (app.operator(), app.fleet());
    let mut gate = db::open(tenant.database()).await;
    gate.batch_execute("BEGIN; LOCK TABLE contacts").await.expect("nobody has it");
    let asked = operator.post(&format!("/api/v1/admin/tenants/{}/backups", tenant.slug), json!({})).await.expect(202);
    let job = format!("/api/v1/admin/jobs/{}", asked.id());
    let dumps = async || {
        worker.work().await.expect("the control plane answers");
        !db::words(&server.target(), WAITS).await.is_empty()
    };
    eventually(seconds(30), "it dumps", dumps).await;
    let frozen = server.freeze();
    operator.post(&format!("{job}/cancel"), json!({})).await.expect(200);
    let ended = async || operator.get(&job).await.expect(200).data()["state"] == "cancelled";
    eventually(seconds(20), "it is cancelled", ended).await;
    drop(frozen);
}
