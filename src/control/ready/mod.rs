//! Ready tenants: databases that wait, on each cluster, for somebody to take them.

mod store;

pub use store::{ReadyState, ReadyTenant, StockRoom, Stocked, insert, list, ready, remove, rooms, start_drop, take};
