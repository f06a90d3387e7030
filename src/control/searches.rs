//! Searches for the workspaces of an address, by its digest alone: asked for in one statement that is the same whether
//! anybody has the address, and done afterwards.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::router::MainConn;

/// Searches that may wait.
const MOST_WAITING: i64 = 10_000;
/// Searches for one address within an hour, and the shortest pause between two.
const MOST_AN_HOUR: i32 = 5;
const WINDOW: TimeDelta = TimeDelta::hours(1);
const PAUSE: TimeDelta = TimeDelta::minutes(1);

/// A search to be done.
#[derive(Debug, Clone, QueryableByName)]
pub struct Search {
    /// Of the address.
    #[diesel(sql_type = Binary)]
    pub digest: Vec<u8>,
    /// The key of the digest.
    #[diesel(sql_type = Integer)]
    pub key_id: i32,
    /// When it was asked for.
    #[diesel(sql_type = Timestamptz)]
    pub asked_at: DateTime<Utc>,
    /// Until when it is whoever's who took it.
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
}

/// Asks for a search. What is asked for too often is not done, which nobody is told. False if too many wait.
///
/// # Errors
/// If the control plane does not answer.
pub async fn ask(conn: &mut MainConn, key: i32, digest: &[u8; 32], now: DateTime<Utc>) -> QueryResult<bool> {
    let asked = diesel::sql_query(
        "INSERT INTO workspace_searches AS s (digest, key_id, due_at, asked_at, asked, window_start) \
         SELECT $1, $2, $3, $3, 1, $3 WHERE \
         (SELECT count(*) FROM (SELECT 1 FROM workspace_searches WHERE due_at IS NOT NULL LIMIT $4) waiting) < $4 \
         ON CONFLICT (digest) DO UPDATE SET \
         (due_at, asked_at, asked, window_start) = (SELECT \
             CASE WHEN fine THEN $3 ELSE s.due_at END, CASE WHEN fine THEN $3 ELSE s.asked_at END, \
             CASE WHEN over THEN 1 WHEN fine THEN s.asked + 1 ELSE s.asked END, \
             CASE WHEN over THEN $3 ELSE s.window_start END \
             FROM (SELECT s.window_start <= $5 AS over, \
                   s.asked_at <= $6 AND (s.window_start <= $5 OR s.asked < $7) AS fine) so)",
    )
    .bind::<Binary, _>(&digest[..])
    .bind::<Integer, _>(key)
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(MOST_WAITING)
    .bind::<Timestamptz, _>(now - WINDOW)
    .bind::<Timestamptz, _>(now - PAUSE)
    .bind::<Integer, _>(MOST_AN_HOUR)
    .execute(conn)
    .await?;
    Ok(asked == 1)
}

/// Takes searches that are due, for as long as one may take. No two nodes get the same.
///
/// # Errors
/// If the control plane does not answer.
pub async fn take(conn: &mut MainConn, most: i64, lease: TimeDelta, now: DateTime<Utc>) -> QueryResult<Vec<Search>> {
    diesel::sql_query(
        "UPDATE workspace_searches SET due_at = $2 WHERE digest IN (SELECT digest FROM workspace_searches \
         WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING digest, key_id, asked_at, due_at",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + lease)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await
}

/// A search is done, unless it was asked for again meanwhile.
///
/// # Errors
/// If the control plane does not answer.
pub async fn finish(conn: &mut MainConn, search: &Search) -> QueryResult<()> {
    diesel::sql_query("UPDATE workspace_searches SET due_at = NULL WHERE digest = $1 AND due_at = $2")
        .bind::<Binary, _>(&search.digest)
        .bind::<Timestamptz, _>(search.due_at)
        .execute(conn)
        .await
        .map(drop)
}

/// Forgets what was asked for, once it does not count any more.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM workspace_searches WHERE digest IN \
         (SELECT digest FROM workspace_searches WHERE window_start <= $1 AND asked_at <= $1 LIMIT 10000)",
    )
    .bind::<Timestamptz, _>(now - WINDOW)
    .execute(conn)
    .await
    .map(drop)
}
