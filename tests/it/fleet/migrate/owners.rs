//! Whose it is what migrations make.

use super::ground::Ground;
use crate::support::binary::run_with;
use crate::support::db;

const OWNERS: &str = "SELECT DISTINCT kind || ' of ' || pg_get_userbyid(owner) AS word FROM ( \
    SELECT 'relation' AS kind, relowner AS owner FROM pg_class WHERE relnamespace = 'public'::regnamespace \
    UNION SELECT 'routine', proowner FROM pg_proc WHERE pronamespace = 'public'::regnamespace \
    UNION SELECT 'schema', nspowner FROM pg_namespace WHERE nspname = 'apart' \
    UNION SELECT 'history', relowner FROM pg_class WHERE relname LIKE '%schema_history') AS every ORDER BY 1";

/// A table, what reads it with the rights of its owner, and what only the owner of a database may make.
const SQL: &str = "CREATE TABLE notes (note text); INSERT INTO notes VALUES ('one'); \
    CREATE VIEW noted AS SELECT note, (SELECT count(*) FROM users) AS people FROM notes; CREATE SCHEMA apart; \
    CREATE TEMPORARY TABLE passing (it int)";

fn owned_by(role: &str) -> [String; 4] {
    ["history", "relation", "routine", "schema"].map(|kind| format!("{kind} of {role}"))
}

/// Makes a tenant what it was in the releases whose roles owned their tables themselves.
async fn make_it_earlier(database: &tenantry::router::Target) {
    let statements = format!(
        "DO $$ DECLARE change text; BEGIN FOR change IN \
         SELECT format('ALTER TABLE %s OWNER TO \"{0}\"', oid::regclass) FROM pg_class \
         WHERE relkind IN ('r', 'v') AND relowner = 'pg_database_owner'::regrole \
         UNION ALL SELECT format('ALTER ROUTINE %s OWNER TO \"{0}\"', oid::regprocedure) FROM pg_proc \
         WHERE proowner = 'pg_database_owner'::regrole LOOP EXECUTE change; END LOOP; END $$; \
         GRANT ALL ON SCHEMA public TO \"{0}\"; GRANT USAGE, CREATE ON SCHEMA tenantry TO \"{0}\"; \
         GRANT SELECT ON tenantry.stamp TO \"{0}\"; REVOKE ALL ON DATABASE \"{0}\" FROM pg_database_owner",
        database.database
    );
    db::execute(database, &statements).await;
}

/// One owner for all of it: a view of one that reads a table of another would have no right to it.
#[actix_web::test]
async fn what_migrations_make_is_whose_the_rest_is() {
    let ground = Ground::new(2).await;
    let (now, earlier) = (ground.database("t00x").await, ground.database("t01x").await);
    make_it_earlier(&earlier).await;
    // A file may end as another role.
    ground.write("V1__notes.sql", &format!("{SQL}; RESET ROLE"));
    ground.write("V2__more.sql", "CREATE TABLE more (it int)");
    assert_eq!(ground.migrate(&[], 0).await["migrated"], 2);
    assert_eq!(db::words(&now, OWNERS).await, owned_by("pg_database_owner"));
    assert_eq!(db::words(&earlier, OWNERS).await, owned_by(&earlier.database));
    for database in [&now, &earlier] {
        let noted = format!("SET ROLE \"{}\"; INSERT INTO notes VALUES ('two'); ANALYZE notes", database.database);
        db::execute(database, &noted).await;
        assert_eq!(db::word(database, "SELECT count(*)::text AS word FROM noted").await, "2");
    }
    // Either is what it should be.
    ground.fleet(&["drift"]).await.expect(0);
}

/// The operator's migrations are applied alone to what was copied from before there were any.
#[actix_web::test]
async fn a_copy_s_first_migration_is_the_owner_s_too() {
    let ground = Ground::new(1).await;
    ground.write("V1__notes.sql", SQL);
    run_with(&ground.environment(), &["tenant", "clone", "t00x", "copied"]).await.expect(0);
    let copy = ground.database("copied").await;
    assert_eq!(db::words(&copy, OWNERS).await, owned_by("pg_database_owner"));
    ground.write(
        "V2__more.sql",
        "ALTER TABLE notes ADD more text; DROP VIEW noted; CREATE VIEW noted AS SELECT note, more FROM notes",
    );
    ground.migrate(&["--only", "copied"], 0).await;
}

/// A node of before may have migrated it meanwhile, as the tenant's role.
#[actix_web::test]
async fn where_the_histories_have_two_owners_migrations_go_on() {
    let ground = Ground::new(1).await;
    ground.write("V1__notes.sql", SQL);
    ground.migrate(&[], 0).await;
    let database = ground.database("t00x").await;
    let role = &database.database;
    let mixed =
        format!("ALTER TABLE tenantry.operator_history OWNER TO \"{role}\"; ALTER TABLE notes OWNER TO \"{role}\"");
    db::execute(&database, &mixed).await;
    ground.write("V2__more.sql", "ALTER TABLE notes ADD more text; ALTER TABLE contacts ADD noted text");
    ground.migrate(&[], 0).await;
}

/// Who is let in by mistake is nobody there: only the owner of a database is a member of that role.
#[actix_web::test]
async fn a_neighbour_s_role_has_nothing_of_what_belongs_to_the_owner() {
    let ground = Ground::new(2).await;
    let (theirs, other) = (ground.database("t00x").await, ground.database("t01x").await.database);
    db::execute(&theirs, &format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{other}\"", theirs.database)).await;
    let may = |role: &str| {
        format!(
            "SELECT concat_ws(' ', count(*) FILTER (WHERE has_table_privilege('{role}', oid, 'SELECT')) > 0, \
             pg_has_role('{role}', 'pg_database_owner', 'MEMBER'), has_schema_privilege('{role}', 'public', 'CREATE'), \
             has_schema_privilege('{role}', 'tenantry', 'USAGE')) AS word FROM pg_class \
             WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'tenantry'::regnamespace)"
        )
    };
    assert_eq!(db::word(&theirs, &may(&other)).await, "f f f f");
    assert_eq!(db::word(&theirs, &may(&theirs.database)).await, "t t t t");
}

/// A clone of an earlier release's template was to be handed over when its maker died.
#[actix_web::test]
async fn what_an_earlier_template_held_is_the_owner_s_in_the_end() {
    let ground = Ground::new(1).await;
    let database = ground.database("t00x").await;
    let begun = "CREATE ROLE tenantry_template_owner; GRANT USAGE ON SCHEMA public TO tenantry_template_owner; \
                 ALTER TABLE contacts OWNER TO tenantry_template_owner";
    db::execute(&database, begun).await;
    for _ in 0..2 {
        db::execute(&database, include_str!("../../../../provisioning/grants.sql")).await;
    }
    let whose = "SELECT pg_get_userbyid(relowner)::text AS word FROM pg_class WHERE relname = 'contacts'";
    assert_eq!(db::word(&database, whose).await, "pg_database_owner");
    // It has nothing there any more, and who may not act for it is not asked to.
    db::execute(&database, "DROP ROLE tenantry_template_owner").await;
}
