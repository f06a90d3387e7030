//! The operator's own migrations, after the built-in ones.

use tenantry::fleet::migrations::built_in;
use tenantry::fleet::{CreateTenant, Silent};
use tenantry::router::Target;
use tenantry::router::migrate::{MigrateOptions, migrate};
use tenantry::testing::{TestApp, TestCluster};

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
    assert_eq!(db::word(&database, owner).await, "pg_database_owner");
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

/// What programs of the release before read and write of a schema: each column with its type.
const COLUMNS: &str = "SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS word \
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped";
/// Columns that a program which does not know of them cannot leave out.
const DEMANDED: &str = "SELECT c.relname || '.' || a.attname AS word FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
    AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''";
/// What says in a file that nobody reads any more what it takes away.
const CONTRACT: &str = "-- tenantry: contract";

/// What a step from one schema to the next takes from programs that know the first one only.
async fn taken(database: &Target, step: impl AsyncFnOnce()) -> Vec<String> {
    let (columns, demanded) = (db::words(database, COLUMNS).await, db::words(database, DEMANDED).await);
    step().await;
    let (left, asked) = (db::words(database, COLUMNS).await, db::words(database, DEMANDED).await);
    let known_table = |column: &String| {
        let table = column.split('.').next().unwrap_or_default();
        columns.iter().any(|known| known.split('.').next() == Some(table))
    };
    let gone = columns.iter().filter(|column| !left.contains(column)).map(|column| format!("{column} is gone"));
    let new = asked.iter().filter(|column| !demanded.contains(column) && known_table(column));
    gone.chain(new.map(|column| format!("{column} has to be given"))).collect()
}

/// Expand, then contract: a server of the release before goes on serving a tenant that is migrated already.
#[actix_web::test]
async fn no_migration_takes_away_what_the_release_before_reads() {
    let database = TestCluster::get().await.database("expand").await;
    let (built_in, target) = (built_in(), database.target());
    for (version, file) in built_in.after(0) {
        let text = std::fs::read_to_string(format!("tenant-migrations/{file}")).expect("a file");
        let taken = taken(target, async || {
            migrate(target, &built_in.up_to(version), &MigrateOptions::default()).await.expect("it applies");
        })
        .await;
        let contracts = text.lines().any(|line| line.trim() == CONTRACT);
        assert!(
            taken.is_empty() || contracts,
            "{file}: {taken:?}. Expand first; contract a release later ('{CONTRACT}')."
        );
    }
    for (breaks, said) in [
        ("ALTER TABLE contacts RENAME COLUMN title TO headline", "contacts.title text is gone"),
        ("ALTER TABLE roles ALTER COLUMN description TYPE varchar(9)", "roles.description text is gone"),
        ("ALTER TABLE contacts ADD COLUMN fax text NOT NULL", "contacts.fax has to be given"),
    ] {
        assert_eq!(taken(target, async || db::execute(target, breaks).await).await, [said]);
    }
    let added = "ALTER TABLE contacts ADD COLUMN born date; CREATE TABLE more (id int NOT NULL)";
    assert!(taken(target, async || db::execute(target, added).await).await.is_empty());
}
