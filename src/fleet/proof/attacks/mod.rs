//! The table of forged tokens: each row a name and a token, one step away from a good one.

mod algorithms;
mod claims;
mod key_ids;
mod shapes;

use serde_json::Value;

use super::forge::{Forge, encode};

/// What is tried, and the token.
pub type Row = (String, String);

/// Every row. `mine` is the attacked tenant, `other` the attacker's own.
#[must_use]
pub fn rows(mine: &Forge, other: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in [
        algorithms::algorithms,
        algorithms::headers,
        key_ids::key_ids,
        claims::claims_of_whom,
        claims::times,
        shapes::shapes,
        shapes::duplicates,
    ] {
        rows.extend(part(mine, other));
    }
    rows
}

fn row(name: impl Into<String>, token: String) -> Row {
    (name.into(), token)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.", encode(&header.to_string()), encode(&claims.to_string()))
}
