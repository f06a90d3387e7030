//! A driver whose lock is gone, and who has not heard of it: another takes the job over, and the first one stops.

use std::thread;

use tenantry::fleet::restore::RestoreTenant;
use tenantry::fleet::{OperationOptions, Progress, Silent};
use tenantry::kernel::TenantId;
use tenantry::testing::TestApp;

use super::scene::{backup, lives_in, with_people_and_contacts};
use crate::support::db;

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
