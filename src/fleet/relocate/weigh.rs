//! What the rows of a large tenant add up to, read before the hold: a gigabyte takes many seconds. Under the hold only
//! those versions of rows are read that have come or gone since, and the sum is what reading everything would give.
//!
//! Each side keeps the snapshot in which it read (`then`). A version of a row that is seen then and not now has been
//! deleted, so that it has an `xmax`; one that is seen now and not then was made by a transaction that had not ended, so
//! that its `xmin` is not below the snapshot's. Those *touched* are taken off as they were seen then, and added as they are
//! now; one that is seen both times (it was only locked) cancels out. Until the comparison nobody can change or empty the
//! tables as such: whoever has read one in an open transaction keeps a lock on it.

use std::collections::BTreeMap;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use tokio::time::timeout;

use super::compare::{READING, tables};
use super::replicate::NO_IDENTITY;
use super::run::{Run, open_patiently};
use crate::error::{ApiError, ApiResult};
use crate::fleet::operation::Journal;
use crate::fleet::{admin, refused};
use crate::router::{AdminConn, Target};

/// The longest that it may take: nobody changes the tables meanwhile, nor are old rows cleared away.
const WEIGHING: Duration = Duration::from_secs(4 * 60 * 60);
/// A statement that is left alone ends by itself, as late as that.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = '4h'; \
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The oldest transaction that had not ended. Whatever a version of a row was made by before it, is seen.
const SINCE: &str = "SELECT (txid_snapshot_xmin(txid_current_snapshot()) % 4294967296)::text AS word";

/// How many rows, and their digests added up: in whatever order they come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) rows: i64,
    pub(super) digests: i128,
}

/// One side, as it was when it was weighed.
pub(super) struct Side {
    then: AdminConn,
    since: String,
    sums: BTreeMap<String, Sum>,
}

/// Reads every row that is replicated, on both sides at the same time: the source first.
///
/// # Errors
/// 409 if it takes too long.
pub(super) async fn weigh(run: &Run<'_>, journal: &mut Journal<'_>) -> ApiResult<[Side; 2]> {
    timeout(WEIGHING, weigh_all(run, journal)).await.unwrap_or_else(|_| {
        Err(refused("Reading every row on both sides took longer than four hours. Nothing has changed."))
    })
}

async fn weigh_all(run: &Run<'_>, journal: &mut Journal<'_>) -> ApiResult<[Side; 2]> {
    let (mut source, mut target) = tokio::try_join!(Side::begin(run.at_source()), Side::begin(run.at_target()?))?;
    let listed = admin::words(&mut source.then, &tables(&format!("NOT {NO_IDENTITY}"))).await?;
    let all = i64::try_from(listed.len()).unwrap_or(i64::MAX);
    for (table, done) in listed.iter().zip(0..) {
        journal.advance(done, all).await?;
        tokio::try_join!(source.add(table), target.add(table))?;
    }
    Ok([source, target])
}

impl Side {
    async fn begin(at: Target) -> ApiResult<Self> {
        let mut then = open_patiently(&at).await?;
        for statements in [READING, admin::TABLES_ONLY, BEGIN] {
            then.batch_execute(statements).await.map_err(ApiError::internal)?;
        }
        // The first query takes the snapshot.
        let since = admin::words(&mut then, SINCE).await?.into_iter().next().unwrap_or_default();
        Ok(Self { then, since, sums: BTreeMap::new() })
    }

    async fn add(&mut self, table: &str) -> ApiResult<()> {
        let sum = sum(&mut self.then, table, "true").await?;
        self.sums.insert(table.to_owned(), sum);
        Ok(())
    }

    /// What a table adds up to now; nothing if it was not weighed.
    pub(super) async fn since(&mut self, now: &mut AdminConn, table: &str) -> ApiResult<Option<Sum>> {
        let Some(was) = self.sums.get(table).copied() else { return Ok(None) };
        let touched = format!("(weighed.xmax::text <> '0' OR age(weighed.xmin) <= age('{}'::xid))", self.since);
        let (gone, come) = tokio::try_join!(sum(&mut self.then, table, &touched), sum(now, table, &touched))?;
        Ok(Some(Sum { rows: was.rows - gone.rows + come.rows, digests: was.digests - gone.digests + come.digests }))
    }
}

/// What those rows `weighed` of a table add up to that meet a condition: 64 bits of each one's digest. Who owns a table can
/// define what its row is as text, and we would run that; nobody can for `ROW(…)`, whose text is the same. No column takes the
/// place of `weighed.*`.
pub(super) async fn sum(conn: &mut AdminConn, table: &str, condition: &str) -> ApiResult<Sum> {
    let query = format!(
        "SELECT count(*)::text || ' ' \
         || coalesce(sum(('x' || substr(md5(ROW(weighed.*)::text), 1, 16))::bit(64)::bigint::numeric), 0) AS word \
         FROM {table} AS weighed WHERE {condition}"
    );
    let found = admin::words(conn, &query).await?.into_iter().next().unwrap_or_default();
    let (rows, digests) = found.split_once(' ').unwrap_or_default();
    let (rows, digests) = (rows.parse().map_err(ApiError::internal)?, digests.parse().map_err(ApiError::internal)?);
    Ok(Sum { rows, digests })
}
