//! PostgreSQL servers that tenants are placed on: address, administrator, capacity, connection budget.

mod placement;
mod store;

pub use placement::place;
pub use store::{Cluster, ClusterChanges, NewCluster, find_by_name, get, insert, list, remove, set, set_address};
