//! `TenantDb`: the one way to a tenant's database. It can only be had from the router, which made sure whose it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Router;
use super::error::{Error, Result};
use super::hold::Asker;
use super::pools::Mode;
use super::tenant::Tenant;
use super::tenant_conn::{TenantConn, TenantTx};
use super::work::{Fault, Retries, Rework, Work};

/// What somebody is told whose work could be done at once on another connection.
const SOON: Duration = Duration::from_secs(1);

/// The database of one tenant. Cheap to clone; holds no connection until asked.
#[derive(Clone)]
pub struct TenantDb {
    router: Router,
    tenant: Arc<Tenant>,
    pub(super) asker: Asker,
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantDb({})", self.tenant.slug)
    }
}

impl TenantDb {
    pub(super) fn new(router: Router, tenant: Arc<Tenant>) -> Self {
        Self { router, tenant, asker: Asker::Request }
    }

    /// The same for work that no request brings.
    pub(super) fn in_background(self) -> Self {
        Self { asker: Asker::Background, ..self }
    }

    /// The same with what the registry says of the tenant by now.
    #[cfg(feature = "server")]
    pub(super) fn at(self, tenant: Arc<Tenant>) -> Self {
        Self { tenant, ..self }
    }

    /// A connection of the tenant.
    async fn lease(&self, mode: Mode) -> Result<TenantConn> {
        let lease = self.router.lease(&self.tenant, mode, self.asker).await?;
        Ok(TenantConn::new(lease, self.tenant.schema_version))
    }

    /// Whose database this is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// The router that made it.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// Runs statements that only read, each in a transaction of its own. They share a connection with other reads of the
    /// tenant; PostgreSQL refuses those that would write.
    ///
    /// The session is not the work's own, and nobody puts it in order afterwards. What PostgreSQL takes for reading and yet
    /// outlives the statement may not be done here, since it would meet other requests of the tenant: `set_config(…,
    /// false)`, `pg_advisory_lock` and its like. [`Self::transaction`] is the place for them, as `SET LOCAL` and
    /// `pg_advisory_xact_lock`. Only code of this process can do that; a client cannot.
    ///
    /// The work is done again, once, if the connection broke under it, or if what it had prepared turned out to be of
    /// yesterday's schema; and a few times, if others on the connection went away and it was cancelled in their place. So
    /// it borrows what it needs, and uses nothing up.
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    /// use diesel_async::RunQueryDsl;
    /// use tenantry::router::{self, TenantDb};
    ///
    /// diesel::table! {
    ///     contacts (id) {
    ///         id -> Uuid,
    ///         company -> Nullable<Text>,
    ///     }
    /// }
    ///
    /// async fn companies(db: TenantDb) -> router::Result<Vec<Option<String>>> {
    ///     let names: Vec<Option<String>> = db
    ///         .read(async |conn| {
    ///             let query = contacts::table.select(contacts::company).distinct();
    ///             Ok::<_, router::Error>(query.load(conn).await?)
    ///         })
    ///         .await?;
    ///     Ok(names)
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`Error::PoolExhausted`], [`Error::DatabaseUnavailable`], [`Error::Deadline`], or what the work gives.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: for<'c> AsyncFn(&'c mut TenantConn) -> Result<T, E>
            + for<'c> Rework<&'c mut TenantConn, Result<T, E>, Fut: Send>
            + Send
            + Sync,
    {
        let (mut deadline, mut retries) = (None, Retries::default());
        loop {
            let mut conn = self.lease(Mode::Shared).await?;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.router.work_deadline());
            // Past the deadline the connection stays in doubt: dropping it has the statement cancelled.
            let done = timeout_at(deadline, work(&mut conn)).await.map_err(|_| Error::Deadline)?;
            // A statement that the work gave up runs yet: the connection stays in doubt.
            if conn.is_settled() {
                conn.lease.finish();
            }
            match conn.fault().filter(|_| done.is_err()) {
                Some(fault) if retries.once_more(fault) => conn.lease.retried(),
                // Nothing is wrong with the work, and nobody outside wanted it cancelled.
                Some(Fault::Struck) => return Err(again_soon().into()),
                _ => return done,
            }
        }
    }

    /// Runs statements in one transaction: all of them, or none. Words that would end it (`COMMIT`) or outlive it on the
    /// connection, which others are given next (`SET` but `SET LOCAL`, `LISTEN`), are refused before they are sent. What
    /// PostgreSQL knows by a function (`set_config(…, false)`, `pg_advisory_lock`) may not be done here either.
    ///
    /// # Errors
    /// As [`Self::read`]; the transaction is then rolled back. [`Error::DatabaseUnavailable`] also if the connection broke
    /// before the commit, or what was prepared on it was out of date: nothing was done.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<Error> + From<diesel::result::Error> + Send,
        F: for<'c> AsyncFnOnce(&'c mut TenantTx) -> Result<T, E>
            + for<'c> Work<&'c mut TenantTx, Result<T, E>, Fut: Send>
            + Send,
    {
        let mut tx = self.begin().await?;
        let deadline = Instant::now() + self.router.work_deadline();
        let all = async {
            let done = work(&mut tx).await;
            if done.is_ok() && !tx.has_failed() && tx.is_settled() {
                self.end(tx, "COMMIT").await?;
                return done;
            }
            let another = tx.fault().is_some();
            // What cannot be rolled back is brought back to order after it is dropped. Nor is a statement waited for that the
            // work gave up, and that may be done yet: dropped, it is cancelled.
            if tx.is_settled() {
                let _ = self.end(tx, "ROLLBACK").await;
            } else {
                drop(tx);
            }
            match done {
                // Nothing was done, and another try meets another connection.
                _ if another => Err(again_soon().into()),
                // PostgreSQL would have answered COMMIT with a silent ROLLBACK, or done what nobody waited for.
                Ok(_) => Err(diesel::result::Error::RollbackTransaction.into()),
                Err(error) => Err(error),
            }
        };
        timeout_at(deadline, all).await.unwrap_or_else(|_| Err(Error::Deadline.into()))
    }

    /// Begins a transaction, on another connection if the first turns out to be broken: nothing of the work was sent.
    async fn begin(&self) -> Result<TenantTx> {
        let mut retries = Retries::default();
        loop {
            let mut conn = self.lease(Mode::Alone).await?;
            let begun = timeout(self.router.work_deadline(), conn.say("BEGIN READ WRITE"));
            match begun.await.map_err(|_| Error::Deadline)? {
                Ok(()) => return Ok(TenantTx(conn)),
                Err(error) => match conn.fault() {
                    Some(fault) if retries.once_more(fault) => conn.lease.retried(),
                    Some(_) => return Err(again_soon()),
                    None => return Err(error.into()),
                },
            }
        }
    }

    async fn end(&self, mut tx: TenantTx, how: &str) -> Result<(), diesel::result::Error> {
        tx.say(how).await?;
        tx.0.lease.finish();
        Ok(())
    }
}

fn again_soon() -> Error {
    Error::DatabaseUnavailable { retry_after: SOON, source: None }
}
