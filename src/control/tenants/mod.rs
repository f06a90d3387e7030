//! The registry's rows: which tenants there are, in which state, and how their databases are reached.

mod lifecycle;
mod store;
mod target;

pub use lifecycle::{archive, due_for_purge, restore, schema_migrated, set_status};
pub use store::{
    NewTenant, TenantChanges, TenantFilter, TenantRecord, find, find_by_slug, get, insert, list, remove, update,
};
pub use target::{direct_targets, set_password, target};
