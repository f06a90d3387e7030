//! Rows and queries.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};
use diesel::sql_types::{BigInt, Binary, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::extract::Reach;
use super::rules::{OperatorRole, WINDOW};
use crate::control::schema::{
    operator_login_attempts as attempts, operator_sessions as sessions, operator_tenants as reach, operators as o,
    tenants,
};
use crate::control::word;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperatorId, SessionId, Slug, TenantId};
use crate::rest::Client;
use crate::router::MainConn;

/// How long an ended session is kept: where its operator came from is known for as long.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// An operator to be.
#[derive(Debug, Clone)]
pub struct NewOperator {
    /// Identity.
    pub id: OperatorId,
    /// As [`super::email_key`] gives it.
    pub email: String,
    /// Argon2id, PHC.
    pub password_hash: String,
    /// What they may do.
    pub role: OperatorRole,
    /// The tenants of an owner.
    pub tenants: Vec<TenantId>,
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
    /// Whether they log in with a second factor.
    pub second_factor: bool,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// Since when they may not log in.
    pub disabled_at: Option<DateTime<Utc>>,
}

type Row = (OperatorId, String, String, Option<DateTime<Utc>>, DateTime<Utc>, Option<DateTime<Utc>>);
const COLUMNS: (o::id, o::email, o::role, o::totp_confirmed_at, o::created_at, o::disabled_at) =
    (o::id, o::email, o::role, o::totp_confirmed_at, o::created_at, o::disabled_at);

fn record((id, email, role, confirmed, created_at, disabled_at): Row) -> ApiResult<OperatorRecord> {
    Ok(OperatorRecord { id, email, role: word(&role)?, second_factor: confirmed.is_some(), created_at, disabled_at })
}

