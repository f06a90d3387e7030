//! A driver whose lock is gone, and who has not heard of it: another takes the job over, and the first one stops.

use std::thread;

use tenantry::fleet::restore::RestoreTenant;
use tenantry::fleet::{OperationOptions, Progress, Silent};
use tenantry::kernel::TenantId;
use tenantry::testing::TestApp;

use super::scene::{backup, dies, lives_in, with_people_and_contacts};
use crate::support::binary::run;
use crate::support::{db, eventually, seconds, unique};

/// Ends the session that holds a tenant's lock, and goes on with the restore elsewhere, when a step begins.
struct Elsewhere {
    app: &'static TestApp,
    step: &'static str,
    tenant: TenantId,
    slug: String,
    wanted: RestoreTenant,
}

impl Progress for Elsewhere {
    fn started(&self, step: &str) {
        if step != self.step {
            return;
        }
        let (app, slug, wanted) = (self.app, self.slug.clone(), self.wanted.clone());
        let terminate = format!(
            "SELECT pg_terminate_backend(pid)::text AS word FROM pg_locks \
             WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32) | objid::bigint = \
             ('x' || left(encode(sha256('tenant operation {}'), 'hex'), 16))::bit(64)::bigint",
            self.tenant
        );
        // The first driver waits for it; its runtime cannot.
        let done = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                assert_eq!(db::words(app.control_database(), &terminate).await, ["true"], "it had the lock");
                let fleet = app.fleet();
                fleet.restore_backup(&slug, &wanted, &OperationOptions::default(), &Silent).await.expect("it goes on");
            });
        });
        done.join().expect("it is done elsewhere");
    }
}

#[actix_web::test]
async fn a_driver_that_lost_its_lock_stops() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let id = backup(app, slug).await["id"].as_str().expect("an id").to_owned();
    let wanted = RestoreTenant { backup: id.parse().expect("an id"), beside: None };
    let fleet = app.fleet();
    for step in ["compare", "switch", "fence"] {
        db::execute(&lives_in(app, slug).await, "DELETE FROM contacts").await;
        let elsewhere = Elsewhere { app, step, tenant: acme.id, slug: slug.to_owned(), wanted: wanted.clone() };
        let first = fleet.restore_backup(slug, &wanted, &OperationOptions::default(), &elsewhere).await;
        let error = first.expect_err("another does it");
        assert!(error.client_detail().contains("taken this job over"), "{step}: {error:?}");
        assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before, "{step}");
        let states = format!(
            "SELECT DISTINCT state AS word FROM operations WHERE kind = 'restore' AND tenant_id = '{}'",
            acme.id
        );
        assert_eq!(db::words(app.control_database(), &states).await, ["done"], "{step}");
    }
}

/// A worker that goes on with a job hears that it shall stop, until the tenant lives in what was restored; and what has
/// ended is not driven by anybody.
#[actix_web::test]
async fn a_worker_takes_back_no_cancel() {
    let app = &TestApp::builder().start().await;
    let (acme, worker) = (with_people_and_contacts(app).await, app.fleet());
    let slug = acme.slug.as_str();
    let id = backup(app, slug).await["id"].as_str().expect("an id").to_owned();
    let restore = ["tenant", "restore", slug, "--backup", &id];
    for (step, end) in [("load", "cancelled"), ("switch", "done")] {
        dies(app, &restore, step, false).await;
        let latest = format!("SELECT id FROM operations WHERE tenant_id = '{}' ORDER BY id DESC LIMIT 1", acme.id);
        let cancel = format!("UPDATE operations SET background = true, cancel_requested = true WHERE id = ({latest})");
        db::execute(app.control_database(), &cancel).await;
        let state = format!("SELECT state AS word FROM operations WHERE id = ({latest})");
        eventually(seconds(30), step, async || {
            worker.work().await.expect("the control plane answers");
            db::word(app.control_database(), &state).await == end
        })
        .await;
    }
    assert_ne!(lives_in(app, slug).await.database, acme.role());
}

/// A tenant that was deleted while a worker was about to make it is not made.
#[actix_web::test]
async fn a_deleted_tenant_is_not_made_anew() {
    let app = &TestApp::builder().start().await;
    let slug = unique("unmade");
    dies(app, &["tenant", "create", &slug], "database", false).await;
    let job = format!("SELECT id::text AS word FROM operations WHERE slug = '{slug}' AND kind = 'create'");
    let job = db::word(app.control_database(), &job).await;
    run(app, &["tenant", "delete", &slug, "--now", "--yes"]).await.expect(0);
    // As it was when the worker looked.
    let open =
        format!("UPDATE operations SET state = 'running', finished_at = NULL, background = true WHERE id = '{job}'");
    db::execute(app.control_database(), &open).await;
    let (worker, state) = (app.fleet(), format!("SELECT state AS word FROM operations WHERE id = '{job}'"));
    eventually(seconds(30), "it has ended", async || {
        worker.work().await.expect("the control plane answers");
        db::word(app.control_database(), &state).await == "failed"
    })
    .await;
    let there = format!("SELECT slug AS word FROM tenants WHERE slug = '{slug}'");
    assert_eq!(db::words(app.control_database(), &there).await, Vec::<String>::new());
}

/// A restore that failed, or was interrupted, once the tenant lived in what it restored is over: asked for again, it
/// restores again.
#[actix_web::test]
async fn a_restore_that_ended_after_its_switch_is_done_anew() {
    let app = &TestApp::builder().start().await;
    let acme = with_people_and_contacts(app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let id = backup(app, slug).await["id"].as_str().expect("an id").to_owned();
    let restore = ["tenant", "restore", slug, "--backup", &id];
    let cases = [("switch", false, true), ("switch", false, false), ("switch", true, false), ("fence", true, false)];
    for (count, (step, before_journal, failed)) in (1..).zip(cases) {
        let what = format!("{step} {before_journal} {failed}");
        dies(app, &restore, step, before_journal).await;
        if failed {
            let end = "UPDATE operations SET state = 'failed', finished_at = now() WHERE kind = 'restore'";
            db::execute(app.control_database(), end).await;
        }
        db::execute(&lives_in(app, slug).await, "DELETE FROM contacts").await;
        run(app, &restore).await.expect(0);
        assert_eq!(db::fingerprint(&lives_in(app, slug).await).await, before, "{what}");
        let open = format!(
            "SELECT count(*)::text AS word FROM pg_database WHERE datallowconn AND datname LIKE '{}%'",
            acme.role()
        );
        assert_eq!(db::word(&app.server(), &open).await, "1", "{what}: those before are closed");
        let states = "SELECT state AS word FROM operations WHERE kind = 'restore'";
        assert_eq!(db::words(app.control_database(), states).await, vec!["done"; 2 * count], "{what}");
    }
}
