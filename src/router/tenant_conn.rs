//! Connections to one tenant's own database, as types: what reads may do, and what a transaction may.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{AsQuery, QueryBuilder as _, QueryFragment, QueryId};
use diesel::result::DatabaseErrorKind;
use diesel::result::Error::{DatabaseError, RollbackTransaction};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{BoxStream, Stream};
use futures_util::{FutureExt as _, StreamExt as _};

use super::migrate::statements::statements;
use super::passing::Passing;
use super::pools::{Lease, Mode};
use super::words::{only_reads, stays_within};
use super::work::{Fault, Work};

/// Where diesel's own queries are from.
const BUILDER: &str = "diesel::query_builder::";

/// diesel's row, whose type has no public name.
type Row = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

/// The connection is closed, or was, before the answer came.
const BROKEN: u8 = 1;
/// What the connection had prepared is dead, since a table or a type is not what it was.
const STALE: u8 = 2;
/// The statement was cancelled in place of another that was abandoned.
const STRUCK: u8 = 4;
/// A statement failed.
const FAILED: u8 = 8;

/// A connection to one tenant's own database, for as long as it is borrowed. Its statements each stand alone, may only
/// read, and are pipelined with those of other requests of the tenant; [`TenantTx`] has one to itself.
pub struct TenantConn {
    pub(super) lease: Lease,
    schema: i32,
    seen: AtomicU8,
    /// Statements that were sent and not waited for to the end, and savepoints that are open.
    outstanding: AtomicUsize,
}

impl fmt::Debug for TenantConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantConn")
    }
}

impl TenantConn {
    pub(super) const fn new(mut lease: Lease, schema: i32) -> Self {
        lease.begin();
        Self { lease, schema, seen: AtomicU8::new(0), outstanding: AtomicUsize::new(0) }
    }

    /// The version of the built-in schema that the tenant's database has at the least.
    #[must_use]
    pub const fn schema_version(&self) -> i32 {
        self.schema
    }

    fn raw(&self) -> &AsyncPgConnection {
        self.lease.link().shared()
    }

    fn saw(&self, what: u8) -> bool {
        self.seen.load(Ordering::Relaxed) & what != 0
    }

    /// Why the work may succeed on another connection, though it failed on this one.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.saw(BROKEN | STALE) { Some(Fault::Unfit) } else { self.saw(STRUCK).then_some(Fault::Struck) }
    }

    /// Whether any statement failed.
    pub(super) fn has_failed(&self) -> bool {
        self.saw(FAILED)
    }

    pub(super) fn forgive(&self) {
        self.seen.store(0, Ordering::Relaxed);
    }

    fn begins(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether everything was waited for. Else a future was dropped in the midst of a statement, which may run yet.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.load(Ordering::Relaxed) == 0
    }

    fn is_alone(&self) -> bool {
        self.lease.mode() == Mode::Alone
    }

    /// Others use the connection too, now or later: words must leave its session as they found it.
    fn may_say(&self, statements: &[&str]) -> QueryResult<()> {
        let (may, remedy): (fn(&str) -> bool, &str) = if self.is_alone() {
            let remedy = "a transaction neither ends itself nor sets what outlives it; use the closure's answer, \
                          TenantTx::savepoint, SET LOCAL";
            (stays_within, remedy)
        } else {
            (only_reads, "TenantDb::read only reads; use TenantDb::transaction for this statement")
        };
        let all = statements.iter().all(|statement| may(statement));
        if all { Ok(()) } else { Err(diesel::result::Error::QueryBuilderError(remedy.into())) }
    }

    fn may_run<T: QueryFragment<Pg> + QueryId>(&self, query: &T) -> QueryResult<()> {
        // Queries that diesel builds only read or write rows; the latter PostgreSQL refuses. All others are words:
        // `sql_query`, `dsl::sql` that is sent alone (within a query it is a part of that one's only statement), and what
        // an application brings of its own.
        let name = std::any::type_name::<T>().strip_prefix(BUILDER);
        // Values make no difference: PostgreSQL runs a COMMIT to which one is bound.
        if name.is_some_and(|name| !name.starts_with("sql_query::")) {
            return Ok(());
        }
        let mut words = PgQueryBuilder::new();
        query.to_sql(&mut words, &Pg)?;
        // It is one statement: of several PostgreSQL prepares none.
        self.may_say(&[&words.finish()])
    }

    /// Sends words of the router's own.
    pub(super) async fn say(&mut self, words: &str) -> QueryResult<()> {
        let mut raw = self.raw();
        self.begins();
        let answer = raw.batch_execute(words).await;
        self.judge(answer)
    }

    /// Passes the answer to what has begun on. Errors are remembered.
    fn judge<T>(&self, answer: QueryResult<T>) -> QueryResult<T> {
        self.ends();
        answer.map_err(|error| self.remember(error))
    }

    /// The same of rows, which come after the answer, and errors among them.
    fn judge_rows(
        &self,
        answer: QueryResult<BoxStream<'static, QueryResult<Row>>>,
    ) -> QueryResult<BoxStream<'_, QueryResult<Row>>> {
        let rows = self.judge(answer)?;
        self.begins();
        Ok(Rows { conn: self, rows, awaited: true }.boxed())
    }

    /// Keeps what an error says of the connection. Gives it back: one by which the server ends the connection as such, and
    /// one that passes by itself in words that are the same for every server.
    fn remember(&self, error: diesel::result::Error) -> diesel::result::Error {
        let link = self.lease.link();
        let here = matches!(
            error,
            DatabaseError(DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection, _)
        );
        // What could not be sent for its own sake, such as too many parameters, says nothing of the connection.
        let cut = here && Passing::of(&error).is_some();
        let what = if cut || link.is_gone() { BROKEN } else { 0 }
            | if link.signs().stale(self.is_alone()) { STALE } else { 0 }
            | if link.was_cancelled() { STRUCK } else { 0 };
        self.seen.fetch_or(FAILED | what, Ordering::Relaxed);
        if what & STALE != 0 {
            self.lease.all_unfit();
        } else if what & BROKEN != 0 {
            self.lease.broke();
        }
        let meant = match &error {
            DatabaseError(DatabaseErrorKind::Unknown, said) => link.signs().meant(said.message()),
            _ => None,
        };
        match (error, meant) {
            (DatabaseError(DatabaseErrorKind::Unknown, said), _) if link.signs().ended() => {
                DatabaseError(DatabaseErrorKind::ClosedConnection, said)
            }
            (_, Some(passing)) => passing.error(),
            (other, None) => other,
        }
    }
}

