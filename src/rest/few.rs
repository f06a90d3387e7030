//! Lists of few things: read whole, given in pages like any other.

use serde::Deserialize;
use utoipa::IntoParams;

use super::paging::{Listed, Paging};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::kernel::crypto::MacKey;
use crate::kernel::page::Direction;
use crate::router::TenantDb;

/// Which page of a list of few things.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFew {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

impl ListFew {
    /// The page of a list in a tenant's database, whose items are all at hand in their order. `filter` is what narrowed
    /// the list, such as whose it is; `key` gives what no other item has.
    ///
    /// # Errors
    /// 400 `invalid_query`, `cursor_invalid`.
    pub fn of<T>(
        self,
        db: &TenantDb,
        list: (&'static str, impl Into<String>),
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> ApiResult<Listed<T>> {
        self.bound((Some(db.tenant().id), &db.router().installation().mac), list, items, key)
    }

    /// The same of a tenant's list, or with none of the control plane's.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn bound<T>(
        self,
        scope: (Option<TenantId>, &MacKey),
        (list, filter): (&'static str, impl Into<String>),
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> ApiResult<Listed<T>> {
        let Self { page_size, cursor, include_total } = self;
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let pages = Paging::new(None, page_size, cursor, include_total)?.bound(scope, list, "", filter);
        let total = pages.include_total().then_some(count);
        let seek = pages.seek::<(usize, String)>()?;
        let found = seek.as_ref().and_then(|(_, (_, at))| items.iter().position(|item| key(item) == *at));
        let limit = usize::try_from(pages.limit()).unwrap_or(usize::MAX);
        let rows = items.into_iter().enumerate();
        let rows: Vec<(usize, T)> = match seek {
            None => rows.take(limit).collect(),
            // Where the item is gone, what came behind it is in its place.
            Some((Direction::Next, (index, _))) => rows.skip(found.map_or(index, |at| at + 1)).take(limit).collect(),
            Some((Direction::Previous, (index, _))) => rows.take(found.unwrap_or(index)).rev().take(limit).collect(),
        };
        Ok(pages.listed(rows, |(index, item)| (*index, key(item)), total).map(|(_, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::kernel::crypto::random;

    fn page(items: &[u32], wanted: ListFew, mac: &MacKey) -> ApiResult<Listed<u32>> {
        wanted.bound((None, mac), ("numbers", ""), items.to_vec(), ToString::to_string)
    }

    fn sized(cursor: Option<String>) -> ListFew {
        ListFew { page_size: Some(3), cursor, include_total: None }
    }

    #[test]
    fn twenty_unless_another_size_is_asked_for() {
        let mac = MacKey::new(&random::<32>());
        let many: Vec<u32> = (0..130).collect();
        let first = page(&many, ListFew { include_total: Some(true), ..ListFew::default() }, &mac).unwrap();
        let p = first.pagination;
        assert_eq!((first.items.len(), p.page_size, p.total, p.total_pages), (20, 20, Some(130), Some(7)));
        let next = page(&many, ListFew { cursor: p.next_cursor, ..ListFew::default() }, &mac).unwrap();
        assert_eq!((next.items.as_slice(), next.pagination.has_next), (&many[20..40], true));
        let few = page(&[1], ListFew::default(), &mac).unwrap();
        assert_eq!((few.items.as_slice(), few.pagination.has_next), (&[1][..], false));
        let none = page(&[1], ListFew { page_size: Some(0), ..ListFew::default() }, &mac).unwrap_err();
        assert_eq!(none.code(), Code::InvalidQuery);
        let forged = page(&[1], sized(Some("x".into())), &mac).unwrap_err();
        assert_eq!(forged.code(), Code::CursorInvalid);
    }

    #[test]
    fn walks_there_and_back() {
        let mac = MacKey::new(&random::<32>());
        let all = [7_u32, 6, 5, 4, 3, 2, 1];
        let go = |cursor: Option<String>| page(&all, sized(cursor), &mac).unwrap();
        let first = go(None);
        assert_eq!((first.items.as_slice(), first.pagination.has_prev), (&[7, 6, 5][..], false));
        let second = go(first.pagination.next_cursor);
        assert_eq!(second.items, [4, 3, 2]);
        let last = go(second.pagination.next_cursor);
        assert_eq!((last.items.as_slice(), last.pagination.has_next), (&[1][..], false));
        assert_eq!(go(last.pagination.prev_cursor).items, [4, 3, 2]);
        assert_eq!(go(second.pagination.prev_cursor).items, [7, 6, 5]);
    }

    /// What comes and goes while somebody reads on makes them miss nothing and read nothing twice.
    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let mac = MacKey::new(&random::<32>());
        let cursor = page(&[7, 6, 5, 4, 3], sized(None), &mac).unwrap().pagination.next_cursor;
        for now in [&[8, 7, 6, 5, 4, 3][..], &[7, 6, 4, 3], &[5, 4, 3]] {
            assert_eq!(page(now, sized(cursor.clone()), &mac).unwrap().items, [4, 3], "{now:?}");
        }
    }
}
