//! Sessions and their refresh tokens.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::{SessionId, UserId};
use crate::router::TenantConn;
use crate::router::token::IMPERSONATION;
use crate::tenant::auth::rules::Presented;
use crate::tenant::oauth;
use crate::tenant::schema::{refresh_tokens, sessions, users};
use crate::tenant::users::rules::UserStatus;

/// How long an ended session is kept for its person to look at.
const ENDED_KEPT: TimeDelta = TimeDelta::days(30);
/// How many of a person's latest sessions tell whether an address is new.
const LATEST: i64 = 500;
/// How many of the oldest a login looks at, to sweep out what ended long ago.
const SWEPT: i64 = 100;

/// A session to be opened.
#[derive(Debug, Insertable)]
#[diesel(table_name = sessions)]
pub struct NewSession<'a> {
    pub id: SessionId,
    pub user_id: UserId,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub ip: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub amr: &'a [String],
    pub auth_time: DateTime<Utc>,
}

/// What the latest sessions of a person tell of the next one.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct Before {
    /// Whether there are any, open or not.
    #[diesel(sql_type = Bool)]
    pub any: bool,
    /// Whether one was opened from the address.
    #[diesel(sql_type = Bool)]
    pub known: bool,
}

/// Looks at a person's latest sessions, for whoever comes from this address.
pub async fn before(conn: &mut TenantConn, user: UserId, ip: Option<&str>) -> QueryResult<Before> {
    diesel::sql_query(
        "SELECT count(*) > 0 AS \"any\", coalesce(bool_or(ip = $2), false) AS known FROM \
         (SELECT ip FROM sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT $3) latest",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Nullable<Text>, _>(ip)
    .bind::<BigInt, _>(LATEST)
    .get_result(conn)
    .await
}

/// Opens a session.
pub async fn insert_session(conn: &mut TenantConn, session: &NewSession<'_>) -> QueryResult<()> {
    diesel::insert_into(sessions::table).values(session).execute(conn).await.map(drop)
}

/// Sweeps out those of a person's oldest sessions that ended long ago. Each login takes more of them along than it adds, and
/// those that another sweeps it leaves to them.
pub async fn sweep_sessions(conn: &mut TenantConn, user: UserId, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE id IN \
         (SELECT id FROM sessions WHERE user_id = $1 ORDER BY created_at LIMIT $3) \
         AND (expires_at < $2 OR revoked_at < $2) FOR UPDATE SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Timestamptz, _>(now - ENDED_KEPT)
    .bind::<BigInt, _>(SWEPT)
    .execute(conn)
    .await
    .map(drop)
}

/// Keeps the hash of a new refresh token of a session.
pub async fn insert_refresh_token(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    session: SessionId,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::hash.eq(hash.as_slice()),
            refresh_tokens::session_id.eq(session),
            refresh_tokens::created_at.eq(now),
            refresh_tokens::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// The session of a presented refresh token, and what is known of both.
#[derive(Debug, Clone)]
pub struct Family {
    pub session: SessionId,
    pub user: UserId,
    pub opened_at: DateTime<Utc>,
    /// When the token was given.
    pub given_at: DateTime<Utc>,
    pub amr: Vec<String>,
    pub auth_time: DateTime<Utc>,
    pub token: Presented,
}

/// Finds the session of a refresh token and holds it until the transaction ends, so that of two who present the same
/// token the second sees what the first did. The session comes before its tokens, as when a person is removed.
pub async fn hold_family(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Option<Family>> {
    type Session =
        (SessionId, UserId, (DateTime<Utc>, DateTime<Utc>), Option<DateTime<Utc>>, Vec<String>, DateTime<Utc>);
    let of_token = refresh_tokens::table.find(hash.as_slice()).select(refresh_tokens::session_id);
    let found: Option<Session> = sessions::table
        .filter(sessions::id.eq_any(of_token))
        .select((
            sessions::id,
            sessions::user_id,
            (sessions::created_at, sessions::expires_at),
            sessions::revoked_at,
            sessions::amr,
            sessions::auth_time,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let Some((session, user, (opened_at, session_expires_at), revoked_at, amr, auth_time)) = found else {
        return Ok(None);
    };
    let (given_at, expires_at, rotated_at) = refresh_tokens::table
        .find(hash.as_slice())
        .select((refresh_tokens::created_at, refresh_tokens::expires_at, refresh_tokens::rotated_at))
        .first(conn)
        .await?;
    let status: String = users::table.find(user).select(users::status).first(conn).await?;
    let ended = revoked_at.is_some() || status != UserStatus::Active.as_str();
    let token = Presented { expires_at, rotated_at, ended, session_expires_at };
    Ok(Some(Family { session, user, opened_at, given_at, amr, auth_time, token }))
}

/// Exchanges a refresh token for its successor, with which the session lives on until then; sweeps out its expired ones.
pub async fn rotate(
    conn: &mut TenantConn,
    session: SessionId,
    (hash, successor): (&[u8; 32], &[u8; 32]),
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.find(hash.as_slice()))
        .set((refresh_tokens::rotated_at.eq(now), refresh_tokens::successor_hash.eq(successor.as_slice())))
        .execute(conn)
        .await?;
    insert_refresh_token(conn, successor, session, now, expires_at).await?;
    diesel::delete(
        refresh_tokens::table.filter(refresh_tokens::session_id.eq(session)).filter(refresh_tokens::expires_at.lt(now)),
    )
    .execute(conn)
    .await?;
    let used = (sessions::last_used_at.eq(now), sessions::expires_at.eq(expires_at));
    diesel::update(sessions::table.find(session)).set(used).execute(conn).await.map(drop)
}

/// Ends one session. Nothing happens to one that has ended.
pub async fn end_session(
    conn: &mut TenantConn,
    session: SessionId,
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(sessions::table.find(session).filter(sessions::revoked_at.is_null()))
        .set((sessions::revoked_at.eq(now), sessions::revoked_reason.eq(reason)))
        .execute(conn)
        .await
        .map(drop)
}

/// The one reason that leaves apps as they are: they are asked for the second factor when they come for their next tokens.
const FACTOR_ADDED: &str = "second_factor_added";

/// Ends the sessions of a person, but for one if it is named, and with them what the person let apps have: whoever had the
/// person's session may have let an app in, too. Consents stay, so that the person lets an app in anew without being asked.
pub async fn end_sessions(
    conn: &mut TenantConn,
    user: UserId,
    but: Option<SessionId>,
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let but = but.map_or(Uuid::nil(), SessionId::uuid);
    diesel::update(
        sessions::table
            .filter(sessions::user_id.eq(user))
            .filter(sessions::id.ne(but))
            .filter(sessions::revoked_at.is_null()),
    )
    .set((sessions::revoked_at.eq(now), sessions::revoked_reason.eq(reason)))
    .execute(conn)
    .await?;
    match reason {
        FACTOR_ADDED => Ok(()),
        _ => oauth::end_all_of(conn, user, reason, now).await,
    }
}

/// Holds a person until the transaction ends, so that of two who come in at the same time the second sees the first's session.
pub async fn hold_person(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    users::table.find(user).select(users::id).for_no_key_update().first::<UserId>(conn).await.map(drop)
}

/// Ends a person's oldest open sessions, so that no more than so many are left: of a person who is held. Those in which
/// somebody else acts in their name neither count nor end.
pub async fn end_sessions_beyond(
    conn: &mut TenantConn,
    user: UserId,
    left: i32,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE sessions SET revoked_at = $2, revoked_reason = 'too_many_sessions' WHERE id IN \
         (SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND NOT $4 = ANY (amr) \
          ORDER BY created_at DESC, id DESC OFFSET $3)",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(i64::from(left))
    .bind::<Text, _>(IMPERSONATION)
    .execute(conn)
    .await
    .map(drop)
}

/// How the person behind an open session has proved who they are, held until the transaction ends. None if it has ended.
pub async fn hold_amr(conn: &mut TenantConn, session: SessionId) -> QueryResult<Option<Vec<String>>> {
    let open = sessions::table.find(session).filter(sessions::revoked_at.is_null());
    open.select(sessions::amr).for_no_key_update().first(conn).await.optional()
}

/// Notes that the person behind an open session proved again who they are, beside what they have shown before; gives all of
/// it, and when the session runs out.
pub async fn prove_again(
    conn: &mut TenantConn,
    session: SessionId,
    shown: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<Option<(Vec<String>, DateTime<Utc>)>> {
    let Some(mut amr) = hold_amr(conn, session).await? else { return Ok(None) };
    for how in shown {
        if !amr.iter().any(|known| known == how) {
            amr.push((*how).to_owned());
        }
    }
    let expires_at = diesel::update(sessions::table.find(session))
        .set((sessions::amr.eq(&amr), sessions::auth_time.eq(now)))
        .returning(sessions::expires_at)
        .get_result(conn)
        .await?;
    Ok(Some((amr, expires_at)))
}

/// A session to look at.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct SessionRow {
    pub id: SessionId,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub amr: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// A person's open sessions, the latest first.
pub async fn open_sessions(conn: &mut TenantConn, user: UserId, now: DateTime<Utc>) -> QueryResult<Vec<SessionRow>> {
    sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .order((sessions::created_at.desc(), sessions::id.desc()))
        .limit(100)
        .select(SessionRow::as_select())
        .load(conn)
        .await
}

/// Ends an open session of a person. False if it is not theirs, or has ended.
pub async fn end_session_of(
    conn: &mut TenantConn,
    user: UserId,
    session: SessionId,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let open = sessions::table.find(session).filter(sessions::user_id.eq(user)).filter(sessions::revoked_at.is_null());
    let ended = (sessions::revoked_at.eq(now), sessions::revoked_reason.eq("ended"));
    Ok(diesel::update(open).set(ended).execute(conn).await? == 1)
}
