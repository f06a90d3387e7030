//! What a tenant's database holds, told by counts and checksums: what a copy is measured by.

use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ApiResult};
use crate::fleet::sql;
use crate::router::AdminConn;

/// The text of a row depends on these.
const SETTINGS: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET search_path = pg_catalog; SET row_security = off";

/// Every table of the tenant's, partitions each for itself. The stamp is the database's own, and never copied.
const TABLES: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' \
    AND n.nspname <> 'information_schema' AND NOT (n.nspname = 'tenantry' AND c.relname = 'stamp') \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1, 2";

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableContents {
    /// Its name, with its schema.
    pub table: String,
    /// How many rows.
    pub rows: i64,
    /// The sum of its rows' digests, whatever their order.
    pub checksum: String,
}

/// A table of a database.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(in crate::fleet) struct TableName {
    #[diesel(sql_type = Text)]
    pub(in crate::fleet) schema: String,
    #[diesel(sql_type = Text)]
    pub(in crate::fleet) name: String,
}

impl TableName {
    /// As it stands in a statement.
    pub(in crate::fleet) fn quoted(&self) -> String {
        format!("{}.{}", sql::ident(&self.schema), sql::ident(&self.name))
    }
}

#[derive(diesel::QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = Text)]
    checksum: String,
}

/// The tables of the database, by name.
pub(in crate::fleet) async fn tables(conn: &mut AdminConn) -> ApiResult<Vec<TableName>> {
    diesel::sql_query(TABLES).load(conn).await.map_err(ApiError::internal)
}

/// What every table holds. Reads all of it, on the server.
pub(in crate::fleet) async fn read(conn: &mut AdminConn) -> ApiResult<Vec<TableContents>> {
    let tables = tables(conn).await?;
    conn.batch_execute(SETTINGS).await.map_err(ApiError::internal)?;
    let mut contents = Vec::with_capacity(tables.len());
    for table in tables {
        // A sum forgets the order; 128 bits of each row's digest as two of 64. The text of `ROW(…)` is that of the row, but
        // for a cast that the table's owner has made.
        let query = format!(
            "SELECT count(*) AS rows, \
             coalesce(sum(('x' || left(digest, 16))::bit(64)::bigint::numeric), 0) || ' ' \
             || coalesce(sum(('x' || right(digest, 16))::bit(64)::bigint::numeric), 0) AS checksum \
             FROM (SELECT md5(ROW(tenantry_row.*)::text) AS digest FROM {} AS tenantry_row) AS digests",
            table.quoted()
        );
        let sum: Sum = diesel::sql_query(query).get_result(conn).await.map_err(ApiError::internal)?;
        let name = format!("{}.{}", table.schema, table.name);
        contents.push(TableContents { table: name, rows: sum.rows, checksum: sum.checksum });
    }
    Ok(contents)
}

/// The tables that are not the same in both.
pub(in crate::fleet) fn differences(expected: &[TableContents], found: &[TableContents]) -> Vec<String> {
    let only = |these: &[TableContents], others: &[TableContents]| {
        these.iter().filter(|one| !others.contains(one)).map(|one| one.table.clone()).collect::<Vec<_>>()
    };
    let mut tables = only(expected, found);
    tables.extend(only(found, expected));
    tables.sort();
    tables.dedup();
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_tables_that_differ() {
        let table = |name: &str, rows| TableContents { table: name.into(), rows, checksum: rows.to_string() };
        let expected = [table("a", 1), table("b", 2), table("c", 3)];
        assert!(differences(&expected, &expected).is_empty());
        assert_eq!(differences(&expected, &[table("a", 1), table("b", 9), table("d", 4)]), ["b", "c", "d"]);
    }
}
