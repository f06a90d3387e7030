//! A dump into an empty database, loaded with the tenant's own role: what restore, clone and a move have in common.

mod extensions;
mod list;
mod load;
mod privileges;
pub(super) mod script;

pub(super) use extensions::Extensions;
pub(super) use list::Lists;
pub(super) use load::Load;
pub(super) use privileges::grant;
