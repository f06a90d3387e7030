//! What a login is checked against, and the history of logins that the lockout counts.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::TenantConn;
use crate::tenant::auth::rules::{LOCKOUT_FAILURES, LOCKOUT_WINDOW};
use crate::tenant::schema::{login_attempts, users};
use crate::tenant::users::rules::UserStatus;

/// How long an attempt on an address that nobody has is kept.
const UNKNOWN_KEPT: TimeDelta = TimeDelta::days(1);

/// What a login is checked against.
#[derive(Debug, Clone, Queryable)]
pub struct Credentials {
    pub user: UserId,
    pub password_hash: Option<String>,
    pub status: String,
}

impl Credentials {
    /// The hash that a password has to match; none for a person who may not come in.
    pub fn usable_hash(&self) -> Option<String> {
        self.password_hash.clone().filter(|_| self.status == UserStatus::Active.as_str())
    }
}

/// The credentials behind an address.
pub async fn credentials(conn: &mut TenantConn, email_key: &str) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.filter(users::email_key.eq(email_key)).select(columns).first(conn).await.optional()
}

/// The credentials of a person.
pub async fn find_credentials(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.find(user).select(columns).first(conn).await.optional()
}

/// The credentials of a person, held against change until the transaction ends.
pub async fn hold_credentials(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.find(user).select(columns).for_no_key_update().first(conn).await.optional()
}

/// Keeps another hash of the same password: nothing changes for whoever has it.
pub async fn renew_hash(conn: &mut TenantConn, user: UserId, hash: &str) -> QueryResult<()> {
    diesel::update(users::table.find(user)).set(users::password_hash.eq(hash)).execute(conn).await.map(drop)
}

/// Lets one attempt on an address at a time be judged.
pub async fn hold_attempts(conn: &mut TenantConn, email_hash: &[u8; 32]) -> QueryResult<()> {
    let key = i64::from_be_bytes(email_hash.first_chunk().copied().unwrap_or_default());
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(key).execute(conn).await.map(drop)
}

/// The newest failures on an address within the lockout's window and since its last success, newest first.
pub async fn failures(
    conn: &mut TenantConn,
    email_hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Vec<DateTime<Utc>>> {
    let latest: Vec<(DateTime<Utc>, String)> = login_attempts::table
        .filter(login_attempts::email_hash.eq(email_hash.as_slice()))
        .filter(login_attempts::at.gt(now - LOCKOUT_WINDOW))
        .order((login_attempts::at.desc(), login_attempts::id.desc()))
        .limit(LOCKOUT_FAILURES as i64)
        .select((login_attempts::at, login_attempts::outcome))
        .load(conn)
        .await?;
    Ok(latest.into_iter().take_while(|(_, outcome)| outcome == "failed").map(|(at, _)| at).collect())
}

/// One line of the login history.
#[derive(Debug)]
pub struct NewAttempt<'a> {
    pub email_hash: &'a [u8; 32],
    pub user: Option<UserId>,
    pub succeeded: bool,
    pub client: &'a Client,
    pub at: DateTime<Utc>,
}

/// Writes a line of the login history; for an address that nobody has, sweeps out a few old ones.
pub async fn insert_attempt(conn: &mut TenantConn, attempt: &NewAttempt<'_>) -> QueryResult<()> {
    diesel::insert_into(login_attempts::table)
        .values((
            login_attempts::id.eq(Uuid::now_v7()),
            login_attempts::email_hash.eq(attempt.email_hash.as_slice()),
            login_attempts::user_id.eq(attempt.user),
            login_attempts::at.eq(attempt.at),
            login_attempts::outcome.eq(if attempt.succeeded { "succeeded" } else { "failed" }),
            login_attempts::ip.eq(&attempt.client.ip),
            login_attempts::user_agent.eq(&attempt.client.user_agent),
        ))
        .execute(conn)
        .await?;
    if attempt.user.is_none() {
        diesel::sql_query(
            "DELETE FROM login_attempts WHERE id IN (\
             SELECT id FROM login_attempts WHERE user_id IS NULL AND at < $1 ORDER BY at LIMIT 100)",
        )
        .bind::<Timestamptz, _>(attempt.at - UNKNOWN_KEPT)
        .execute(conn)
        .await?;
    }
    Ok(())
}
