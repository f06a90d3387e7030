//! The permit: the right to one physical connection of a server. It lives in the socket.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

use super::cluster::ClusterPools;
use crate::kernel::TenantId;

const LIVE: u8 = 0;
const CLOSING: u8 = 1;
const RELEASED: u8 = 2;

/// Ties a connection to its permit. Changed under the scheduler's lock only.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(super) tenant: TenantId,
    of: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    state: AtomicU8,
    given_up: Notify,
}

impl Ticket {
    pub(super) fn new(tenant: TenantId) -> Self {
        Self { tenant, of: Arc::new(Connection { state: AtomicU8::new(LIVE), given_up: Notify::new() }) }
    }

    /// The connection is being closed. False if its permit is back already.
    pub(super) fn close(&self) -> bool {
        self.of.state.compare_exchange(LIVE, CLOSING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether the permit is back.
    pub(super) fn is_released(&self) -> bool {
        self.of.state.load(Ordering::Relaxed) == RELEASED
    }

    /// Whether it is the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.of, &other.of)
    }

    /// An opening that was given up, and to which the server may still answer, is not waited for any more.
    pub(super) fn give_up(&self) {
        self.of.given_up.notify_one();
    }

    /// Resolves when it is not.
    pub(super) fn given_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let of = self.of.clone();
        async move { of.given_up.notified().await }
    }

    /// The permit is back. True if the connection was being closed.
    pub(super) fn release(&self) -> bool {
        self.of.state.swap(RELEASED, Ordering::Relaxed) == CLOSING
    }
}

/// Goes back to its server's scheduler when dropped, which the socket does after the server has closed its end.
pub(crate) struct Permit {
    cluster: Arc<ClusterPools>,
    ticket: Ticket,
}

impl Permit {
    pub(super) const fn new(cluster: Arc<ClusterPools>, ticket: Ticket) -> Self {
        Self { cluster, ticket }
    }

    /// Resolves when nobody waits any more for what becomes of an opening that was given up.
    pub(crate) fn given_up(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ticket.given_up()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.cluster.release(&self.ticket);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
