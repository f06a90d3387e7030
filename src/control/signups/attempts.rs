//! How often an address has asked.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::control::schema::signup_attempts as a;
use crate::error::ApiResult;
use crate::router::MainConn;

/// The span that is counted in.
const WINDOW: TimeDelta = TimeDelta::hours(1);

/// Counts in a new window if the last one is over. Nobody waits for the disk: what a crash forgets are the tries of a
/// moment.
const COUNT: &str = "INSERT INTO signup_attempts AS s (subject, attempts, window_start) VALUES ($1, 1, $2) \
    ON CONFLICT (subject) DO UPDATE SET \
    attempts = CASE WHEN s.window_start <= $3 THEN 1 ELSE s.attempts + 1 END, \
    window_start = CASE WHEN s.window_start <= $3 THEN $2 ELSE s.window_start END \
    RETURNING attempts, window_start, set_config('synchronous_commit', 'off', true)";

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    window_start: DateTime<Utc>,
}

/// What an address has used of its hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How often it has asked, this time included.
    pub count: i64,
    /// When it begins at nought.
    pub until: DateTime<Utc>,
}

/// Counts one more attempt of a subject.
///
/// # Errors
/// If the control plane does not answer.
pub async fn attempt(conn: &mut MainConn, subject: &[u8], now: DateTime<Utc>) -> ApiResult<Attempts> {
    let row: Row = diesel::sql_query(COUNT)
        .bind::<Binary, _>(subject)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now - WINDOW)
        .get_result(conn)
        .await?;
    Ok(Attempts { count: i64::from(row.attempts), until: row.window_start + WINDOW })
}

/// Forgets windows that are over.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::delete(a::table.filter(a::window_start.le(now - WINDOW))).execute(conn).await?;
    Ok(())
}
