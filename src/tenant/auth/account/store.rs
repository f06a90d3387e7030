//! Links that wait to be followed.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{LINK, MOST_AN_HOUR, PAUSE};
use crate::kernel::UserId;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::addresses;
use crate::tenant::audit;
use crate::tenant::users::rules::email_key;

/// Whoever has an address.
#[derive(Debug, QueryableByName)]
pub(in crate::tenant::auth) struct Found {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub first_name: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Bool)]
    pub verified: bool,
}

/// The person with an address.
pub(super) async fn find(conn: &mut TenantConn, address: &str) -> QueryResult<Option<Found>> {
    diesel::sql_query(
        "SELECT id, email, first_name, status, email_verified_at IS NOT NULL AS verified FROM users WHERE email_key = $1",
    )
    .bind::<Text, _>(email_key(address))
    .get_result(conn)
    .await
    .optional()
}

/// A link's token to be kept.
pub(super) struct NewToken {
    pub hash: [u8; 32],
    pub kind: &'static str,
    pub now: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Keeps the hash of a token for a person, unless they got too many of its kind; true again for one that is kept already,
/// if it is still good: a mail that is tried again brings no token back that is void.
pub(super) async fn insert_token(conn: &mut TenantConn, of: &Found, token: &NewToken) -> QueryResult<bool> {
    let kept = diesel::sql_query(
        "WITH swept AS (DELETE FROM account_tokens WHERE user_id = $3 AND expires_at < $5 - interval '1 hour') \
         INSERT INTO account_tokens (hash, kind, user_id, email_key, created_at, expires_at) \
         SELECT $1, $2, $3, $4, $5, $6 WHERE EXISTS (SELECT 1 FROM account_tokens WHERE hash = $1) OR \
         (SELECT count(*) FILTER (WHERE created_at > $7) < $9 AND count(*) FILTER (WHERE created_at > $8) = 0 \
          FROM account_tokens WHERE user_id = $3 AND kind = $2) \
         ON CONFLICT (hash) DO UPDATE SET expires_at = excluded.expires_at WHERE account_tokens.expires_at > $5",
    )
    .bind::<Binary, _>(&token.hash[..])
    .bind::<Text, _>(token.kind)
    .bind::<SqlUuid, _>(of.id)
    .bind::<Text, _>(email_key(&of.email))
    .bind::<Timestamptz, _>(token.now)
    .bind::<Timestamptz, _>(token.expires_at)
    .bind::<Timestamptz, _>(token.now - TimeDelta::hours(1))
    .bind::<Timestamptz, _>(token.now - PAUSE)
    .bind::<BigInt, _>(MOST_AN_HOUR)
    .execute(conn)
    .await?;
    Ok(kept == 1)
}

#[derive(QueryableByName)]
struct Whose {
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
}

/// Whether a token may still be taken: a look before the work that taking it costs.
pub(super) async fn find_token(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    kind: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<UserId>> {
    let whose: Option<Whose> = diesel::sql_query(
        "SELECT t.user_id FROM account_tokens t JOIN users u ON u.id = t.user_id AND u.email_key = t.email_key \
         WHERE t.hash = $1 AND t.kind = $2 AND t.expires_at > $3 AND u.status = 'active'",
    )
    .bind::<Binary, _>(&hash[..])
    .bind::<Text, _>(kind)
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .await
    .optional()?;
    Ok(whose.map(|whose| UserId::from(whose.user_id)))
}

/// Holds a person until the transaction ends: before what hangs on them, as everybody does.
async fn hold_person(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    let held = diesel::sql_query("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE").bind::<SqlUuid, _>(user.uuid());
    held.execute(conn).await.map(drop)
}

/// Takes a token, and every other of its kind that the person has: of a hundred who come with it at once, one gets it. The
/// person is held from here on.
pub(super) async fn take_token(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    kind: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<UserId>> {
    let Some(user) = find_token(conn, hash, kind, now).await? else { return Ok(None) };
    hold_person(conn, user).await?;
    // Whoever held them until now may have changed what makes it good.
    if find_token(conn, hash, kind, now).await?.is_none() {
        return Ok(None);
    }
    let taken = diesel::sql_query("DELETE FROM account_tokens WHERE hash = $1 AND expires_at > $2")
        .bind::<Binary, _>(&hash[..])
        .bind::<Timestamptz, _>(now);
    if taken.execute(conn).await? == 0 {
        return Ok(None);
    }
    void_tokens(conn, user, kind).await?;
    Ok(Some(user))
}

/// Voids every token of a kind that a person has. They stay counted, and were never good: not for whoever takes one at the
/// same moment either.
pub(super) async fn void_tokens(conn: &mut TenantConn, user: UserId, kind: &str) -> QueryResult<()> {
    let void = "UPDATE account_tokens SET expires_at = created_at WHERE user_id = $1 AND kind = $2";
    let void = diesel::sql_query(void).bind::<SqlUuid, _>(user.uuid()).bind::<Text, _>(kind);
    void.execute(conn).await.map(drop)
}

/// It is known from here on that the person reads what is sent to their address.
pub(in crate::tenant::auth) async fn verified(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    verified_by(conn, db, user, None, now).await
}

/// The same, with what the audit is to say of it. A copy of the database knows by its line that the person has shown it,
/// though nobody's address is verified there.
pub(super) async fn verified_by(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    said: Option<&str>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    addresses::announce(db).await;
    let noted =
        diesel::sql_query("UPDATE users SET email_verified_at = $2 WHERE id = $1 AND email_verified_at IS NULL");
    let noted = noted.bind::<SqlUuid, _>(user.uuid()).bind::<Timestamptz, _>(now).execute(conn).await?;
    if noted == 0 {
        return Ok(());
    }
    audit::note_person(conn, (&format!("user:{user}"), user), "email.verified", said, now).await
}

/// Leaves a person without a password.
pub(super) async fn forget_password(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    let forget =
        diesel::sql_query("UPDATE users SET password_hash = NULL WHERE id = $1").bind::<SqlUuid, _>(user.uuid());
    forget.execute(conn).await.map(drop)
}

/// A sign-up that waits for its address to be verified.
#[derive(Debug, QueryableByName)]
pub(super) struct Registration {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub first_name: String,
    #[diesel(sql_type = Text)]
    pub last_name: String,
    #[diesel(sql_type = Text)]
    pub password_hash: String,
}

/// The latest sign-up with an address.
pub(super) async fn waiting_registration(
    conn: &mut TenantConn,
    address: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<Registration>> {
    diesel::sql_query(
        "SELECT id, email, first_name, last_name, password_hash FROM registrations \
         WHERE email_key = $1 AND expires_at > $2 ORDER BY created_at DESC LIMIT 1",
    )
    .bind::<Text, _>(email_key(address))
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .await
    .optional()
}

/// Counts a mail with the link of a sign-up; false if its address got too many within the hour. A mail that is tried again
/// is counted once.
pub(super) async fn count_mail(
    conn: &mut TenantConn,
    registration: Uuid,
    mail: Uuid,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let counted = diesel::sql_query(
        "UPDATE registrations r SET mail_id = $2, \
         mails = mails + CASE WHEN mail_id IS DISTINCT FROM $2 THEN 1 ELSE 0 END WHERE id = $1 AND (mail_id = $2 OR \
         (SELECT coalesce(sum(x.mails), 0) FROM registrations x \
          WHERE x.email_key = r.email_key AND x.created_at > $3) < $4)",
    )
    .bind::<SqlUuid, _>(registration)
    .bind::<SqlUuid, _>(mail)
    .bind::<Timestamptz, _>(now - TimeDelta::hours(1))
    .bind::<BigInt, _>(MOST_AN_HOUR)
    .execute(conn)
    .await?;
    Ok(counted == 1)
}

/// Keeps a sign-up, and sweeps out a few that ran out: those beside which nothing waits any more that came while they waited.
pub(super) async fn insert_registration(
    conn: &mut TenantConn,
    new: &Registration,
    token_hash: &[u8; 32],
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM registrations WHERE id IN (SELECT id FROM registrations WHERE expires_at < $1 LIMIT 100)",
    )
    .bind::<Timestamptz, _>(now - LINK)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "INSERT INTO registrations (id, token_hash, email, email_key, first_name, last_name, password_hash, created_at, \
         expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind::<SqlUuid, _>(new.id)
    .bind::<Binary, _>(&token_hash[..])
    .bind::<Text, _>(new.email.trim())
    .bind::<Text, _>(email_key(&new.email))
    .bind::<Text, _>(new.first_name.trim())
    .bind::<Text, _>(new.last_name.trim())
    .bind::<Text, _>(&new.password_hash)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(expires_at)
    .execute(conn)
    .await
    .map(drop)
}

/// A sign-up whose address is verified now.
pub(super) struct Taken {
    pub registration: Registration,
    /// Somebody signed up with the address besides, while it waited: whose password it has, nobody can say.
    pub contested: bool,
}

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(embed)]
    registration: Registration,
    #[diesel(sql_type = Bool)]
    followed: bool,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
}

/// Takes a sign-up by its token, and every other with its address. All are held in one order first, so that two links that
/// are followed at once wait for no more than one another.
pub(super) async fn take_registration(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<Taken>> {
    let waiting: Vec<Waiting> = diesel::sql_query(
        "SELECT id, email, first_name, last_name, password_hash, token_hash = $1 AS followed, created_at, expires_at \
         FROM registrations WHERE email_key = \
         (SELECT email_key FROM registrations WHERE token_hash = $1 AND expires_at > $2) ORDER BY id FOR UPDATE",
    )
    .bind::<Binary, _>(&hash[..])
    .bind::<Timestamptz, _>(now)
    .load(conn)
    .await?;
    let (followed, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|one| one.followed);
    let Some(Waiting { registration, created_at, .. }) = followed.into_iter().next() else { return Ok(None) };
    let contested = others.iter().any(|other| other.expires_at > created_at);
    diesel::sql_query("DELETE FROM registrations WHERE email_key = $1")
        .bind::<Text, _>(email_key(&registration.email))
        .execute(conn)
        .await?;
    Ok(Some(Taken { registration, contested }))
}

/// Another address that a person wants.
#[derive(Debug, QueryableByName)]
pub(super) struct EmailChange {
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub old_key: String,
    #[diesel(sql_type = Nullable<Binary>)]
    pub old_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub new_hash: Option<Vec<u8>>,
}

/// Keeps a wish for another address, in place of one from before.
pub(super) async fn want_email(
    conn: &mut TenantConn,
    user: UserId,
    (email, old_key): (&str, &str),
    (old, new): (&[u8; 32], &[u8; 32]),
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO email_changes (user_id, email, old_key, old_hash, new_hash, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id) DO UPDATE SET email = excluded.email, \
         old_key = excluded.old_key, old_hash = excluded.old_hash, new_hash = excluded.new_hash, \
         created_at = excluded.created_at, expires_at = excluded.expires_at",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Text, _>(email)
    .bind::<Text, _>(old_key)
    .bind::<Binary, _>(&old[..])
    .bind::<Binary, _>(&new[..])
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(expires_at)
    .execute(conn)
    .await
    .map(drop)
}

/// Takes the link to one of the two addresses, once. What is left is given; nothing is left of one that is agreed to. The person
/// is held from here on.
pub(super) async fn agree_to_email(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<EmailChange>> {
    let whose = "SELECT user_id FROM email_changes WHERE (old_hash = $1 OR new_hash = $1) AND expires_at > $2";
    let whose = diesel::sql_query(whose).bind::<Binary, _>(&hash[..]).bind::<Timestamptz, _>(now);
    let whose: Option<Whose> = whose.get_result(conn).await.optional()?;
    let Some(whose) = whose else { return Ok(None) };
    hold_person(conn, UserId::from(whose.user_id)).await?;
    let agreed: Option<EmailChange> = diesel::sql_query(
        "UPDATE email_changes SET old_hash = nullif(old_hash, $1), new_hash = nullif(new_hash, $1) \
         WHERE (old_hash = $1 OR new_hash = $1) AND expires_at > $2 \
         RETURNING user_id, email, old_key, old_hash, new_hash",
    )
    .bind::<Binary, _>(&hash[..])
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .await
    .optional()?;
    if let Some(agreed) = agreed.as_ref().filter(|agreed| agreed.old_hash.is_none() && agreed.new_hash.is_none()) {
        forget_email(conn, UserId::from(agreed.user_id)).await?;
    }
    Ok(agreed)
}

/// Drops a person's wish for another address, with both of its links.
pub(super) async fn forget_email(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    let forget = diesel::sql_query("DELETE FROM email_changes WHERE user_id = $1").bind::<SqlUuid, _>(user.uuid());
    forget.execute(conn).await.map(drop)
}
