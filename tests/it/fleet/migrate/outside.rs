//! What runs outside of a transaction may die at any point, and is done again.

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
