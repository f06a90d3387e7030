//! `TenantDb`: the one way to a tenant's database. It can only be had from the router, which made sure whose it is.

use std::fmt;
use std::sync::Arc;

use diesel_async::AsyncConnection;
use tokio::time::timeout;

use super::Router;
use super::conn::TenantConn;
use super::error::{Error, Result};
use super::tenant::Tenant;
use super::work::Work;

/// The database of one tenant. Cheap to clone; holds no connection until asked.
#[derive(Clone)]
pub struct TenantDb {
    router: Router,
    tenant: Arc<Tenant>,
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantDb({})", self.tenant.slug)
    }
}

impl TenantDb {
    pub(super) fn new(router: Router, tenant: Arc<Tenant>) -> Self {
        Self { router, tenant }
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

    async fn conn(&self) -> Result<TenantConn> {
        self.router.pools().acquire(&self.tenant).await.map(TenantConn)
    }

    /// Runs statements, each in a transaction of its own.
    ///
    /// ```ignore
    /// let names = db.read(async |conn| contacts::table.select(contacts::name).load(conn).await).await?;
    /// ```
    ///
    /// # Errors
    /// [`Error::PoolExhausted`], [`Error::DatabaseUnavailable`], [`Error::Deadline`], or what the work gives.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: for<'c> AsyncFnOnce(&'c mut TenantConn) -> Result<T, E>
            + for<'c> Work<&'c mut TenantConn, Result<T, E>, Fut: Send>
            + Send,
    {
        let mut conn = self.conn().await?;
        conn.0.link_mut().begin();
        match timeout(self.router.work_deadline(), work(&mut conn)).await {
            Ok(done) => {
                conn.0.link_mut().finish();
                done
            }
            // The connection stays in doubt: dropping it cancels the statement and closes it.
            Err(_) => Err(Error::Deadline.into()),
        }
    }

    /// Runs statements in one transaction: all of them, or none.
    ///
    /// # Errors
    /// As [`Self::read`]; the transaction is then rolled back.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<Error> + From<diesel::result::Error> + Send,
        F: for<'c> AsyncFnOnce(&'c mut TenantConn) -> Result<T, E>
            + for<'c> Work<&'c mut TenantConn, Result<T, E>, Fut: Send>
            + Send,
    {
        self.read(async |conn: &mut TenantConn| conn.transaction(work).await).await
    }
}
