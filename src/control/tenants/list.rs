//! Lists of tenants: narrowed, in an order, a page at a time.

use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::helper_types::LeftJoinQuerySource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::store::{Row, TenantRecord, records};
use crate::control::schema::{clusters, tenants as t};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::kernel::page::Seek;
use crate::rest::sorted::{self, KeyValue, sorted};
use crate::router::{MainConn, TenantStatus};

/// The order of whoever asks for none.
const BY_SLUG: &[(TenantKey, bool)] = &[(TenantKey::Slug, false)];

/// What tenants are sorted by; equal keys by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantKey {
    /// Public name.
    Slug,
    /// Display name.
    Name,
    /// When they were made.
    CreatedAt,
}

/// Where a tenant stands in a sorted list.
pub type TenantPosition = sorted::Position<TenantId>;

/// Which tenants to list, and in which order.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// In this state only.
    pub status: Option<TenantStatus>,
    /// Among these only.
    pub only: Option<Vec<TenantId>>,
    /// Whose slug or name contains this, whatever the case.
    pub q: Option<String>,
    /// Made after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Made before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// What they are sorted by, and whether the greatest of each key comes first; by slug if empty.
    pub order: Vec<(TenantKey, bool)>,
    /// Starts beside this one, and reads on in this direction.
    pub from: Seek<TenantPosition>,
    /// At most so many; all of them if absent.
    pub limit: Option<i64>,
    /// Beyond the first so many.
    pub offset: i64,
}

impl TenantRecord {
    /// Where it stands in a list sorted so.
    #[must_use]
    pub fn position(&self, order: &[(TenantKey, bool)]) -> TenantPosition {
        let value = |key: TenantKey| match key {
            TenantKey::Slug => KeyValue::Text(self.slug.to_string()),
            TenantKey::Name => KeyValue::Text(self.name.clone()),
            TenantKey::CreatedAt => KeyValue::Time(self.created_at),
        };
        TenantPosition { keys: order.iter().map(|(key, _)| value(*key)).collect(), id: self.id }
    }
}

/// A boxed query for those tenants only that a filter lets through, on whatever page they are.
macro_rules! narrowed {
    ($query:expr, $filter:expr) => {{
        let (mut query, filter) = ($query, $filter);
        if let Some(status) = filter.status {
            query = query.filter(t::status.eq(status.as_str()));
        }
        if let Some(only) = &filter.only {
            query = query.filter(t::id.eq_any(only));
        }
        if let Some(q) = filter.q.as_deref().filter(|q| !q.is_empty()) {
            let pattern = format!("%{}%", q.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"));
            query = query.filter(t::slug.ilike(pattern.clone()).or(t::name.ilike(pattern)));
        }
        if let Some(after) = filter.created_after {
            query = query.filter(t::created_at.gt(after));
        }
        if let Some(before) = filter.created_before {
            query = query.filter(t::created_at.lt(before));
        }
        query
    }};
}

/// Tenants in an order; read backwards, they come the other way round.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn, filter: &TenantFilter) -> ApiResult<Vec<TenantRecord>> {
    type Joined = LeftJoinQuerySource<t::table, clusters::table>;

    let order = if filter.order.is_empty() { BY_SLUG } else { filter.order.as_slice() };
    let rows = narrowed!(records().into_boxed::<Pg>(), filter);
    let mut query = sorted!(rows, t of Joined, order, filter.from.as_ref(), {
        TenantKey::Slug => Text in t::slug, by std::convert::identity;
        TenantKey::Name => Text in t::name, by std::convert::identity;
        TenantKey::CreatedAt => Time in t::created_at, by std::convert::identity;
    });
    if let Some(limit) = filter.limit {
        query = query.limit(limit);
    }
    if filter.offset > 0 {
        query = query.offset(filter.offset);
    }
    query.load::<Row>(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// How many tenants a filter lets through, on whatever page they are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn, filter: &TenantFilter) -> ApiResult<i64> {
    Ok(narrowed!(t::table.select(count_star()).into_boxed(), filter).get_result(conn).await?)
}
