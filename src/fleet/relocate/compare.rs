//! Both sides, row by row: counts, sequences and checksums that do not depend on the order of rows.

use diesel_async::SimpleAsyncConnection as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::run::{Run, open_patiently};
use super::weigh::{self, Side, Sum};
use crate::error::{ApiError, ApiResult};
use crate::fleet::{admin, refused};
use crate::router::Target;

/// A row reads the same on both sides.
pub(super) const READING: &str = "SET search_path = ''; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; \
    SET bytea_output = 'hex'; SET extra_float_digits = 1";
/// A query for the tenant's own tables, as words, with a condition on `c`, the table, and `n`, its schema. The stamp is not
/// copied, and what an extension brings it brings itself.
pub(super) fn tables(condition: &str) -> String {
    format!(
        "SELECT format('%I.%I', n.nspname, c.relname) AS word FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND NOT (n.nspname = 'tenantry' AND c.relname = 'stamp') \
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
                           AND d.deptype = 'e') AND {condition} ORDER BY 1"
    )
}
pub(super) const SEQUENCES: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS word FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    ORDER BY 1";

/// A table's rows, the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableChecksum {
    /// Schema and name.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// The sum of the rows' digests.
    pub checksum: String,
}

/// What one side holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compared {
    pub(super) tables: Vec<TableChecksum>,
    pub(super) sequences: Vec<String>,
    pub(super) large_objects: Vec<String>,
}

/// What both sides hold, if it is the same. Tables that were weighed are not read as a whole again.
pub(super) async fn compare(run: &Run<'_>, weighed: Option<&mut [Side; 2]>) -> ApiResult<Compared> {
    let (source, target) = (run.at_source(), run.at_target()?);
    let (there, here) = match weighed {
        Some([there, here]) => (Some(there), Some(here)),
        None => (None, None),
    };
    let (there, here) = tokio::try_join!(look(&source, there), look(&target, here))?;
    if there == here {
        return Ok(here);
    }
    let differs = there.tables.iter().find(|table| !here.tables.contains(table)).map(|table| table.table.clone());
    let what = differs.unwrap_or_else(|| "the list of tables, a sequence or a large object".into());
    Err(refused(format!("The copy differs from the source in {what}. Nothing has changed; try again.")))
}

async fn look(target: &Target, mut weighed: Option<&mut Side>) -> ApiResult<Compared> {
    let mut conn = open_patiently(target).await?;
    for settings in [READING, admin::TABLES_ONLY] {
        conn.batch_execute(settings).await.map_err(ApiError::internal)?;
    }
    let mut found = Vec::new();
    for table in admin::words(&mut conn, &tables("true")).await? {
        let since = match &mut weighed {
            Some(side) => side.since(&mut conn, &table).await?,
            None => None,
        };
        let sum = match since {
            Some(sum) => sum,
            None => weigh::sum(&mut conn, &table, "true").await?,
        };
        found.push(checksum(table, sum)?);
    }
    let mut sequences = Vec::new();
    for name in admin::words(&mut conn, SEQUENCES).await? {
        let state = format!("SELECT last_value::text || ' ' || is_called::text AS word FROM {name}");
        sequences.extend(admin::words(&mut conn, &state).await?.into_iter().map(|state| format!("{name} {state}")));
    }
    let large_objects = "SELECT oid::text AS word FROM pg_largeobject_metadata ORDER BY oid";
    let large_objects = admin::words(&mut conn, large_objects).await?;
    Ok(Compared { tables: found, sequences, large_objects })
}

fn checksum(table: String, sum: Sum) -> ApiResult<TableChecksum> {
    let rows = u64::try_from(sum.rows).map_err(ApiError::internal)?;
    Ok(TableChecksum { table, rows, checksum: sum.digests.to_string() })
}
