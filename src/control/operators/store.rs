//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};
use diesel::sql_types::{Binary, Integer, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::rules::{OperatorRole, WINDOW};
use crate::control::schema::{operator_login_attempts as attempts, operator_sessions as sessions, operators as o};
use crate::control::word;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{OperatorId, SessionId};
use crate::router::MainConn;

/// An operator to be.
#[derive(Debug, Clone)]
pub struct NewOperator {
    /// As [`super::email_key`] gives it.
    pub email: String,
    /// Argon2id, PHC.
    pub password_hash: String,
    /// What they may do.
    pub role: OperatorRole,
}

/// An operator.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorRecord {
    /// Identity.
    pub id: OperatorId,
    /// Address.
    pub email: String,
    /// What they may do.
    pub role: OperatorRole,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// Since when they may not log in.
    pub disabled_at: Option<DateTime<Utc>>,
}

type Row = (OperatorId, String, String, DateTime<Utc>, Option<DateTime<Utc>>);
const COLUMNS: (o::id, o::email, o::role, o::created_at, o::disabled_at) =
    (o::id, o::email, o::role, o::created_at, o::disabled_at);

fn record((id, email, role, created_at, disabled_at): Row) -> ApiResult<OperatorRecord> {
    Ok(OperatorRecord { id, email, role: word(&role)?, created_at, disabled_at })
}

/// Adds an operator.
///
/// # Errors
/// `already_exists` for a taken address.
pub async fn insert(conn: &mut MainConn, new: &NewOperator) -> ApiResult<OperatorRecord> {
    let added = diesel::insert_into(o::table)
        .values((
            o::id.eq(OperatorId::generate()),
            o::email.eq(&new.email),
            o::password_hash.eq(&new.password_hash),
            o::role.eq(new.role.as_str()),
        ))
        .returning(COLUMNS)
        .get_result::<Row>(conn)
        .await;
    match added {
        Err(DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(ApiError::already_exists("email", "An operator with this e-mail exists."))
        }
        other => record(other?),
    }
}

/// All operators, by address.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn) -> ApiResult<Vec<OperatorRecord>> {
    o::table.select(COLUMNS).order(o::email).load::<Row>(conn).await?.into_iter().map(record).collect()
}

/// Keeps an operator out from now on, sessions included.
///
/// # Errors
/// 404 if there is none of this address.
pub async fn disable(conn: &mut MainConn, email: &str, now: DateTime<Utc>) -> ApiResult<OperatorRecord> {
    let disabled = diesel::update(o::table.filter(o::email.eq(email)))
        .set(o::disabled_at.eq(now))
        .returning(COLUMNS)
        .get_result::<Row>(conn)
        .await
        .optional()?
        .ok_or_else(|| ApiError::not_found("operator"))?;
    diesel::update(sessions::table.filter(sessions::operator_id.eq(disabled.0)).filter(sessions::revoked_at.is_null()))
        .set(sessions::revoked_at.eq(now))
        .execute(conn)
        .await?;
    record(disabled)
}

/// The operator behind an address with the hash of their password; none that are disabled.
pub(super) async fn credentials(conn: &mut MainConn, email: &str) -> ApiResult<Option<(OperatorRecord, String)>> {
    let found = o::table
        .filter(o::email.eq(email))
        .filter(o::disabled_at.is_null())
        .select((COLUMNS, o::password_hash))
        .first::<(Row, String)>(conn)
        .await
        .optional()?;
    found.map(|(row, hash)| Ok((record(row)?, hash))).transpose()
}

/// The operator of a session that stands.
pub(super) async fn operator_of(
    conn: &mut MainConn,
    session: SessionId,
    now: DateTime<Utc>,
) -> ApiResult<Option<OperatorRecord>> {
    let found = sessions::table
        .inner_join(o::table)
        .filter(sessions::id.eq(session))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(o::disabled_at.is_null())
        .select(COLUMNS)
        .first::<Row>(conn)
        .await
        .optional()?;
    found.map(record).transpose()
}

/// Opens a session, and forgets those of this operator that have expired.
pub(super) async fn open_session(
    conn: &mut MainConn,
    operator: OperatorId,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> ApiResult<SessionId> {
    let id = SessionId::generate();
    diesel::delete(sessions::table.filter(sessions::operator_id.eq(operator)).filter(sessions::expires_at.lt(now)))
        .execute(conn)
        .await?;
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(id),
            sessions::operator_id.eq(operator),
            sessions::created_at.eq(now),
            sessions::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await?;
    Ok(id)
}

/// Ends a session.
pub(super) async fn end_session(conn: &mut MainConn, session: SessionId, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::update(sessions::table.find(session).filter(sessions::revoked_at.is_null()))
        .set(sessions::revoked_at.eq(now))
        .execute(conn)
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Attempts {
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    window_start: DateTime<Utc>,
}

/// Counts an attempt before it is looked at, so that many at once cannot all pass. Gives how many there were in this
/// window, and when it began.
pub(super) async fn count_attempt(
    conn: &mut MainConn,
    subject: &[u8],
    now: DateTime<Utc>,
) -> ApiResult<(i32, DateTime<Utc>)> {
    let counted = diesel::sql_query(
        "INSERT INTO operator_login_attempts AS a (subject, attempts, window_start) VALUES ($1, 1, $2) \
         ON CONFLICT (subject) DO UPDATE SET \
             attempts = CASE WHEN a.window_start <= $3 THEN 1 ELSE least(a.attempts, 1000000) + 1 END, \
             window_start = CASE WHEN a.window_start <= $3 THEN $2 ELSE a.window_start END \
         RETURNING attempts, window_start",
    )
    .bind::<Binary, _>(subject)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - WINDOW)
    .get_result::<Attempts>(conn)
    .await?;
    if counted.attempts == 1 {
        // A new window: those that have ended make room, so that strangers' guesses do not pile up.
        diesel::delete(attempts::table.filter(attempts::window_start.le(now - WINDOW))).execute(conn).await?;
    }
    Ok((counted.attempts, counted.window_start))
}

/// Forgets the attempts of an address that got in.
pub(super) async fn forget_attempts(conn: &mut MainConn, subject: &[u8]) -> ApiResult<()> {
    diesel::delete(attempts::table.filter(attempts::subject.eq(subject))).execute(conn).await?;
    Ok(())
}
