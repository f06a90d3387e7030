//! A connection on loan to one request. Dropping it gives the connection back.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::cluster::ClusterPools;
use super::pooled::{Line, Mode, Pooled, TenantPool};
use super::scheduler::Waiter;
use crate::router::connect::Link;
use crate::router::error::Result;

impl Line for Link {
    fn is_gone(&self) -> bool {
        Self::is_gone(self)
    }
}

/// See the module.
pub(crate) struct Lease {
    cluster: Arc<ClusterPools>,
    pool: Arc<TenantPool<Link>>,
    conn: Arc<Pooled<Link>>,
    mode: Mode,
    since: Instant,
    begun: bool,
}

impl Lease {
    pub(super) const fn new(
        cluster: Arc<ClusterPools>,
        pool: Arc<TenantPool<Link>>,
        conn: Arc<Pooled<Link>>,
        mode: Mode,
        since: Instant,
    ) -> Self {
        Self { cluster, pool, conn, mode, since, begun: false }
    }

    pub(in crate::router) fn link(&self) -> &Link {
        &self.conn.line
    }

    pub(in crate::router) const fn mode(&self) -> Mode {
        self.mode
    }

    /// From here on something may be sent. Until [`Self::finish`] the connection is in doubt when it is dropped: what runs
    /// on it is cancelled and rolled back.
    pub(in crate::router) const fn begin(&mut self) {
        self.begun = true;
    }

    /// Everything that was sent has been answered, and no transaction is open.
    pub(in crate::router) const fn finish(&mut self) {
        self.begun = false;
    }

    /// The work is done anew on another connection.
    pub(in crate::router) fn retried(&self) {
        self.pool.usage.retried();
        self.cluster.meters.retries.increment(1);
    }

    /// The database no longer is what the connections of this tenant were prepared for: all that are open are closed
    /// when they are left.
    pub(in crate::router) fn all_unfit(&self) {
        self.cluster.all_unfit(self.pool.id, Instant::now());
    }

    /// This connection broke under the request: those that were open by then may have broken at the same time.
    pub(in crate::router) fn broke(&self) {
        self.cluster.all_unfit(self.pool.id, self.conn.line.broke_at());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cluster.leave(&self.pool, &self.conn, self.mode, self.since, !self.begun);
    }
}

/// A request that waits.
pub(super) struct Waiting {
    pub(super) mode: Mode,
    pub(super) answer: oneshot::Sender<Result<Lease>>,
}

impl Waiter for Waiting {
    fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }
    fn mode(&self) -> Mode {
        self.mode
    }
}
