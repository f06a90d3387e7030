//! Pages: keyset cursors by default, numbered pages on the small lists.

use std::ops::Deref;

use actix_web::body::BoxBody;
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::envelope::{ListEnvelope, Pagination, RequestId};
use super::params::bad_parameter;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::kernel::crypto::MacKey;
use crate::kernel::page::{CursorScope, Direction, Seek};
use crate::router::TenantDb;

const DEFAULT_SIZE: u32 = 20;
const MAX_SIZE: u32 = 100;
/// The deepest numbered page: beyond, `OFFSET` costs more than a cursor ever would.
const MAX_PAGE: u32 = 10_000;

/// Which page of a list is asked for.
#[derive(Debug, Clone)]
pub struct Paging {
    page: Option<u32>,
    size: u32,
    cursor: Option<String>,
    include_total: bool,
}

impl Paging {
    /// From the query parameters `page`, `pageSize`, `cursor` and `includeTotal`.
    ///
    /// # Errors
    /// 400 `invalid_query` if a number is out of range, or page and cursor are given together.
    pub fn new(
        page: Option<u32>,
        page_size: Option<u32>,
        cursor: Option<String>,
        include_total: Option<bool>,
    ) -> ApiResult<Self> {
        let size = page_size.unwrap_or(DEFAULT_SIZE);
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(bad_parameter("pageSize", "Must be from 1 to 100."));
        }
        if page.is_some_and(|page| !(1..=MAX_PAGE).contains(&page)) {
            return Err(bad_parameter("page", "Must be from 1 to 10000; read on with a cursor."));
        }
        if page.is_some() && cursor.is_some() {
            return Err(bad_parameter("cursor", "Give either a page or a cursor."));
        }
        Ok(Self { page, size, cursor, include_total: include_total.unwrap_or(false) })
    }

    /// How many rows to read: one more than are shown, to see whether there are further ones.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// How many rows to skip: zero unless a numbered page is asked for.
    #[must_use]
    pub fn offset(&self) -> i64 {
        i64::from(self.page.unwrap_or(1) - 1) * i64::from(self.size)
    }

    /// Whether the client wants the rows counted.
    #[must_use]
    pub const fn include_total(&self) -> bool {
        self.include_total
    }

    /// Of one list, which its cursors are bound to: a tenant's, or with none the control plane's.
    #[must_use]
    pub fn bound(
        self,
        (tenant, mac): (Option<TenantId>, &MacKey),
        list: &'static str,
        sort: impl Into<String>,
        filter: impl Into<String>,
    ) -> Pages {
        Pages { paging: self, tenant, mac: mac.clone(), list, sort: sort.into(), filter: filter.into() }
    }

    /// Of a list in a tenant's database.
    #[must_use]
    pub fn of(self, db: &TenantDb, list: &'static str, sort: impl Into<String>, filter: impl Into<String>) -> Pages {
        self.bound((Some(db.tenant().id), &db.router().installation().mac), list, sort, filter)
    }
}

/// Which page of which list is asked for.
///
/// ```ignore
/// let pages = Paging::new(page, page_size, cursor, include_total)?.of(&caller.db, "roles", "name", "");
/// let seek = pages.seek()?;                                 // Seek<Position>
/// let rows = store::list(conn, seek, pages.limit(), pages.offset()).await?;
/// Ok(pages.listed(rows, |row| row.name.clone(), total))
/// ```
#[derive(Debug, Clone)]
pub struct Pages {
    paging: Paging,
    tenant: Option<TenantId>,
    mac: MacKey,
    list: &'static str,
    sort: String,
    filter: String,
}

impl Deref for Pages {
    type Target = Paging;

    fn deref(&self) -> &Paging {
        &self.paging
    }
}

