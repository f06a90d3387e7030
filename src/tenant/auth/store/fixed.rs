//! A part of a query in words that never change.

use std::marker::PhantomData;

use diesel::expression::{
    AppearsOnTable, Expression, SelectableExpression, TypedExpressionType, ValidGrouping, is_aggregate,
};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};

/// As `diesel::dsl::sql`, whose queries are prepared anew each time because their words may have been put together: these
/// cannot be, so that a connection prepares the query once.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<ST>(&'static str, PhantomData<ST>);

/// An expression of this type, in SQL.
pub const fn fixed<ST>(sql: &'static str) -> Fixed<ST> {
    Fixed(sql, PhantomData)
}

impl<ST: TypedExpressionType> Expression for Fixed<ST> {
    type SqlType = ST;
}

impl<ST, QS: ?Sized> AppearsOnTable<QS> for Fixed<ST> where Self: Expression {}
impl<ST, QS: ?Sized> SelectableExpression<QS> for Fixed<ST> where Self: Expression {}

impl<ST, GB> ValidGrouping<GB> for Fixed<ST> {
    type IsAggregate = is_aggregate::Never;
}

impl<ST> QueryFragment<Pg> for Fixed<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.0);
        Ok(())
    }
}

// Queries of one type may differ in their words: they are told apart by those.
impl<ST> QueryId for Fixed<ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}
