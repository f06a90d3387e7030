//! What runs outside of a transaction may die at any point, and is done again.

use serde_json::json;

use super::ground::Ground;
use crate::support::db;

const FILE: &str = "V1__by_title.sql";
const SQL: &str = "-- tenantry: no-transaction\n-- Long, on a large table.\n\
    CREATE INDEX CONCURRENTLY by_title ON contacts (title);\nCREATE INDEX CONCURRENTLY by_company ON contacts (company);";
const VALID: &str = "SELECT (count(*) = 2)::text AS word FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
    WHERE c.relname IN ('by_title', 'by_company') AND i.indisvalid";

#[actix_web::test]
async fn an_index_that_was_left_invalid_is_made_anew() {
    let ground = Ground::new(3).await;
    ground.write(FILE, SQL);
    // Died while it made the index.
    let role = |database: &tenantry::router::Target| format!("SET ROLE {};", database.database);
    let half = ground.database("t00x").await;
    let make = "CREATE INDEX by_title ON contacts (title);";
    db::execute(&half, &format!("{}{make}", role(&half))).await;
    db::execute(&half, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_title'::regclass").await;
    // Died after the first one, before anything was written down.
    let whole = ground.database("t01x").await;
    db::execute(&whole, &format!("{}{make}", role(&whole))).await;
    let report = ground.migrate(&[], 0).await;
    assert_eq!(report["migrated"], 3);
    assert_eq!(ground.count(VALID).await, 3);
    let report = ground.migrate(&[], 0).await;
    assert_eq!(report["skipped"], 3);
}

/// As the server folds and cuts them, and whatever the statement says of one that is there.
#[actix_web::test]
async fn an_invalid_index_is_known_however_its_name_is_written() {
    let ground = Ground::new(2).await;
    let long = format!("By_{}", "x".repeat(70));
    let sql = format!(
        "-- tenantry: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY By_Mail ON Contacts (id, title);\n\
         CREATE INDEX CONCURRENTLY IF NOT EXISTS {long} ON public.contacts (title);\n\
         CREATE INDEX CONCURRENTLY IF NOT EXISTS \"By Company\" ON ONLY contacts (company);"
    );
    ground.write(FILE, &sql);
    let half = ground.database("t00x").await;
    let make = format!(
        "SET ROLE {}; CREATE UNIQUE INDEX by_mail ON contacts (id, title); CREATE INDEX {long} ON contacts (title); \
         CREATE INDEX \"By Company\" ON contacts (company);",
        half.database
    );
    db::execute(&half, &make).await;
    let names = format!("('by_mail', 'by_{}', 'By Company')", "x".repeat(60));
    let invalid = format!(
        "UPDATE pg_index SET indisvalid = false FROM pg_class c WHERE c.oid = indexrelid AND c.relname IN {names}"
    );
    db::execute(&half, &invalid).await;
    let report = ground.migrate(&[], 0).await;
    assert_eq!(report["migrated"], 2);
    let valid = format!(
        "SELECT (count(*) = 3)::text AS word FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE c.relname IN {names} AND i.indisvalid AND i.indisunique = (c.relname = 'by_mail')"
    );
    assert_eq!(ground.count(&valid).await, 2);
}

#[actix_web::test]
async fn what_has_the_name_of_an_index_does_not_pass_for_it() {
    let ground = Ground::new(4).await;
    let ways = [
        ("t00x", "CREATE TABLE by_title (id int)", "table by_title"),
        ("t01x", "CREATE INDEX by_title ON users (id)", "index by_title on users (id)"),
        ("t02x", "CREATE INDEX by_title ON contacts (id, title)", "index by_title on contacts (id, title)"),
        (
            "t03x",
            "CREATE UNIQUE INDEX by_title ON contacts (id, company) INCLUDE (title)",
            "unique index by_title on contacts (id, company) INCLUDE (title)",
        ),
    ];
    for (slug, way, _) in ways {
        let database = ground.database(slug).await;
        db::execute(&database, &format!("SET ROLE {}; {way}", database.database)).await;
    }
    for condition in ["", "IF NOT EXISTS "] {
        let make = format!("CREATE UNIQUE INDEX CONCURRENTLY {condition}by_title ON contacts (id, title);");
        ground.write(FILE, &format!("-- tenantry: no-transaction\n{make}"));
        let report = ground.migrate(&["--canary", "0"], 3).await;
        let failed = report["failed"].as_array().unwrap();
        assert_eq!(failed.len(), ways.len(), "{report}");
        for (failed, (slug, _, owner)) in failed.iter().zip(ways) {
            assert_eq!((&failed["slug"], &failed["migration"]), (&json!(slug), &json!(FILE)));
            let why = format!("the name by_title belongs to something else ({owner}); rename the index");
            assert!(failed["error"].as_str().unwrap().contains(&why), "{failed}");
        }
    }
    // Somebody made way.
    for (slug, undo) in [("t00x", "TABLE"), ("t01x", "INDEX"), ("t02x", "INDEX"), ("t03x", "INDEX")] {
        db::execute(&ground.database(slug).await, &format!("DROP {undo} by_title")).await;
    }
    ground.migrate(&[], 0).await;
    let made = "SELECT i.indisunique::text AS word FROM pg_index i WHERE i.indexrelid = to_regclass('by_title')";
    assert_eq!(ground.count(made).await, 4);
}

#[actix_web::test]
async fn an_index_whose_name_the_server_chooses_is_made() {
    let ground = Ground::new(1).await;
    ground.write(FILE, "-- tenantry: no-transaction\nCREATE INDEX CONCURRENTLY ON contacts (title);");
    ground.fleet(&["migrate"]).await.expect(0);
    let made = "SELECT (count(*) = 1)::text AS word FROM pg_class WHERE relname = 'contacts_title_idx'";
    assert_eq!(ground.count(made).await, 1);
}
