//! What an address asks for: which resource, or which of them.

use std::collections::BTreeMap;
use std::str::FromStr;

use actix_web::HttpRequest;

use super::answer::{Result, invalid, no_filter};
use super::filter::{self, Column, Condition};
use super::store::Part;
use crate::error::ApiError;

/// Resources on a page where nothing else is asked for, and at most.
const PAGE: i64 = 100;
pub(super) const MOST: i64 = 200;

/// What a list was asked for.
pub(super) struct Asked {
    pub condition: Condition,
    pub part: Part,
    pub start: i64,
    /// Whether members are not to be told.
    pub without_members: bool,
}

/// Reads the parameters of a list.
pub(super) fn asked(request: &HttpRequest, column: Column) -> Result<Asked> {
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(request.query_string().as_bytes())
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect();
    let number = |name: &str, default: i64| match query.get(name).map(|text| text.parse::<i64>()) {
        None => Ok(default),
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => Err(invalid(format!("{name} is a number."))),
    };
    // As the standard has it: what is under the first is the first, and what is under none is none.
    let start = number("startindex", 1)?.clamp(1, 1_000_000_000);
    let count = number("count", PAGE)?.clamp(0, MOST);
    let condition = match query.get("filter").filter(|text| !text.trim().is_empty()) {
        Some(text) => filter::read(text, column).ok_or_else(no_filter)?,
        None => Condition { sql: "true".to_owned(), values: Vec::new() },
    };
    let named = |parameter: &str| {
        let list = query.get(parameter).filter(|list| !list.trim().is_empty())?;
        Some(list.split(',').map(|name| filter::attribute_name(name.trim())).collect::<Vec<String>>())
    };
    let is_members = |name: &String| name == "members" || name.starts_with("members.");
    let without_members = named("excludedattributes").is_some_and(|names| names.iter().any(|name| name == "members"))
        || named("attributes").is_some_and(|names| !names.iter().any(is_members));
    Ok(Asked { condition, part: Part { count, from: start - 1 }, start, without_members })
}

/// The id in an address. What is none names nobody.
pub(super) fn id_of<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| ApiError::not_found(what).into())
}