/// The rows of one statement. Whoever takes the first one only, as `get_result` does, wants no more: what counts is whether
/// somebody waited for one that had not come.
struct Rows<'c> {
    conn: &'c TenantConn,
    rows: BoxStream<'static, QueryResult<Row>>,
    awaited: bool,
}

impl Stream for Rows<'_> {
    type Item = QueryResult<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.rows.poll_next_unpin(cx);
        if self.awaited != next.is_pending() {
            self.awaited = next.is_pending();
            if self.awaited { self.conn.begins() } else { self.conn.ends() }
        }
        next.map_err(|error| self.conn.remember(error))
    }
}

impl SimpleAsyncConnection for TenantConn {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.may_say(&statements(query))?;
        self.say(query).await
    }
}

impl AsyncConnectionCore for TenantConn {
    type LoadFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<Self::Stream<'conn, 'query>>>;
    type ExecuteFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<usize>>;
    type Stream<'conn, 'query> = BoxStream<'conn, QueryResult<Row>>;
    type Row<'conn, 'query> = Row;
    type Backend = Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Pg> + QueryId + 'query,
    {
        let conn = &*self;
        let query = source.as_query();
        if let Err(error) = conn.may_run(&query) {
            return ready(Err(error)).boxed();
        }
        let answer = AsyncConnectionCore::load(&mut conn.raw(), query);
        let answer = async move {
            conn.begins();
            conn.judge_rows(answer.await)
        };
        answer.boxed()
    }

    fn execute_returning_count<'conn, 'query, T>(&'conn mut self, source: T) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Pg> + QueryId + 'query,
    {
        let conn = &*self;
        if let Err(error) = conn.may_run(&source) {
            return ready(Err(error)).boxed();
        }
        let answer = AsyncConnectionCore::execute_returning_count(&mut conn.raw(), source);
        let answer = async move {
            conn.begins();
            conn.judge(answer.await)
        };
        answer.boxed()
    }
}

/// An open transaction in one tenant's own database. It has a connection to itself, and ends with the work that it was
/// given to: see [`super::TenantDb::transaction`]. Whatever takes a [`TenantConn`] takes this too.
#[derive(Debug)]
pub struct TenantTx(pub(super) TenantConn);

impl TenantTx {
    /// Runs work that may fail without the transaction failing: what it did until then is undone. Work that gave up a
    /// statement has failed. A savepoint that is itself given up takes the transaction along.
    ///
    /// # Errors
    /// What the work gives.
    pub async fn savepoint<T, E, F>(&mut self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<diesel::result::Error> + Send,
        F: for<'c> AsyncFnOnce(&'c mut Self) -> Result<T, E>
            + for<'c> Work<&'c mut Self, Result<T, E>, Fut: Send>
            + Send,
    {
        let before = self.outstanding.load(Ordering::Relaxed);
        // By depth: one that was given up within this one is still there, and is not the one to go back to.
        let name = format!("tenantry_{before}");
        self.say(&format!("SAVEPOINT {name}")).await?;
        // Dropped before its end, it is neither kept nor undone.
        self.begins();
        let done = work(self).await;
        let settled = self.outstanding.load(Ordering::Relaxed) == before + 1;
        let done = if settled { done } else { done.and(Err(RollbackTransaction.into())) };
        let end = match &done {
            Ok(_) => format!("RELEASE SAVEPOINT {name}"),
            Err(_) => format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}"),
        };
        let ended = self.say(&end).await;
        // Answers come in order: with this one everything of the work has ended, also what it did not wait for.
        self.outstanding.store(before, Ordering::Relaxed);
        ended?;
        if done.is_err() {
            self.forgive();
        }
        done
    }
}

impl Deref for TenantTx {
    type Target = TenantConn;
    fn deref(&self) -> &TenantConn {
        &self.0
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut TenantConn {
        &mut self.0
    }
}