impl Pages {
    fn scope(&self) -> CursorScope<'_> {
        CursorScope { tenant: self.tenant, list: self.list, sort: &self.sort, filter: &self.filter }
    }

    /// Where to read on, and which way; `None` on a list's beginning. Reading backwards, the store sorts the other way
    /// round and gives the rows as it finds them: [`Self::listed`] turns them.
    ///
    /// # Errors
    /// 400 `cursor_invalid` unless this very list made the cursor.
    pub fn seek<P: DeserializeOwned>(&self) -> ApiResult<Seek<P>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        self.scope().decode(&self.mac, cursor).map(Some).map_err(|_| ApiError::new(Code::CursorInvalid))
    }

    /// The same as the position after which to read on, and the one before which to read backwards.
    ///
    /// # Errors
    /// As [`Self::seek`].
    pub fn between<P: DeserializeOwned>(&self) -> ApiResult<(Option<P>, Option<P>)> {
        Ok(match self.seek()? {
            None => (None, None),
            Some((Direction::Next, at)) => (Some(at), None),
            Some((Direction::Previous, at)) => (None, Some(at)),
        })
    }

    /// Cuts the rows (at most [`Paging::limit`] of them) to one page. `position` gives a row's sort keys.
    pub fn listed<R, P: Serialize>(
        &self,
        mut rows: Vec<R>,
        position: impl Fn(&R) -> P,
        total: Option<i64>,
    ) -> Listed<R> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let further = rows.len() > size;
        rows.truncate(size);
        let (scope, mac) = (self.scope(), &self.mac);
        let came_from = self.cursor.as_deref().and_then(|text| scope.decode::<IgnoredAny>(mac, text).ok());
        let (has_next, has_prev) = match came_from {
            Some((Direction::Previous, _)) => {
                rows.reverse();
                (!rows.is_empty(), further)
            }
            Some((Direction::Next, _)) => (further, !rows.is_empty()),
            None => (further, self.page.unwrap_or(1) > 1),
        };
        let cursor = |wanted: bool, direction, row: Option<&R>| {
            row.filter(|_| wanted).map(|row| scope.encode(mac, direction, &position(row)))
        };
        let pagination = Pagination {
            page: if self.cursor.is_some() { None } else { Some(self.page.unwrap_or(1)) },
            page_size: self.size,
            has_next,
            has_prev,
            next_cursor: cursor(has_next, Direction::Next, rows.last()),
            prev_cursor: cursor(has_prev, Direction::Previous, rows.first()),
            total,
            total_pages: total.map(|total| (total + i64::from(self.size) - 1) / i64::from(self.size)),
        };
        Listed { items: rows, pagination }
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the page stands.
    pub pagination: Pagination,
}

impl<T> Listed<T> {
    /// The same page of other things, such as rows made into what clients see.
    pub fn map<U>(self, make: impl FnMut(T) -> U) -> Listed<U> {
        Listed { items: self.items.into_iter().map(make).collect(), pagination: self.pagination }
    }
}

impl<T: Serialize> Responder for Listed<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        ListEnvelope::respond(RequestId::of(request), self.items, self.pagination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::random;

    /// A list of the numbers 1 to 7, as a store would read it.
    fn page(paging: Paging, mac: &MacKey) -> Listed<i64> {
        let pages = paging.bound((None, mac), "numbers", "n", "");
        let limit = usize::try_from(pages.limit()).unwrap();
        let rows = match pages.seek::<i64>().unwrap() {
            None => (1..=7).skip(usize::try_from(pages.offset()).unwrap()).take(limit).collect(),
            Some((Direction::Next, at)) => (1..=7).filter(|n| *n > at).take(limit).collect(),
            Some((Direction::Previous, at)) => (1..=7).rev().filter(|n| *n < at).take(limit).collect(),
        };
        pages.listed(rows, |n| *n, pages.include_total().then_some(7))
    }

    #[test]
    fn walks_there_and_back() {
        let mac = MacKey::new(&random::<32>());
        let go = |cursor: Option<String>| page(Paging::new(None, Some(3), cursor, None).unwrap(), &mac);
        let first = go(None);
        assert_eq!((first.items.as_slice(), first.pagination.has_prev), (&[1, 2, 3][..], false));
        let second = go(first.pagination.next_cursor);
        assert_eq!(second.items, [4, 5, 6]);
        let last = go(second.pagination.next_cursor.clone());
        assert_eq!((last.items.as_slice(), last.pagination.has_next), (&[7][..], false));
        assert_eq!(go(last.pagination.prev_cursor).items, [4, 5, 6]);
        let back = go(second.pagination.prev_cursor);
        assert_eq!((back.items.as_slice(), back.pagination.has_prev), (&[1, 2, 3][..], false));
        assert!(back.pagination.has_next);
    }

    #[test]
    fn numbered_pages_count() {
        let mac = MacKey::new(&random::<32>());
        let third = page(Paging::new(Some(3), Some(3), None, Some(true)).unwrap(), &mac);
        assert_eq!(third.items, [7]);
        let p = third.pagination;
        assert_eq!((p.page, p.total, p.total_pages, p.has_next, p.has_prev), (Some(3), Some(7), Some(3), false, true));
    }

    #[test]
    fn refuses_what_makes_no_page() {
        for (page, size, cursor) in [(None, Some(0), None), (None, Some(101), None), (Some(0), None, None)] {
            assert_eq!(Paging::new(page, size, cursor, None).unwrap_err().code(), Code::InvalidQuery);
        }
        assert!(Paging::new(Some(1), None, Some("x".into()), None).is_err());
        let forged = Paging::new(None, None, Some("x".into()), None).unwrap();
        let refused = forged.bound((None, &MacKey::new(b"k")), "numbers", "n", "").seek::<i64>().unwrap_err();
        assert_eq!(refused.code(), Code::CursorInvalid);
    }
}
