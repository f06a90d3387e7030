//! Lists in the order of their sort keys, read on from a position: how a store takes a cursor in.

/// Orders a boxed query by a unique column, and has it read on from `$seek`. Read backwards, the rows come the other way
/// round.
macro_rules! ascending {
    ($query:expr, $key:expr, $seek:expr) => {{
        use $crate::kernel::page::Direction;
        let query = $query;
        match $seek {
            None => query.order($key.asc()),
            Some((Direction::Next, at_key)) => query.filter($key.gt(at_key)).order($key.asc()),
            Some((Direction::Previous, at_key)) => query.filter($key.lt(at_key)).order($key.desc()),
        }
    }};
}

/// The same by a time and, within it, an id: the latest first.
macro_rules! latest_first {
    ($query:expr, ($time:expr, $id:expr), $seek:expr) => {{
        use $crate::kernel::page::Direction;
        let query = $query;
        match $seek {
            None => query.order(($time.desc(), $id.desc())),
            Some((Direction::Next, (at_time, at_id))) => query
                .filter($time.lt(at_time).or($time.eq(at_time).and($id.lt(at_id))))
                .order(($time.desc(), $id.desc())),
            Some((Direction::Previous, (at_time, at_id))) => {
                query.filter($time.gt(at_time).or($time.eq(at_time).and($id.gt(at_id)))).order(($time.asc(), $id.asc()))
            }
        }
    }};
}

pub(super) use {ascending, latest_first};
