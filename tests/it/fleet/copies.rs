//! What a tenant's database has from its administrator is in every copy of it.

use tenantry::testing::{Tenant, TestApp};

use super::scene::{backup, lives_in};
use crate::support::binary::run;
use crate::support::{db, unique};

/// A backup restored as a new tenant and in place, and a clone: the slugs of all three.
async fn copies(app: &TestApp, tenant: &Tenant) -> [String; 3] {
    let (slug, beside, clone) = (tenant.slug.to_string(), unique("beside"), unique("clone"));
    let id = backup(app, &slug).await["id"].as_str().unwrap().to_owned();
    run(app, &["tenant", "clone", &slug, &clone]).await.expect(0);
    run(app, &["tenant", "restore", &slug, "--backup", &id, "--as", &beside]).await.expect(0);
    run(app, &["tenant", "restore", &slug, "--backup", &id]).await.expect(0);
    [slug, beside, clone]
}

/// They are said as the tenant's role, which may not say what an administrator's objects begin with.
#[actix_web::test]
async fn default_privileges_of_an_administrator_are_left_out() {
    let app = TestApp::shared().await;
    let acme = app.tenant("defaults").await;
    let at = lives_in(app, acme.slug.as_str()).await;
    let grant = "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO \"{role}\"; \
                 SET ROLE \"{role}\"; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC; \
                 CREATE SCHEMA \"public old\"; CREATE TABLE \"public old\".notes (note text)";
    db::execute(&at, &grant.replace("{role}", acme.role())).await;
    for slug in copies(app, &acme).await {
        let copy = lives_in(app, &slug).await;
        // In the list of a dump it begins as `public` does, which is there already.
        let there = "SELECT count(*)::text AS word FROM pg_class WHERE relname = 'notes'";
        assert_eq!(db::word(&copy, there).await, "1", "{slug}");
        let whose = "SELECT (d.defaclrole = b.datdba)::text AS word FROM pg_default_acl d, pg_database b \
                     WHERE b.datname = current_database()";
        assert_eq!(db::words(&copy, whose).await, ["true"], "{slug}");
    }
}
