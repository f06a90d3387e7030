//! Invitations.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Binary, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::schema::{invitations, users};

/// The built-in schema that knows whose token was shown to others (`V18__claims_and_session_limits.sql`).
const SHOWN_SINCE: i32 = 18;

/// Keeps the hash of an invitation, and whether its token goes to its person alone; earlier ones of the same person are void.
pub async fn insert_invitation(
    conn: &mut TenantConn,
    db: &TenantDb,
    (user, by_mail_alone): (UserId, bool),
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
        .await?;
    if by_mail_alone && db.tenant().schema_version >= SHOWN_SINCE {
        let new = invitations::table.filter(invitations::user_id.eq(user));
        diesel::update(new).set(invitations::shown.eq(false)).execute(conn).await?;
    }
    Ok(())
}

/// Whether an invitation came to its person by mail alone: who uses it reads what is sent to their address.
pub async fn came_by_mail(conn: &mut TenantConn, db: &TenantDb, hash: &[u8; 32]) -> QueryResult<bool> {
    if db.tenant().schema_version < SHOWN_SINCE {
        return Ok(false);
    }
    let found = invitations::table.filter(invitations::token_hash.eq(hash.as_slice()));
    let shown: Option<bool> = found.select(invitations::shown).first(conn).await.optional()?;
    Ok(shown == Some(false))
}

/// Whose an invitation is that this person has accepted with an account elsewhere.
pub async fn accepted_by(conn: &mut TenantConn, hash: &[u8; 32], person: Uuid) -> QueryResult<Option<UserId>> {
    #[derive(QueryableByName)]
    struct Whose {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let found: Option<Whose> = diesel::sql_query(
        "SELECT u.id FROM invitations i JOIN users u ON u.id = i.user_id \
         WHERE i.token_hash = $1 AND i.accepted_at IS NOT NULL AND u.person_id = $2 AND u.status = 'active'",
    )
    .bind::<Binary, _>(hash.as_slice())
    .bind::<SqlUuid, _>(person)
    .get_result(conn)
    .await
    .optional()?;
    Ok(found.map(|whose| UserId::from(whose.id)))
}

/// Whom an invitation is for, whether or not it can still be accepted.
pub async fn invitation_of(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Option<UserId>> {
    let found = invitations::table.filter(invitations::token_hash.eq(hash.as_slice()));
    found.select(invitations::user_id).first(conn).await.optional()
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

/// Takes an invitation that can still be accepted, for the person it was made for, who is held first, as by whoever changes or
/// removes them; a second call gets none.
pub async fn accept_invitation(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<UserId>> {
    let Some(user) = open_invitation(conn, hash, now).await? else { return Ok(None) };
    let held = users::table.find(user).select(users::id).for_no_key_update();
    if held.first::<UserId>(conn).await.optional()?.is_none() {
        return Ok(None);
    }
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
