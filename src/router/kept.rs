//! A statement that a connection prepares once and keeps.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};

/// As `diesel::sql_query`, which is prepared anew each time, because its words may have been put together: a round trip
/// and the planning more for each. These words cannot be.
pub(super) struct Kept<ST, T> {
    words: [&'static str; 2],
    value: T,
    of: PhantomData<ST>,
}

impl<ST, T> Kept<ST, T> {
    /// The words, and behind them the one value.
    pub(super) const fn new(words: [&'static str; 2], value: T) -> Self {
        Self { words, value, of: PhantomData }
    }
}

impl<ST, T> QueryFragment<Pg> for Kept<ST, T>
where
    Pg: HasSqlType<ST>,
    T: ToSql<ST, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.words.iter().for_each(|words| out.push_sql(words));
        out.push_bind_param::<ST, T>(&self.value)
    }
}

impl<ST, T> Query for Kept<ST, T> {
    type SqlType = Untyped;
}

// Statements of one type differ in their words: they are told apart by those.
impl<ST, T> QueryId for Kept<ST, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}
