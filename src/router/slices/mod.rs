//! The connection budget of a cluster, shared by the nodes of an installation.
//!
//! Each node holds a slice of every cluster it uses, leased through the registry. `rules.rs` is the arithmetic,
//! `ledger.rs` the rows in the control plane, `look.rs` whether a lost node's connections are gone, `put_off.rs` where
//! that cannot be seen now, `keeper.rs` this node's side with its `entry.rs` for each cluster, `anchor.rs` what it does
//! while the control plane is silent, `offline.rs` how it serves if it never had a slice. Why so: `docs/adr/0009-budget-slices.md`.

mod anchor;
mod entry;
pub(super) mod floor;
mod keeper;
pub(super) mod ledger;
pub(super) mod look;
mod offline;
mod put_off;
pub(super) mod rules;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

pub(super) use keeper::Keeper;

use crate::kernel::ClusterId;
use crate::kernel::crypto::random;

/// What every connection to a tenant's database is called, before the node's name.
const APPLICATION: &str = "tenantry/";

/// One running node. Another start is another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Uuid);

impl NodeId {
    /// A node that has never been.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Builder::from_random_bytes(random::<16>()).into_uuid())
    }

    /// The underlying UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// What its connections to tenants' databases are called in `pg_stat_activity`: `tenantry/` and twelve hex digits.
    #[must_use]
    pub fn application_name(self) -> String {
        let id = self.0.simple().to_string();
        format!("{APPLICATION}{}", &id[..12])
    }
}

impl From<Uuid> for NodeId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.application_name())
    }
}

/// What a node says of itself when it asks for its slice of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceClaim {
    /// Who asks.
    pub node: NodeId,
    /// The cluster, or for a dedicated tenant its own id.
    pub cluster: ClusterId,
    /// The cluster's budget as far as the node knows.
    pub budget: u32,
    /// The budget of a cluster that sets none.
    pub default_budget: u32,
    /// Connections that are open.
    pub in_use: u32,
    /// The most connections that may be open before the answer arrives. Never less than `in_use`.
    pub held: u32,
    /// Connections it could use now.
    pub wanted: u32,
    /// How long the lease of a node that is new runs.
    pub ttl: Duration,
    /// Grows with every claim of the node.
    pub seq: i64,
}

/// What a node may use of a cluster's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceGrant {
    /// The most connections it may have open.
    pub slice: u32,
    /// Another node lacks them: come down to so many, as connections close, then claim again.
    pub yield_to: Option<u32>,
    /// The whole budget.
    pub budget: u32,
    /// Other nodes that hold a slice of this cluster, those that are gone included.
    pub others: u32,
}

/// The answer to a node that says it lives.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Its lease had run out: every slice has to be claimed anew before it is relied on.
    pub lapsed: bool,
    /// Other nodes whose lease runs.
    pub others: u32,
    /// Clusters of which its slice is worth claiming again: somebody lacks some, or there is something to be had.
    pub due: Vec<ClusterId>,
    /// Clusters of which nodes hold a slice that are gone.
    pub orphaned: Vec<ClusterId>,
}

/// How the pools of one cluster tell the keeper that they could use more.
#[derive(Debug, Default)]
pub(super) struct Demand {
    budget: AtomicU32,
    scarce: AtomicBool,
    asked: AtomicBool,
    wake: Arc<Notify>,
}

impl Demand {
    fn new(budget: u32, wake: Arc<Notify>) -> Self {
        Self { budget: budget.into(), scarce: true.into(), asked: true.into(), wake }
    }

    /// Somebody waits and no permit is free. Costs nothing where there is nothing to be had.
    pub(super) fn unmet(&self) {
        if self.scarce.load(Ordering::Relaxed) && !self.asked.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// The whole budget, of all nodes together.
    pub(super) fn budget(&self) -> u32 {
        self.budget.load(Ordering::Acquire)
    }

    /// What the registry says the whole budget is.
    pub(super) fn learn(&self, budget: u32) {
        let budget = budget.max(1);
        if self.budget.swap(budget, Ordering::AcqRel) != budget {
            self.asked.store(true, Ordering::Release);
            self.wake.notify_one();
        }
    }
}
