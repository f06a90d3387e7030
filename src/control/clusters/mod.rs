//! PostgreSQL servers that tenants are placed on: address, administrator, capacity, connection budget.

mod facts;
mod placement;
mod store;

pub use crate::config::Placement;
pub use facts::{Facts, keep as keep_facts, unseen};
pub use placement::{hold, lock, place};
pub use store::{
    Cluster, ClusterChanges, NewCluster, find_by_name, get, insert, is_there, keeps_nothing, list, remove, set,
    set_address,
};
