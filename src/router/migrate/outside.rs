//! What runs outside of a transaction: statement by statement, and again from the first one where a try died.

use std::time::Duration;

use super::fault::{Fault, IndexFault};
use super::index::NewIndex;
use super::line::Line;
use super::statements::statements;

/// What has an index's name, in the schema of the index's table: its own name, whether it is an index of this table,
/// whether queries use it, whether it is as unique as it should be and of the columns that are known, and what it is.
const FIND: &str = "SELECT format('%I.%I', n.nspname, c.relname), \
    coalesce(c.relkind = 'i' AND i.indrelid = t.oid, false), \
    coalesce(i.indisvalid, false), coalesce(i.indisunique = $3, false) \
    AND ($4::text[] IS NULL OR $4 = ARRAY(SELECT a.attname::text \
        FROM generate_series(0, i.indnkeyatts - 1) AS place JOIN pg_attribute a ON a.attrelid = i.indrelid \
        AND a.attnum = i.indkey[place] ORDER BY place)), \
    CASE WHEN i.indisunique THEN 'unique ' ELSE '' END || pg_describe_object('pg_class'::regclass, c.oid, 0) \
    || coalesce(' on ' || i.indrelid::regclass::text || ' ' || substring(pg_get_indexdef(c.oid) from '[(].*'), '') \
    FROM pg_class t JOIN pg_class c ON c.relnamespace = t.relnamespace \
    JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid \
    WHERE t.oid = to_regclass($1) AND c.relname = $2";

/// What has the name of an index that is to be made.
enum Found {
    Nothing,
    /// The index itself: a try made it that died before it could remember it.
    Whole,
    /// What an interrupted try left, which no query uses.
    Half(String),
    /// Something else, which is this.
    Other(String),
}

/// Runs a file's statements as whoever it `becomes`, and remembers it. Nobody queues up behind what waits for a lock here,
/// and nothing has a bound of time: it may take hours.
pub(super) async fn run(
    line: &Line,
    sql: &str,
    wait: Duration,
    (becomes, remember): (&str, &str),
) -> Result<(), Fault> {
    let patience = format!("{becomes}SET lock_timeout = {}; SET statement_timeout = 0", wait.as_millis().max(1));
    line.tell(&patience, None).await?;
    for statement in statements(sql) {
        match NewIndex::of(statement) {
            Some(index) => make(line, statement, &index).await?,
            None => line.tell(statement, None).await?,
        }
    }
    line.tell(remember, None).await
}

/// Makes an index, unless it is there. Only the catalogue is believed: `IF NOT EXISTS` is content with whatever has the
/// name, and an index that is there may be good for nothing.
async fn make(line: &Line, statement: &str, index: &NewIndex) -> Result<(), Fault> {
    let mut tries = 0..2;
    loop {
        match find(line, index).await? {
            Found::Whole => return Ok(()),
            Found::Other(owner) => return Err(IndexFault::Taken { name: index.name.clone(), owner }.into()),
            Found::Half(name) => {
                tracing::info!(index = name, "an index that an interrupted try left invalid is dropped");
                line.tell(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"), None).await?;
            }
            Found::Nothing => {}
        }
        if tries.next().is_none() {
            return Err(IndexFault::NotMade(index.name.clone()).into());
        }
        line.tell(statement, None).await?;
    }
}

async fn find(line: &Line, index: &NewIndex) -> Result<Found, Fault> {
    let Some(row) = line.find(FIND, &[&index.table, &index.name, &index.unique, &index.columns]).await? else {
        return Ok(Found::Nothing);
    };
    let (of_table, valid, as_asked): (bool, bool, bool) = (row.get(1), row.get(2), row.get(3));
    Ok(match (of_table, valid, as_asked) {
        (true, true, true) => Found::Whole,
        (true, false, _) => Found::Half(row.get(0)),
        _ => Found::Other(row.get(4)),
    })
}
