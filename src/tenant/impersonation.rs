//! Somebody who runs the installation acts as one of the tenant's people: for a short time, in a session that says so,
//! and noted in the tenant's own audit.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::audit::{self, AuditConn, Entry};
use super::schema::{roles, sessions, user_roles, users};
use super::users::rules::{UserStatus, email_key};
use crate::kernel::{SessionId, UserId};
use crate::router::token::IMPERSONATION;

/// Who acts as whom, and why.
#[derive(Debug, Clone)]
pub struct Impersonation<'a> {
    /// The person's address.
    pub email: &'a str,
    /// Who acts: `cli:account` or `operator:id`.
    pub actor: &'a str,
    /// Why, for the tenant to read.
    pub reason: &'a str,
    /// When it begins.
    pub now: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// The session that was opened, and what its token says.
#[derive(Debug, Clone)]
pub struct Impersonated {
    /// The session; it ends as any other does.
    pub session: SessionId,
    /// The person.
    pub user: UserId,
    /// Names of the person's roles.
    pub roles: Vec<String>,
    /// Version of the person's authorisation.
    pub auth_version: i64,
}

/// Opens the session and writes it into the audit; to be called in a transaction. `None` if there is no such person, or
/// it is not an active one.
///
/// # Errors
/// What the database answers.
pub async fn impersonate<C>(conn: &mut C, wanted: &Impersonation<'_>) -> QueryResult<Option<Impersonated>>
where
    C: AsyncConnection<Backend = diesel::pg::Pg> + AuditConn,
{
    let person = users::table
        .filter(users::email_key.eq(email_key(wanted.email)))
        .filter(users::status.eq(UserStatus::Active.as_str()))
        .select((users::id, users::auth_version));
    let Some((user, auth_version)) = person.first::<(UserId, i64)>(conn).await.optional()? else { return Ok(None) };
    let held = user_roles::table.filter(user_roles::user_id.eq(user)).select(user_roles::role_id);
    let mut names: Vec<String> = roles::table.filter(roles::id.eq_any(held)).select(roles::name).load(conn).await?;
    names.sort_unstable();
    let session = SessionId::generate();
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(session),
            sessions::user_id.eq(user),
            sessions::created_at.eq(wanted.now),
            sessions::last_used_at.eq(wanted.now),
            sessions::expires_at.eq(wanted.expires_at),
            sessions::user_agent.eq(format!("impersonation by {}", wanted.actor)),
            sessions::amr.eq(vec![IMPERSONATION]),
            sessions::auth_time.eq(wanted.now),
        ))
        .execute(conn)
        .await?;
    let entry = Entry {
        actor: wanted.actor,
        action: "session.impersonated",
        user,
        session: Some(session),
        reason: Some(wanted.reason),
    };
    audit::note(conn, &entry, wanted.now).await?;
    Ok(Some(Impersonated { session, user, roles: names, auth_version }))
}
