//! What the list takes in its query.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::store::{Contact, Filter, Position, SortKey, Window};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::kernel::crypto::MacKey;
use crate::rest::{Listed, Pages, Paging, SortWord, Sorting, bad_parameter, check_search, within_reach};

const MAX_WORDS: usize = 10;

/// What contacts are sorted by; a leading `-` turns it round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub enum Sort {
    /// The oldest first.
    #[serde(rename = "createdAt")]
    CreatedAt,
    /// The newest first.
    #[default]
    #[serde(rename = "-createdAt")]
    CreatedAtDesc,
    /// Unchanged for longest first.
    #[serde(rename = "updatedAt")]
    UpdatedAt,
    /// Changed last first.
    #[serde(rename = "-updatedAt")]
    UpdatedAtDesc,
    /// Family names from A to Z.
    #[serde(rename = "lastName")]
    LastName,
    /// Family names from Z to A.
    #[serde(rename = "-lastName")]
    LastNameDesc,
    /// Companies from A to Z.
    #[serde(rename = "company")]
    Company,
    /// Companies from Z to A.
    #[serde(rename = "-company")]
    CompanyDesc,
}

impl SortWord for Sort {
    type Key = SortKey;

    fn key(self) -> (SortKey, bool) {
        match self {
            Self::CreatedAt => (SortKey::CreatedAt, false),
            Self::CreatedAtDesc => (SortKey::CreatedAt, true),
            Self::UpdatedAt => (SortKey::UpdatedAt, false),
            Self::UpdatedAtDesc => (SortKey::UpdatedAt, true),
            Self::LastName => (SortKey::LastName, false),
            Self::LastNameDesc => (SortKey::LastName, true),
            Self::Company => (SortKey::Company, false),
            Self::CompanyDesc => (SortKey::Company, true),
        }
    }
}

/// Query parameters of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContactsQuery {
    /// Words that all occur in names, company, e-mail addresses, phone numbers, notes or tags.
    #[param(max_length = 200)]
    q: Option<String>,
    /// The company's whole name, in any case.
    #[param(max_length = 200)]
    company: Option<String>,
    /// Has this tag.
    #[param(max_length = 200)]
    tag: Option<String>,
    /// Has an address in this city, as it is written there.
    #[param(max_length = 200)]
    city: Option<String>,
    /// Made after this time (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Made before this time (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// Changed after this time (RFC 3339).
    updated_after: Option<DateTime<Utc>>,
    /// Order, by up to three keys, each once; contacts that are equal in all of them come by id.
    #[param(value_type = Option<Vec<Sort>>, inline, style = Form, explode = false, min_items = 1, max_items = 3)]
    sort: Option<Sorting<Sort>>,
    /// From an earlier answer's `nextCursor` or `prevCursor`, with the same sort and filters.
    cursor: Option<String>,
    /// Number of the page from 1, instead of a cursor.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// The most contacts on one page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    page_size: Option<u32>,
    /// Whether to count all that match.
    include_total: Option<bool>,
}

/// A list request that has been read: what to look for, and how to make a page of it.
#[derive(Debug)]
pub struct Request {
    /// What it is narrowed to.
    pub filter: Filter,
    /// Which part is wanted.
    pub window: Window,
    pages: Pages,
}

impl ContactsQuery {
    /// Reads it for one tenant; `mac` is what its cursors are authenticated with.
    ///
    /// # Errors
    /// 400 `invalid_query` or `cursor_invalid`.
    pub fn read(self, tenant: TenantId, mac: &MacKey) -> ApiResult<Request> {
        let filter = Filter {
            words: words("q", self.q)?,
            company: text("company", self.company)?,
            tag: text("tag", self.tag)?,
            city: text("city", self.city)?,
            created_after: self.created_after.map(within_reach),
            created_before: self.created_before.map(within_reach),
            updated_after: self.updated_after.map(within_reach),
        };
        let paging = Paging::new(self.page, self.page_size, self.cursor, self.include_total)?;
        let sort = self.sort.unwrap_or_default();
        let pages = paging.bound((Some(tenant), mac), "contacts", sort.canonical(), filter.canonical());
        let from = pages.seek::<Position>()?;
        let window = Window { order: sort.keys(), from, offset: pages.offset(), limit: pages.limit() };
        Ok(Request { filter, window, pages })
    }
}

impl Request {
    /// Whether the client wants the matches counted.
    pub fn include_total(&self) -> bool {
        self.pages.include_total()
    }

    /// The rows as a page with its cursors.
    pub fn page(&self, rows: Vec<Contact>, total: Option<i64>) -> Listed<Contact> {
        self.pages.listed(rows, |row| row.position(&self.window.order), total)
    }
}

impl Filter {
    /// One text for equal filters, another one for different ones.
    fn canonical(&self) -> String {
        if *self == Self::default() { String::new() } else { format!("{self:?}") }
    }
}

/// A text to compare with; blank is as good as none.
fn text(parameter: &'static str, value: Option<String>) -> ApiResult<Option<String>> {
    let Some(value) = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()) else { return Ok(None) };
    check_search(parameter, Some(&value))?;
    Ok(Some(value))
}

fn words(parameter: &'static str, value: Option<String>) -> ApiResult<Vec<String>> {
    let value = text(parameter, value)?.unwrap_or_default();
    let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
    if words.len() > MAX_WORDS {
        return Err(bad_parameter(parameter, format!("At most {MAX_WORDS} words.")));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::kernel::ContactId;
    use crate::kernel::crypto::random;
    use crate::kernel::page::{CursorScope, Direction};
    use crate::rest::sorted::KeyValue;

    fn query(q: &str) -> ContactsQuery {
        ContactsQuery { q: Some(q.to_owned()), ..ContactsQuery::default() }
    }

    #[test]
    fn cursors_stay_with_their_filter() {
        let (mac, tenant) = (MacKey::new(&random::<32>()), TenantId::generate());
        let plain = query(" ").read(tenant, &mac).unwrap();
        assert_eq!(plain.filter.canonical(), "");
        let position = Position { keys: vec![KeyValue::Text("x".into())], id: ContactId::generate() };
        let filter = query("Ada").read(tenant, &mac).unwrap().filter.canonical();
        let sort = query("Ada").sort.unwrap_or_default().canonical();
        let scope = CursorScope { tenant: Some(tenant), list: "contacts", sort: &sort, filter: &filter };
        let cursor = scope.encode(&mac, Direction::Next, &position);
        let with = |q: &str| ContactsQuery { cursor: Some(cursor.clone()), ..query(q) }.read(tenant, &mac);
        assert_eq!(with(" Ada ").unwrap().window.from, Some((Direction::Next, position)));
        assert_eq!(with("Bob").unwrap_err().code(), Code::CursorInvalid);
    }

    #[test]
    fn searches_have_an_end() {
        let (mac, tenant) = (MacKey::new(&random::<32>()), TenantId::generate());
        assert_eq!(query("  Ada  LOVELACE").read(tenant, &mac).unwrap().filter.words, ["Ada", "LOVELACE"]);
        for long in ["x".repeat(201), "a ".repeat(11), "a\0".into()] {
            assert_eq!(query(&long).read(tenant, &mac).unwrap_err().code(), Code::InvalidQuery);
        }
    }
}
