//! Counts of a tenant's pool and of a server.

use std::sync::Arc;

use super::pool::Pool;
use super::{Scheduler, Waiter};
use crate::kernel::TenantId;
use crate::router::pools::pooled::Line;
use crate::router::pools::usage::Usage;

/// Counts of one tenant's pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
pub struct PoolCounts {
    /// Connections without work.
    pub idle: usize,
    /// Connections at work.
    pub busy: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Connections that take no requests any more and are closed when their last one leaves.
    pub draining: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// The most connections this tenant may hold.
    pub ceiling: usize,
}

/// Counts of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct ClusterCounts {
    /// Permits in all.
    pub capacity: usize,
    /// Permits that are out, those of connections still closing included.
    pub open: usize,
    /// Connections being closed.
    pub closing: usize,
    /// Connections that are closed when their last request leaves.
    pub draining: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Idle connections.
    pub idle: usize,
    /// Tenants that wait.
    pub waiting_tenants: usize,
    /// Requests that wait.
    pub waiting: usize,
}

impl PoolCounts {
    /// Connections that the tenant holds.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.idle + self.busy + self.opening
    }
}

impl ClusterCounts {
    /// Connections at work. A failed opening gives its permit back a moment before it is counted out.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.open.saturating_sub(self.idle + self.opening + self.draining + self.closing)
    }

    pub(in crate::router::pools) const fn add(&mut self, other: &Self) {
        self.capacity += other.capacity;
        self.open += other.open;
        self.closing += other.closing;
        self.draining += other.draining;
        self.opening += other.opening;
        self.idle += other.idle;
        self.waiting_tenants += other.waiting_tenants;
        self.waiting += other.waiting;
    }
}

impl<L: Line, W: Waiter> Scheduler<L, W> {
    pub(in crate::router::pools) fn counts(&self) -> ClusterCounts {
        let idle = |p: &Pool<L, W>| p.conns.iter().filter(|c| c.leases.is_idle()).count();
        ClusterCounts {
            capacity: self.capacity,
            open: self.open,
            closing: self.closing,
            draining: self.leaving,
            opening: self.opening,
            idle: self.pools.values().map(idle).sum(),
            waiting_tenants: self.waiting,
            waiting: self.queued,
        }
    }

    pub(in crate::router::pools) fn pool_counts(&self, tenant: TenantId) -> Option<PoolCounts> {
        self.pools.get(&tenant).map(Pool::counts)
    }

    /// Connections taken from a tenant for another since this was asked last, and how often it was the last one.
    pub(in crate::router::pools) fn taken(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.steals), std::mem::take(&mut self.evictions))
    }

    /// What a tenant's pool has done, if that is known.
    pub(in crate::router::pools) fn usage(&self, tenant: TenantId) -> Option<&Arc<Usage>> {
        self.usages.get(tenant)
    }
}
