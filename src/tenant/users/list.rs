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
use crate::kernel::page::{Direction, Seek};
use crate::rest::{Authorized, ListEnvelope, Listed, Paging, Query};
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
    pub role: Option<String>,
    /// Only people whose names or address contain this.
    pub q: Option<String>,
    /// Only people added after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Only people added before this moment.
    pub created_before: Option<DateTime<Utc>>,
    /// The order; `createdAt` if left out.
    #[param(inline)]
    pub sort: Option<UserSort>,
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

/// A row's place in the list: its sort key, and its id where keys are the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Place {
    #[serde(rename = "t")]
    Time(DateTime<Utc>, UserId),
    #[serde(rename = "s")]
    Text(String, UserId),
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
    let paging = Paging::new(query.page, query.page_size, query.cursor.clone(), query.include_total)?;
    let sort = query.sort.unwrap_or_default();
    let sort_name = serde_json::to_string(&sort).unwrap_or_default();
    let tenant = caller.db.tenant().id;
    let pages = paging.of(&caller.db, "users", sort_name, query.fingerprint());
    let seek = pages.seek::<Place>()?;
    let (limit, offset, counted) = (pages.limit(), pages.offset(), pages.include_total());
    let query = &query;
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = ordered(filtered(query), sort, seek.clone()).limit(limit).offset(offset).load(conn).await?;
            let total = if counted { Some(count(conn, query).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    let place = |row: &UserRow| match sort {
        UserSort::CreatedAt | UserSort::CreatedAtDesc => Place::Time(row.created_at, row.id),
        UserSort::Email | UserSort::EmailDesc => Place::Text(email_key(&row.email), row.id),
        UserSort::LastName | UserSort::LastNameDesc => Place::Text(row.last_name.clone(), row.id),
    };
    Ok(pages.listed(rows, place, total).map(|row| User::new(row, tenant)))
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

/// A moment that PostgreSQL can compare with: chrono reaches further than its calendar does.
fn within_reach(moment: DateTime<Utc>) -> DateTime<Utc> {
    const LATEST: i64 = 253_402_300_799;
    moment.clamp(DateTime::UNIX_EPOCH, DateTime::from_timestamp(LATEST, 0).unwrap_or(DateTime::UNIX_EPOCH))
}

macro_rules! in_order {
    ($rows:ident, $key:expr, $descending:expr, $seek:expr) => {{
        // Reading backwards is reading the other way round.
        let backwards = matches!($seek, Some((Direction::Previous, _, _)));
        let down = $descending != backwards;
        if let Some((_, key, id)) = $seek {
            $rows = if down {
                $rows.filter($key.lt(key.clone()).or($key.eq(key).and(users::id.lt(id))))
            } else {
                $rows.filter($key.gt(key.clone()).or($key.eq(key).and(users::id.gt(id))))
            };
        }
        if down { $rows.order(($key.desc(), users::id.desc())) } else { $rows.order(($key.asc(), users::id.asc())) }
    }};
}

fn ordered<'a>(mut rows: Rows<'a>, sort: UserSort, seek: Seek<Place>) -> Rows<'a> {
    let (mut time, mut text) = (None, None);
    match seek {
        Some((direction, Place::Time(key, id))) => time = Some((direction, key, id)),
        Some((direction, Place::Text(key, id))) => text = Some((direction, key, id)),
        None => {}
    }
    match sort {
        UserSort::CreatedAt => in_order!(rows, users::created_at, false, time),
        UserSort::CreatedAtDesc => in_order!(rows, users::created_at, true, time),
        UserSort::Email => in_order!(rows, users::email_key, false, text),
        UserSort::EmailDesc => in_order!(rows, users::email_key, true, text),
        UserSort::LastName => in_order!(rows, users::last_name, false, text),
        UserSort::LastNameDesc => in_order!(rows, users::last_name, true, text),
    }
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
        let sql = |sort, seek| diesel::debug_query::<Pg, _>(&ordered(filtered(&query), sort, seek)).to_string();
        let next = sql(UserSort::EmailDesc, Some((Direction::Next, Place::Text("x".into(), id))));
        assert!(next.contains(r#"("users"."email_key" < $"#) && next.contains(r#""users"."id" DESC"#), "{next}");
        let back = sql(UserSort::EmailDesc, Some((Direction::Previous, Place::Text("x".into(), id))));
        assert!(back.contains(r#"("users"."email_key" > $"#) && back.contains(r#""users"."id" ASC"#), "{back}");
    }
}
