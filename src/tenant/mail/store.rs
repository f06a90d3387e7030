//! The outbox, and to whom mails go.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Recipient;
use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::schema::users;

diesel::table! {
    mail_outbox (id) {
        id -> Uuid,
        kind -> Text,
        user_id -> Nullable<Uuid>,
        parcel_sealed -> Nullable<Bytea>,
        state -> Text,
        attempts -> Int4,
        next_attempt_at -> Timestamptz,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        fault -> Nullable<Text>,
    }
}

use mail_outbox as m;

/// How long it is remembered that a mail was sent, or was not.
const FINISHED_KEPT: TimeDelta = TimeDelta::days(30);

#[derive(QueryableByName)]
struct Truth {
    #[diesel(sql_type = Bool)]
    truth: bool,
}

/// Whether there is an outbox.
pub(super) async fn exists(conn: &mut TenantConn) -> QueryResult<bool> {
    let asked = diesel::sql_query("SELECT to_regclass('public.mail_outbox') IS NOT NULL AS truth");
    Ok(asked.get_result::<Truth>(conn).await?.truth)
}

/// A person as mail has them.
pub(super) async fn recipient(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Recipient>> {
    let found = users::table.find(user).select((users::email, users::first_name));
    let found = found.first::<(String, String)>(conn).await.optional()?;
    Ok(found.map(|(address, name)| Recipient { user: Some(user), address, name }))
}

/// A mail to be queued.
#[derive(Debug)]
pub(super) struct NewMail<'a> {
    pub id: Uuid,
    pub kind: &'static str,
    pub user: Option<UserId>,
    pub parcel: &'a [u8],
    pub now: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Queues a mail, unless so many wait already.
pub(super) async fn insert(conn: &mut TenantConn, mail: &NewMail<'_>, most: i64) -> QueryResult<bool> {
    let inserted = diesel::sql_query(
        "INSERT INTO mail_outbox (id, kind, user_id, parcel_sealed, next_attempt_at, created_at, expires_at) \
         SELECT $1, $2, $3, $4, $5, $5, $6 WHERE \
         (SELECT count(*) FROM (SELECT 1 FROM mail_outbox WHERE state = 'queued' LIMIT $7) waiting) < $7",
    )
    .bind::<SqlUuid, _>(mail.id)
    .bind::<Text, _>(mail.kind)
    .bind::<Nullable<SqlUuid>, _>(mail.user.map(UserId::uuid))
    .bind::<Binary, _>(mail.parcel)
    .bind::<Timestamptz, _>(mail.now)
    .bind::<Timestamptz, _>(mail.expires_at)
    .bind::<BigInt, _>(most)
    .execute(conn)
    .await?;
    Ok(inserted == 1)
}

/// Whether a person was sent such a mail since then, or is about to be.
pub(super) async fn was_sent(
    conn: &mut TenantConn,
    user: UserId,
    kind: &str,
    since: DateTime<Utc>,
) -> QueryResult<bool> {
    let sent = m::table.filter(m::user_id.eq(user)).filter(m::kind.eq(kind)).filter(m::created_at.gt(since));
    diesel::select(diesel::dsl::exists(sent)).get_result(conn).await
}

/// When a person was sent such mails since then, the latest first.
pub(super) async fn sent_since(
    conn: &mut TenantConn,
    user: UserId,
    kind: &str,
    since: DateTime<Utc>,
    most: i64,
) -> QueryResult<Vec<DateTime<Utc>>> {
    let sent = m::table.filter(m::user_id.eq(user)).filter(m::kind.eq(kind)).filter(m::created_at.gt(since));
    sent.order(m::created_at.desc()).limit(most).select(m::created_at).load(conn).await
}

/// A mail that was taken to be sent.
#[derive(Debug, QueryableByName)]
pub(super) struct Taken {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Binary)]
    pub parcel_sealed: Vec<u8>,
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub user_id: Option<Uuid>,
}

/// Takes mails that are due, for as long as sending them may take. No two nodes get the same one.
pub(super) async fn take(
    conn: &mut TenantConn,
    most: i64,
    sending: TimeDelta,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Taken>> {
    diesel::sql_query(
        "UPDATE mail_outbox SET attempts = attempts + 1, next_attempt_at = $2 WHERE id IN \
         (SELECT id FROM mail_outbox WHERE state = 'queued' AND next_attempt_at <= $1 \
          ORDER BY next_attempt_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING id, parcel_sealed, attempts, expires_at, user_id",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + sending)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await
}

/// How a mail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The mail server has it.
    Sent,
    /// There was nobody to send it to.
    Dropped,
    /// It was too late, or will never arrive.
    GivenUp(&'static str),
}

/// A mail has ended: what was in it is gone.
pub(super) async fn finish(conn: &mut TenantConn, id: Uuid, end: End, now: DateTime<Utc>) -> QueryResult<()> {
    let (state, fault) = match end {
        End::Sent => ("sent", None),
        End::Dropped => ("dropped", None),
        End::GivenUp(why) => ("given_up", Some(why)),
    };
    diesel::update(m::table.find(id).filter(m::state.eq("queued")))
        .set((m::state.eq(state), m::fault.eq(fault), m::finished_at.eq(now), m::parcel_sealed.eq(None::<Vec<u8>>)))
        .execute(conn)
        .await
        .map(drop)
}

/// A mail is tried again later.
pub(super) async fn postpone(conn: &mut TenantConn, id: Uuid, fault: &str, until: DateTime<Utc>) -> QueryResult<()> {
    let fault: String = fault.chars().take(200).collect();
    diesel::update(m::table.find(id).filter(m::state.eq("queued")))
        .set((m::fault.eq(fault), m::next_attempt_at.eq(until)))
        .execute(conn)
        .await
        .map(drop)
}

/// When the next mail is due, if any waits.
pub(super) async fn next_due(conn: &mut TenantConn) -> QueryResult<Option<DateTime<Utc>>> {
    m::table.filter(m::state.eq("queued")).select(diesel::dsl::min(m::next_attempt_at)).first(conn).await
}

/// Forgets mails that ended long ago, some at a time.
pub(super) async fn sweep(conn: &mut TenantConn, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM mail_outbox WHERE id IN (SELECT id FROM mail_outbox WHERE finished_at < $1 \
         ORDER BY finished_at LIMIT 100)",
    )
    .bind::<Timestamptz, _>(now - FINISHED_KEPT)
    .execute(conn)
    .await
    .map(drop)
}