/// Adds an operator.
///
/// # Errors
/// `already_exists` for a taken address.
pub async fn insert(conn: &mut MainConn, new: &NewOperator) -> ApiResult<OperatorRecord> {
    let added = diesel::insert_into(o::table)
        .values((
            o::id.eq(new.id),
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
        other => {
            let added = record(other?)?;
            give(conn, added.id, &new.tenants).await?;
            Ok(added)
        }
    }
}

async fn give(conn: &mut MainConn, id: OperatorId, given: &[TenantId]) -> ApiResult<()> {
    let rows: Vec<_> = given.iter().map(|tenant| (reach::operator_id.eq(id), reach::tenant_id.eq(*tenant))).collect();
    diesel::insert_into(reach::table).values(rows).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}

/// What to change of an operator; `None` leaves as is.
#[derive(Debug, Clone, Default)]
pub struct OperatorChanges {
    /// What they may do.
    pub role: Option<OperatorRole>,
    /// The tenants of an owner.
    pub tenants: Option<Vec<TenantId>>,
    /// Whether they are kept out.
    pub disabled: Option<bool>,
    /// Takes the second factor away, for whoever lost it.
    pub reset_second_factor: bool,
}

/// Holds an operator until the transaction ends, and the administrators before: two changes at once must not each leave the
/// other's administrator as the last. Gives who these are.
///
/// # Errors
/// 404 if there is no such operator.
pub(super) async fn hold(conn: &mut MainConn, id: OperatorId) -> ApiResult<Vec<OperatorId>> {
    let admins = o::table.filter(o::role.eq(OperatorRole::Admin.as_str())).filter(o::disabled_at.is_null());
    let admins = admins.select(o::id).for_update().load::<OperatorId>(conn).await?;
    let held = o::table.find(id).select(o::id).for_update().first::<OperatorId>(conn).await.optional()?;
    held.map(|_| admins).ok_or_else(|| ApiError::not_found("operator"))
}

/// Changes an operator. One who is kept out, or may do less from now on, has no session left.
///
/// # Errors
/// 404 if there is none; 409 if nobody would be left who may do everything.
pub async fn change(
    conn: &mut MainConn,
    id: OperatorId,
    changes: &OperatorChanges,
    now: DateTime<Utc>,
) -> ApiResult<OperatorRecord> {
    let admins = hold(conn, id).await?;
    let loses = changes.role.is_some_and(|role| role != OperatorRole::Admin) || changes.disabled == Some(true);
    if loses && admins == [id] {
        return Err(ApiError::new(Code::Conflict)
            .detail("This is the last administrator. Make another operator an administrator first."));
    }
    if let Some(role) = changes.role {
        diesel::update(o::table.find(id)).set(o::role.eq(role.as_str())).execute(conn).await?;
    }
    if let Some(given) = &changes.tenants {
        diesel::delete(reach::table.filter(reach::operator_id.eq(id))).execute(conn).await?;
        give(conn, id, given).await?;
    }
    if let Some(disabled) = changes.disabled {
        let at = disabled.then_some(now);
        diesel::update(o::table.find(id)).set(o::disabled_at.eq(at)).execute(conn).await?;
    }
    if changes.reset_second_factor {
        super::mfa::remove(conn, id).await?;
    }
    if loses || changes.role.is_some() || changes.reset_second_factor {
        end_sessions(conn, id, now).await?;
    }
    find(conn, id).await
}

/// Ends the sessions of an operator, but for one.
pub(super) async fn end_other_sessions(
    conn: &mut MainConn,
    id: OperatorId,
    session: SessionId,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let others = sessions::table.filter(sessions::operator_id.eq(id)).filter(sessions::id.ne(session));
    diesel::update(others.filter(sessions::revoked_at.is_null()))
        .set(sessions::revoked_at.eq(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// A session has shown a second factor.
pub(super) async fn has_shown_factor(conn: &mut MainConn, session: SessionId) -> ApiResult<()> {
    diesel::update(sessions::table.find(session)).set(sessions::second_factor.eq(true)).execute(conn).await?;
    Ok(())
}

async fn end_sessions(conn: &mut MainConn, id: OperatorId, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::update(sessions::table.filter(sessions::operator_id.eq(id)).filter(sessions::revoked_at.is_null()))
        .set(sessions::revoked_at.eq(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// An operator.
///
/// # Errors
/// 404 if there is none.
pub async fn find(conn: &mut MainConn, id: OperatorId) -> ApiResult<OperatorRecord> {
    let found = o::table.find(id).select(COLUMNS).first::<Row>(conn).await.optional()?;
    record(found.ok_or_else(|| ApiError::not_found("operator"))?)
}

/// The slugs of an owner's tenants.
///
/// # Errors
/// If the control plane does not answer.
pub async fn tenants_of(conn: &mut MainConn, id: OperatorId) -> ApiResult<Vec<Slug>> {
    let slugs = reach::table.inner_join(tenants::table).filter(reach::operator_id.eq(id)).order(tenants::slug);
    let slugs = slugs.select(tenants::slug).load::<String>(conn).await?;
    Ok(slugs.into_iter().filter_map(|slug| slug.parse().ok()).collect())
}

/// What an operator knows of.
pub(super) async fn reach(conn: &mut MainConn, operator: &OperatorRecord) -> ApiResult<Reach> {
    if operator.role != OperatorRole::Owner {
        return Ok(Reach::All);
    }
    let given = reach::table.filter(reach::operator_id.eq(operator.id)).select(reach::tenant_id);
    let given: Vec<TenantId> = given.load(conn).await?;
    Ok(Reach::Only(std::sync::Arc::new(given.into_iter().collect())))
}

/// All operators, by address.
///
/// # Errors
/// If the control plane does not answer.
pub(super) async fn list(conn: &mut MainConn) -> ApiResult<Vec<OperatorRecord>> {
    o::table.select(COLUMNS).order(o::email).load::<Row>(conn).await?.into_iter().map(record).collect()
}

/// The operator of an address, in the form of [`email_key`](super::email_key).
///
/// # Errors
/// 404 if there is none.
pub async fn find_by_email(conn: &mut MainConn, email: &str) -> ApiResult<OperatorRecord> {
    let found = o::table.filter(o::email.eq(email)).select(COLUMNS).first::<Row>(conn).await.optional()?;
    record(found.ok_or_else(|| ApiError::not_found("operator"))?)
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

/// The operator of a session that stands, and whether it has shown their second factor.
pub(super) async fn operator_of(
    conn: &mut MainConn,
    session: SessionId,
    now: DateTime<Utc>,
) -> ApiResult<Option<(OperatorRecord, bool)>> {
    let found = sessions::table
        .inner_join(o::table)
        .filter(sessions::id.eq(session))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(o::disabled_at.is_null())
        .select((COLUMNS, sessions::second_factor))
        .first::<(Row, bool)>(conn)
        .await
        .optional()?;
    let Some((row, shown)) = found else { return Ok(None) };
    let operator = record(row)?;
    let shown = shown && operator.second_factor;
    Ok(Some((operator, shown)))
}

/// The networks from which somebody with this address came in lately, be it anybody's or not.
pub(super) async fn networks_of(conn: &mut MainConn, email: &str, now: DateTime<Utc>) -> ApiResult<Vec<String>> {
    let theirs = sessions::table.inner_join(o::table).filter(o::email.eq(email));
    let lately = theirs.filter(sessions::created_at.gt(now - REMEMBERED)).select(sessions::address).distinct();
    let addresses: Vec<Option<String>> = lately.load(conn).await?;
    Ok(addresses.into_iter().filter_map(|ip| Client { ip, user_agent: None }.network()).collect())
}

/// Opens a session, and forgets those of this operator that are too old to tell where they come from.
pub(super) async fn open_session(
    conn: &mut MainConn,
    operator: OperatorId,
    from: &Client,
    second_factor: bool,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> ApiResult<SessionId> {
    let id = SessionId::generate();
    diesel::delete(
        sessions::table.filter(sessions::operator_id.eq(operator)).filter(sessions::expires_at.lt(now - REMEMBERED)),
    )
    .execute(conn)
    .await?;
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(id),
            sessions::operator_id.eq(operator),
            sessions::created_at.eq(now),
            sessions::expires_at.eq(expires_at),
            sessions::address.eq(&from.ip),
            sessions::user_agent.eq(&from.user_agent),
            sessions::second_factor.eq(second_factor),
        ))
        .execute(conn)
        .await?;
    Ok(id)
}

/// Ends a session of an operator. False if there is no such session, or it has ended.
pub(super) async fn end_session(
    conn: &mut MainConn,
    operator: OperatorId,
    session: SessionId,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    let open = sessions::table.find(session).filter(sessions::operator_id.eq(operator));
    let ended = diesel::update(open.filter(sessions::revoked_at.is_null()).filter(sessions::expires_at.gt(now)))
        .set(sessions::revoked_at.eq(now))
        .execute(conn)
        .await?;
    Ok(ended == 1)
}

/// An open session.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(super) struct SessionRow {
    pub(super) id: SessionId,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) address: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) second_factor: bool,
}

/// The open sessions of an operator, the latest first.
pub(super) async fn open_sessions(
    conn: &mut MainConn,
    operator: OperatorId,
    now: DateTime<Utc>,
) -> ApiResult<Vec<SessionRow>> {
    let open = sessions::table.filter(sessions::operator_id.eq(operator)).filter(sessions::revoked_at.is_null());
    let open = open.filter(sessions::expires_at.gt(now)).order(sessions::created_at.desc());
    Ok(open.select(SessionRow::as_select()).load(conn).await?)
}

/// Lets one try on this be judged at a time, until the transaction ends.
pub(super) async fn hold_attempts(conn: &mut MainConn, subject: &[u8; 32]) -> ApiResult<()> {
    let key = i64::from_be_bytes(subject.first_chunk().copied().unwrap_or_default());
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(key).execute(conn).await?;
    Ok(())
}

/// How often this has failed in its last window, and when that began.
pub(super) async fn failures(conn: &mut MainConn, subject: &[u8]) -> ApiResult<Option<(i32, DateTime<Utc>)>> {
    let counted = attempts::table.filter(attempts::subject.eq(subject));
    let counted = counted.select((attempts::attempts, attempts::window_start));
    Ok(counted.first::<(i32, DateTime<Utc>)>(conn).await.optional()?)
}

/// Counts a failure.
pub(super) async fn count_failure(conn: &mut MainConn, subject: &[u8], now: DateTime<Utc>) -> ApiResult<()> {
    let over = now - WINDOW;
    diesel::sql_query(
        "INSERT INTO operator_login_attempts AS a (subject, attempts, window_start) VALUES ($1, 1, $2) \
         ON CONFLICT (subject) DO UPDATE SET \
             attempts = CASE WHEN a.window_start <= $3 THEN 1 ELSE least(a.attempts, 1000000) + 1 END, \
             window_start = CASE WHEN a.window_start <= $3 THEN $2 ELSE a.window_start END",
    )
    .bind::<Binary, _>(subject)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(over)
    .execute(conn)
    .await?;
    // Windows that have ended make room, so that strangers' guesses do not pile up. Those that somebody counts in at this
    // moment stay: two who count must not wait for each other.
    diesel::sql_query(
        "DELETE FROM operator_login_attempts WHERE subject IN \
             (SELECT subject FROM operator_login_attempts WHERE window_start <= $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Timestamptz, _>(over)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets the failures of what was right at last.
pub(super) async fn forget_attempts(conn: &mut MainConn, subject: &[u8]) -> ApiResult<()> {
    diesel::delete(attempts::table.filter(attempts::subject.eq(subject))).execute(conn).await?;
    Ok(())
}
