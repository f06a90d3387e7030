//! Keyset pages of lists that are sorted by several keys, each in its own direction.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The value of a sort key in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyValue {
    /// Of a time.
    #[serde(rename = "t")]
    Time(DateTime<Utc>),
    /// Of a text.
    #[serde(rename = "s")]
    Text(String),
}

/// Where a row stands in a sorted list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position<Id> {
    /// Its sort keys.
    #[serde(rename = "k")]
    pub keys: Vec<KeyValue>,
    /// Its id, which tells equal keys apart.
    #[serde(rename = "i")]
    pub id: Id,
}

/// Sorts the rows of a table by keys and then by id, which goes the way of the last key; from a position, those beyond it
/// alone, or, read backwards, those before it, the other way round.
///
/// `$source` is what the query selects from: the table, or a join of it. `$order` are the keys, each with whether it descends;
/// `$from` is a direction and a position, if there is one. Of each key is said which values it has, in which column, and how a
/// value becomes what the column has.
macro_rules! sorted {
    ($query:expr, $table:ident of $source:ty, $order:expr, $from:expr, {
        $($key:pat => $kind:ident in $column:expr, by $folded:expr;)+
    }) => {{
        use diesel::pg::Pg;
        use diesel::sql_types::Bool;

        use crate::kernel::page::Direction;
        use crate::rest::sorted::{KeyValue, Position};

        let (mut query, from) = ($query, $from);
        let backwards = matches!(from, Some((Direction::Previous, _)));
        let order: Vec<_> = $order.iter().map(|(key, descends)| (*key, *descends != backwards)).collect();
        let ids_descend = order.last().is_some_and(|(_, descends)| *descends);
        if let Some((_, Position { keys, id })) = from {
            // Directions differ, so that rows do not compare as a whole: beyond are those beyond by the first key, and of
            // those that are equal in it, those beyond by the rest.
            let mut beyond: Box<dyn BoxableExpression<$source, Pg, SqlType = Bool> + '_> =
                if ids_descend { Box::new($table::id.lt(*id)) } else { Box::new($table::id.gt(*id)) };
            for ((key, descends), value) in order.iter().zip(keys).rev() {
                beyond = match (key, value) {
                    $(
                        ($key, KeyValue::$kind(value)) if *descends => {
                            Box::new($column.lt($folded(value)).or($column.eq($folded(value)).and(beyond)))
                        }
                        ($key, KeyValue::$kind(value)) => {
                            Box::new($column.gt($folded(value)).or($column.eq($folded(value)).and(beyond)))
                        }
                    )+
                    _ => beyond,
                };
            }
            // What an index scan starts at.
            query = match (order.iter().next(), keys.iter().next()) {
                $(
                    (Some(($key, true)), Some(KeyValue::$kind(value))) => query.filter($column.le($folded(value))),
                    (Some(($key, false)), Some(KeyValue::$kind(value))) => query.filter($column.ge($folded(value))),
                )+
                _ => query,
            };
            query = query.filter(beyond);
        }
        for (key, descends) in &order {
            query = match key {
                $(
                    $key if *descends => query.then_order_by($column.desc()),
                    $key => query.then_order_by($column.asc()),
                )+
            };
        }
        if ids_descend { query.then_order_by($table::id.desc()) } else { query.then_order_by($table::id.asc()) }
    }};
}
pub(crate) use sorted;
