//! The operator's own migrations, after the built-in ones.

use tenantry::fleet::{CreateTenant, Silent};
use tenantry::testing::TestApp;

use crate::support::{db, unique};

fn wanted(slug: &str) -> CreateTenant {
    CreateTenant {
        slug: slug.parse().unwrap(),
        name: None,
        cluster: Some("local".into()),
        registration: None,
        region: None,
        plan: None,
        max_connections: None,
        admin: None,
    }
}

#[actix_web::test]
async fn an_operator_s_migrations_are_part_of_every_new_tenant() {
    let app = TestApp::builder().start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("V1__orders.sql"),
        "CREATE TABLE orders (id uuid PRIMARY KEY, contact_id uuid REFERENCES contacts (id));",
    )
    .unwrap();
    std::fs::write(directory.path().join("V2__notes.sql"), "ALTER TABLE orders ADD note text;").unwrap();
    let fleet = app.fleet_with_migrations(directory.path());
    let made = fleet.create(&wanted(&unique("own")), &Default::default(), &Silent).await.unwrap().tenant;
    let database = app.server().with_database(&made.database_name);
    let owner = "SELECT tableowner::text AS word FROM pg_tables WHERE tablename = 'orders'";
    assert_eq!(db::word(&database, owner).await, made.role_name);
    assert_eq!(db::word(&database, "SELECT count(note)::text AS word FROM orders").await, "0");
}

#[actix_web::test]
async fn a_migration_that_fails_leaves_no_half_made_tenant_behind_a_delete() {
    let app = TestApp::builder().start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("V1__broken.sql"), "CREATE TABLE fine (id int); CREATE TABLE fine (id int);")
        .unwrap();
    let fleet = app.fleet_with_migrations(directory.path());
    let slug = unique("broken");
    let error = fleet.create(&wanted(&slug), &Default::default(), &Silent).await.unwrap_err();
    assert!(!error.client_detail().contains("fine"), "no SQL to clients: {error:?}");
    let status = format!("SELECT status AS word FROM tenants WHERE slug = '{slug}'");
    assert_ne!(db::word(app.control_database(), &status).await, "active");
    // Repaired, the same command goes on.
    std::fs::write(directory.path().join("V1__broken.sql"), "CREATE TABLE fine (id int);").unwrap();
    fleet.create(&wanted(&slug), &Default::default(), &Silent).await.unwrap();
    assert_eq!(db::word(app.control_database(), &status).await, "active");
}

/// The schema is asked for its own facts.
#[actix_web::test]
async fn every_foreign_key_has_an_index_in_both_planes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let without = "SELECT c.conrelid::regclass || ' ' || c.conname AS word FROM pg_constraint c \
        JOIN pg_namespace n ON n.oid = c.connamespace \
        WHERE c.contype = 'f' AND n.nspname = 'public' AND NOT EXISTS (SELECT FROM pg_index i \
        WHERE i.indrelid = c.conrelid AND (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(c.conkey)] @> c.conkey)";
    for database in [app.control_database(), acme.database()] {
        assert_eq!(db::words(database, without).await, Vec::<String>::new(), "{database:?}");
    }
}
