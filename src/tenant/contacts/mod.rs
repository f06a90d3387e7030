//! The tenant's address book: search, filters, cursors.

mod api;
mod json;
mod query;
mod rules;
mod store;

pub use api::routes;
pub use rules::{Address, Draft, Email, Phone};
pub use store::{Imported, any, import};

use crate::rest::Permission;

/// The address book came with `V2__contacts.sql`.
const SCHEMA: i32 = 2;

/// May see the address book.
#[derive(Debug)]
pub struct ContactsRead;
impl Permission for ContactsRead {
    const NAME: &'static str = "contacts:read";
    const SCHEMA: i32 = SCHEMA;
}

/// May change the address book.
#[derive(Debug)]
pub struct ContactsWrite;
impl Permission for ContactsWrite {
    const NAME: &'static str = "contacts:write";
    const SCHEMA: i32 = SCHEMA;
}
