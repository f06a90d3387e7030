//! Invitations.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::schema::invitations;

/// Keeps the hash of an invitation; earlier ones of the same person are void.
pub async fn insert_invitation(
    conn: &mut TenantConn,
    user: UserId,
    hash: &[u8; 32],
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::delete(invitations::table.filter(invitations::user_id.eq(user))).execute(conn).await?;
    diesel::insert_into(invitations::table)
        .values((
            invitations::id.eq(Uuid::now_v7()),
            invitations::user_id.eq(user),
            invitations::token_hash.eq(hash.as_slice()),
            invitations::created_at.eq(now),
            invitations::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Whom an invitation is for that can still be accepted: a look before it is taken.
pub async fn open_invitation(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<UserId>> {
    invitations::table
        .filter(invitations::token_hash.eq(hash.as_slice()))
        .filter(invitations::accepted_at.is_null())
        .filter(invitations::expires_at.gt(now))
        .select(invitations::user_id)
        .first(conn)
        .await
        .optional()
}

/// Takes an invitation that can still be accepted, for the person it was made for; a second call gets none.
pub async fn accept_invitation(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<UserId>> {
    diesel::update(
        invitations::table
            .filter(invitations::token_hash.eq(hash.as_slice()))
            .filter(invitations::accepted_at.is_null())
            .filter(invitations::expires_at.gt(now)),
    )
    .set(invitations::accepted_at.eq(now))
    .returning(invitations::user_id)
    .get_result(conn)
    .await
    .optional()
}
