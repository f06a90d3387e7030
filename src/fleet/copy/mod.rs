//! A dump into an empty database, loaded with the tenant's own role and owned as in a clone of the template: what restore,
//! clone and a move have in common.

mod extensions;
mod list;
mod load;
mod privileges;
pub(super) mod script;

pub(super) use extensions::Extensions;
pub(super) use list::Lists;
pub(super) use load::Load;
pub(super) use privileges::grant;

/// Tells `pg_restore`, let in as the tenant's own role, whose what it makes is to be: [`super::template::OWNER`].
pub(super) const AS_OWNER: &str = "--role=pg_database_owner";
