//! The passwords that somebody had before.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::kernel::UserId;
use crate::router::TenantConn;

diesel::table! {
    password_history (id) {
        id -> BigInt,
        user_id -> Uuid,
        password_hash -> Text,
        set_at -> Timestamptz,
    }
}

use password_history as h;

/// The newest hashes of somebody's passwords, as many as the policy asks for.
pub(super) async fn earlier(conn: &mut TenantConn, user: UserId, depth: i32) -> QueryResult<Vec<String>> {
    if depth == 0 {
        return Ok(Vec::new());
    }
    h::table
        .filter(h::user_id.eq(user))
        .order(h::id.desc())
        .limit(depth.into())
        .select(h::password_hash)
        .load(conn)
        .await
}

/// Notes a password that somebody has from now on, if the policy asks for it, and forgets what it asks for no more.
pub(crate) async fn remember(conn: &mut TenantConn, user: UserId, hash: &str, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO password_history (user_id, password_hash, set_at) \
         SELECT $1, $2, $3 FROM security_policy WHERE password_history > 0",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Text, _>(hash)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "DELETE FROM password_history WHERE user_id = $1 AND id NOT IN (SELECT id FROM password_history \
         WHERE user_id = $1 ORDER BY id DESC LIMIT (SELECT password_history FROM security_policy))",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .execute(conn)
    .await
    .map(drop)
}
