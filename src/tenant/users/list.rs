//! The list of people.

use actix_web::get;
use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::api::User;
use super::rules::{UserStatus, comparable, email_key};
use super::store::UserRow;
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::kernel::page::Direction;
use crate::rest::sorted::{KeyValue, Position, sorted};
use crate::rest::{Authorized, ListEnvelope, Listed, Paging, Query, SortWord, Sorting, check_search, within_reach};
use crate::router::TenantConn;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::UsersRead;
use crate::tenant::schema::{roles, user_roles, users};

/// The order of the list; a leading `-` turns it round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum UserSort {
    /// Oldest first.
    #[default]
    #[serde(rename = "createdAt")]
    CreatedAt,
    /// Newest first.
    #[serde(rename = "-createdAt")]
    CreatedAtDesc,
    /// By address.
    #[serde(rename = "email")]
    Email,
    /// By address, from the end.
    #[serde(rename = "-email")]
    EmailDesc,
    /// By last name.
    #[serde(rename = "lastName")]
    LastName,
    /// By last name, from the end.
    #[serde(rename = "-lastName")]
    LastNameDesc,
}

/// Which people, in which order, which page.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListUsers {
    /// Only people of this status.
    pub status: Option<UserStatus>,
    /// Only people with the role of this name.
    #[param(max_length = 200)]
    pub role: Option<String>,
    /// Only people whose names or address contain this.
    #[param(max_length = 200)]
    pub q: Option<String>,
    /// Only people added after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Only people added before this moment.
    pub created_before: Option<DateTime<Utc>>,
    /// The order, by up to three keys, each once; `createdAt` if left out.
    #[param(value_type = Option<Vec<UserSort>>, inline, style = Form, explode = false, min_items = 1, max_items = 3)]
    pub sort: Option<Sorting<UserSort>>,
    /// Number of the page, from 1.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

impl ListUsers {
    /// The filters in one text, to bind a cursor to them.
    fn fingerprint(&self) -> String {
        let filters = (&self.status, &self.role, &self.q, &self.created_after, &self.created_before);
        serde_json::to_string(&filters).unwrap_or_default()
    }
}

/// What people are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// When they were added.
    CreatedAt,
    /// Their address.
    Email,
    /// Their last name.
    LastName,
}

impl SortWord for UserSort {
    type Key = SortKey;

    fn key(self) -> (SortKey, bool) {
        match self {
            Self::CreatedAt => (SortKey::CreatedAt, false),
            Self::CreatedAtDesc => (SortKey::CreatedAt, true),
            Self::Email => (SortKey::Email, false),
            Self::EmailDesc => (SortKey::Email, true),
            Self::LastName => (SortKey::LastName, false),
            Self::LastNameDesc => (SortKey::LastName, true),
        }
    }
}

type Place = Position<UserId>;

fn place(row: &UserRow, order: &[(SortKey, bool)]) -> Place {
    let value = |key: SortKey| match key {
        SortKey::CreatedAt => KeyValue::Time(row.created_at),
        SortKey::Email => KeyValue::Text(email_key(&row.email)),
        SortKey::LastName => KeyValue::Text(row.last_name.clone()),
    };
    Position { keys: order.iter().map(|(key, _)| value(*key)).collect(), id: row.id }
}

