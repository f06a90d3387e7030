//! Whose turn it is to be backed up by itself.

use tenantry::control::backups;
use tenantry::error::ApiError;
use tenantry::router::MainConn;
use tenantry::testing::{Tenant, TestApp};

use crate::support::db;

fn backed_up(tenant: &Tenant, hours: u32) -> String {
    format!(
        "INSERT INTO backups (id, tenant_id, slug, state, scheduled, bytes, rows, schema_version, created_at, finished_at) \
         VALUES (gen_random_uuid(), '{}', '{}', 'done', true, 1, 1, 1, now() - interval '{hours} hours', now())",
        tenant.id, tenant.slug
    )
}

/// Ended, or open still, so many hours ago.
fn operation(tenant: &Tenant, kind: &str, state: &str, hours: u32) -> String {
    let ended = if matches!(state, "queued" | "running") { "NULL" } else { "now()" };
    format!(
        "INSERT INTO operations (id, tenant_id, slug, kind, state, input, started_at, finished_at) VALUES \
         (gen_random_uuid(), '{}', '{}', '{kind}', '{state}', '{{}}', now() - interval '{hours} hours', {ended})",
        tenant.id, tenant.slug
    )
}

/// However many wait or cannot be backed up, each has its turn, the longest without one first.
#[actix_web::test]
async fn the_longest_without_a_backup_comes_first_and_nobody_stands_in_the_way() {
    let app = TestApp::builder().start().await;
    let mut tenants = Vec::new();
    for name in ["recent", "overdue", "failing", "moving", "busy", "moved", "never"] {
        tenants.push(app.tenant(name).await);
    }
    let [recent, overdue, failing, moving, busy, moved, never] = &tenants[..] else { panic!("seven") };
    let rows = [
        backed_up(recent, 2),
        backed_up(overdue, 30),
        backed_up(overdue, 70),
        // Its last one is the oldest; it was tried again an hour after that of `overdue`, in vain.
        backed_up(failing, 90),
        operation(failing, "backup", "failed", 29),
        operation(moving, "move", "failed", 20),
        operation(moving, "rotate_credentials", "done", 10),
        operation(busy, "export", "running", 20),
        operation(moved, "move", "undone", 20),
        backed_up(moved, 40),
    ];
    db::execute(app.control_database(), &rows.join("; ")).await;
    let long_ago = "UPDATE tenants SET created_at = created_at - interval '100 days'";
    db::execute(app.control_database(), long_ago).await;
    let (control, since) = (app.control(), app.clock().now() - chrono::TimeDelta::days(1));
    let due = async |limit: i64| {
        let due = control
            .db
            .read(async move |conn: &mut MainConn| -> Result<_, ApiError> { backups::due(conn, since, limit).await });
        due.await.expect("the control plane answers")
    };
    let turns = [never, moved, overdue, failing].map(|tenant| tenant.id);
    assert_eq!(due(32).await, turns);
    assert_eq!(due(2).await, turns[..2], "those of whom nothing can be made take nobody's place");
}
