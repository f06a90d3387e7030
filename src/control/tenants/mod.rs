//! The registry's rows: which tenants there are, in which state, and how their databases are reached.

mod hold;
mod lifecycle;
mod list;
mod relocation;
mod rotation;
mod store;
mod target;

pub use hold::{Hold, expired_holds, find_hold, hold, release};
pub use lifecycle::{activate, archive, due_for_purge, restore, schema_migrated, set_status};
pub use list::{TenantFilter, TenantKey, TenantPosition, count, list};
pub use relocation::{Switch, switch};
pub use rotation::{forget_passwords, plan_password, rotating_passwords, set_urls, swap_password};
pub use store::{NewTenant, TenantChanges, TenantRecord, find, find_by_slug, get, insert, remove, set_plan, update};
pub use target::{direct_targets, set_password, target};