/// The people of the tenant.
#[utoipa::path(
    tag = "users",
    params(ListUsers),
    responses((status = 200, description = "A page", body = ListEnvelope<User>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/users")]
pub async fn list_users(caller: Authorized<UsersRead>, query: Query<ListUsers>) -> ApiResult<Listed<User>> {
    let query = query.0;
    check_search("role", query.role.as_deref())?;
    check_search("q", query.q.as_deref())?;
    let paging = Paging::new(query.page, query.page_size, query.cursor.clone(), query.include_total)?;
    let sort = query.sort.clone().unwrap_or_default();
    let (order, sort_name) = (&sort.keys(), sort.canonical());
    let tenant = caller.db.tenant().id;
    let pages = paging.of(&caller.db, "users", sort_name, query.fingerprint());
    let seek = pages.seek::<Place>()?;
    let (limit, offset, counted) = (pages.limit(), pages.offset(), pages.include_total());
    let query = &query;
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = ordered(filtered(query), order, seek.as_ref()).limit(limit).offset(offset).load(conn).await?;
            let total = if counted { Some(count(conn, query).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    Ok(pages.listed(rows, |row| place(row, order), total).map(|row| User::new(row, tenant)))
}

type Rows<'a> =
    diesel::helper_types::IntoBoxed<'a, diesel::dsl::Select<users::table, diesel::dsl::AsSelect<UserRow, Pg>>, Pg>;

macro_rules! apply_filters {
    ($rows:ident, $query:ident) => {
        if let Some(status) = $query.status {
            $rows = $rows.filter(users::status.eq(status.as_str()));
        }
        if let Some(role) = &$query.role {
            let holders = user_roles::table.inner_join(roles::table).filter(roles::name.eq(comparable(role)));
            $rows = $rows.filter(users::id.eq_any(holders.select(user_roles::user_id)));
        }
        if let Some(text) = $query.q.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            let pattern = contains(text);
            $rows = $rows.filter(
                users::email_key
                    .ilike(pattern.clone())
                    .or(users::first_name.ilike(pattern.clone()))
                    .or(users::last_name.ilike(pattern)),
            );
        }
        if let Some(after) = $query.created_after {
            $rows = $rows.filter(users::created_at.gt(within_reach(after)));
        }
        if let Some(before) = $query.created_before {
            $rows = $rows.filter(users::created_at.lt(within_reach(before)));
        }
    };
}

fn filtered(query: &ListUsers) -> Rows<'_> {
    let mut rows = users::table.select(UserRow::as_select()).into_boxed::<Pg>();
    apply_filters!(rows, query);
    rows
}

async fn count(conn: &mut TenantConn, query: &ListUsers) -> QueryResult<i64> {
    let mut rows = users::table.count().into_boxed::<Pg>();
    apply_filters!(rows, query);
    rows.get_result(conn).await
}

/// A pattern for texts that contain `text`, whatever wildcards it holds itself.
fn contains(text: &str) -> String {
    let escaped = comparable(text).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

fn ordered<'a>(rows: Rows<'a>, order: &[(SortKey, bool)], from: Option<&'a (Direction, Place)>) -> Rows<'a> {
    sorted!(rows, users of users::table, order, from, {
        SortKey::CreatedAt => Time in users::created_at, by std::convert::identity;
        SortKey::Email => Text in users::email_key, by std::convert::identity;
        SortKey::LastName => Text in users::last_name, by std::convert::identity;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_literal() {
        assert_eq!(contains("50%_\\"), "%50\\%\\_\\\\%");
    }

    #[test]
    fn seeks_by_key_and_id() {
        let query: ListUsers = serde_json::from_str(r#"{"status": "active", "q": "a"}"#).unwrap();
        let id = UserId::generate();
        let sql = |order: &[(SortKey, bool)], direction| {
            let keys = order.iter().map(|_| KeyValue::Text("x".into())).collect();
            let from = Some((direction, Position { keys, id }));
            diesel::debug_query::<Pg, _>(&ordered(filtered(&query), order, from.as_ref())).to_string()
        };
        let next = sql(&[(SortKey::Email, true)], Direction::Next);
        assert!(next.contains(r#"("users"."email_key" < $"#) && next.contains(r#""users"."id" DESC"#), "{next}");
        let back = sql(&[(SortKey::Email, true)], Direction::Previous);
        assert!(back.contains(r#"("users"."email_key" > $"#) && back.contains(r#""users"."id" ASC"#), "{back}");
        let both = sql(&[(SortKey::LastName, true), (SortKey::Email, false)], Direction::Next);
        let order = r#"ORDER BY "users"."last_name" DESC, "users"."email_key" ASC, "users"."id" ASC"#;
        assert!(both.contains(order) && both.contains(r#"("users"."email_key" > $"#), "{both}");
    }
}
