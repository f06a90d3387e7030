//! A sealed dump into an empty database: what restore and clone have in common.

mod list;
mod load;
mod privileges;

pub(super) use load::Load;
