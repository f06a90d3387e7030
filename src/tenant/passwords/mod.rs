//! Passwords that people choose: judged by the organisation's policy, and not one of their earlier ones.

mod choose;
mod history;

/// The built-in schema that has the policy's rules of passwords (`V13__passwords.sql`).
pub(crate) const SINCE: i32 = 13;

pub(crate) use choose::{Whose, choose};
pub(crate) use history::remember;
