//! The permit: the right to one physical connection of a server. It lives in the socket.

use std::fmt;
use std::sync::Arc;

use super::cluster_pools::ClusterPools;
use super::scheduler::Ticket;

/// Goes back to its server's scheduler when dropped, which the socket does after the server has closed its end.
pub(crate) struct Permit {
    cluster: Arc<ClusterPools>,
    ticket: Ticket,
}

impl Permit {
    pub(super) const fn new(cluster: Arc<ClusterPools>, ticket: Ticket) -> Self {
        Self { cluster, ticket }
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
