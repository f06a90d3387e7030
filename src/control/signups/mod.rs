//! Sign-ups: how often an address may ask, and those that wait for an operator.

mod attempts;
mod store;

pub use attempts::{Attempts, attempt, trim};
pub use store::{
    FirstPerson, SignUp, SignUpFilter, count, find, find_by_slug, insert, is_full, list, purge, refuse, remove,
    unfinished, waiting,
};
