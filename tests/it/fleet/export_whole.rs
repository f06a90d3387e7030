//! An export holds all rows of all tables, and of this tenant alone.

use std::fs;

use tenantry::testing::TestApp;

use super::scene::backup;
use crate::support::binary::run;
use crate::support::db;
use crate::support::dir::Dir;

/// A policy that the tenant's role has put upon itself hides rows: none is left out in silence.
#[actix_web::test]
async fn no_policy_makes_half_an_export_or_half_a_backup() {
    let app = TestApp::shared().await;
    let acme = app.tenant("policed").await;
    let slug = acme.slug.as_str();
    let role = acme.role();
    let ledger = format!(
        "SET ROLE {role}; CREATE TABLE ledger (id int PRIMARY KEY); INSERT INTO ledger SELECT generate_series(1, 10); \
         ALTER TABLE ledger ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY half ON ledger USING (id <= 5)"
    );
    db::execute(acme.database(), &ledger).await;
    let dir = Dir::new();
    let to = dir.path().join("export");
    let arguments = ["tenant", "export", slug, "--to", to.to_str().unwrap()];
    for arguments in [&arguments[..], &["tenant", "backup", slug]] {
        let said = run(app, arguments).await.expect(4);
        for word in ["public.ledger", "NO FORCE ROW LEVEL SECURITY"] {
            assert!(said.stderr.contains(word), "{word}: {said:?}");
        }
    }
    assert!(!to.join("manifest.json").exists(), "nothing that looks whole");
    // A policy for others takes nothing away from the owner.
    db::execute(acme.database(), "ALTER TABLE ledger NO FORCE ROW LEVEL SECURITY").await;
    run(app, &arguments).await.expect(0);
    assert_eq!(fs::read_to_string(to.join("ledger.ndjson")).unwrap().lines().count(), 10);
    backup(app, slug).await;
}
