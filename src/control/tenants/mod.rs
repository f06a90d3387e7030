//! The registry's rows: which tenants there are, in which state, and how their databases are reached.

mod lifecycle;
mod store;
mod target;

pub use lifecycle::{activate, archive, due_for_purge, restore, schema_migrated, set_status};
pub use store::{
    NewTenant, TenantChanges, TenantFilter, TenantRecord, find, find_by_slug, get, insert, list, remove, set_plan,
    update,
};
pub use target::{set_password, target};
