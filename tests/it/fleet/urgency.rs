//! What waits for a worker is taken by how much depends on it: nobody waits behind backups that nobody asked for.

use std::time::Duration;

use tenantry::control::operations;
use tenantry::error::ApiError;
use tenantry::fleet::{Fleet, FleetSettings};
use tenantry::rest::passwords::{Passwords, Peppers};
use tenantry::router::MainConn;
use tenantry::router::migrate::MigrateOptions;
use tenantry::storage::Storage;
use tenantry::testing::TestApp;

use crate::support::{db, eventually, seconds};

/// Backups of tenants that are gone: whoever takes one is soon done with it.
fn backups(count: u32, scheduled: bool) -> String {
    format!(
        "INSERT INTO operations (id, tenant_id, slug, kind, state, background, input, started_at) \
         SELECT gen_random_uuid(), gen_random_uuid(), 'gone-' || n, 'backup', 'queued', true, \
             '{{\"scheduled\": {scheduled}}}', now() - interval '3 hours' FROM generate_series(1, {count}) n"
    )
}

#[actix_web::test]
async fn an_interrupted_rotation_comes_before_backups_that_nobody_asked_for() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("between").await;
    let rotation = format!(
        "INSERT INTO operations (id, tenant_id, slug, kind, state, background, input) \
         VALUES (gen_random_uuid(), '{}', '{}', 'rotate_credentials', 'running', true, '{{}}')",
        acme.id, acme.slug
    );
    let rows = [backups(100, true), backups(1, false), rotation];
    db::execute(app.control_database(), &rows.join("; ")).await;
    let (control, fleet) = (app.control(), app.fleet());
    let order = async |passed: i64| {
        let waiting = control.db.read(async move |conn: &mut MainConn| -> Result<_, ApiError> {
            operations::waiting(conn, 3, passed).await
        });
        let waiting = waiting.await.expect("the control plane answers");
        waiting.iter().map(|one| (one.kind.as_str(), one.is_scheduled_backup())).collect::<Vec<_>>()
    };
    assert_eq!(order(0).await, [("rotate_credentials", false), ("backup", false), ("backup", true)]);
    assert_eq!(order(100).await, [("backup", true), ("backup", true)], "the next page goes on there");
    // Half of its places are free for what comes next.
    assert_eq!(fleet.work().await.expect("the control plane answers"), 2 + 4);
    let ended = "SELECT kind || ' ' || state || ' ' || count(*) AS word FROM operations \
                 WHERE background AND kind IN ('backup', 'rotate_credentials') GROUP BY kind, state ORDER BY 1";
    eventually(seconds(30), "what was taken has ended", async || {
        db::words(app.control_database(), ended).await
            == ["backup failed 5", "backup queued 96", "rotate_credentials done 1"]
    })
    .await;
}

#[actix_web::test]
async fn no_backup_is_queued_behind_many() {
    let app = TestApp::builder().start().await;
    app.tenant("due").await;
    let settings = FleetSettings {
        public_url: "http://tenantry.test".to_owned(),
        purge_grace: Duration::from_secs(60),
        operator_migrations: None,
        placement: tenantry::control::clusters::Placement::Databases,
        storage: Some(Storage::directory(app.storage())),
        backup_every: Some(Duration::from_secs(24 * 60 * 60)),
        backup_keep: Duration::from_secs(24 * 60 * 60),
        export_retention: Duration::from_secs(60),
        dump_limit: 0,
        drain_timeout: Duration::from_secs(1),
        migrate: MigrateOptions::default(),
        ready_tenants: 0,
        cluster_budget: 80,
    };
    let fleet = Fleet::new(app.control(), Passwords::of_tests(1, Peppers::default()), settings);
    let long_ago = "UPDATE tenants SET created_at = created_at - interval '100 days'";
    db::execute(app.control_database(), &format!("{long_ago}; {}", backups(64, true))).await;
    assert_eq!(fleet.schedule_backups().await.expect("the control plane answers"), 0);
    // What somebody asked for counts for nothing here.
    let others = "UPDATE operations SET input = '{\"scheduled\": false}' WHERE slug = 'gone-7'";
    db::execute(app.control_database(), others).await;
    assert_eq!(fleet.schedule_backups().await.expect("the control plane answers"), 1);
}
