//! Somebody who runs the installation acts as one of the tenant's people: for a short time, in a session that says so,
//! and noted in the tenant's own audit.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::{roles, sessions, user_roles, users};
use super::users::rules::{UserStatus, email_key};
use crate::kernel::{SessionId, UserId};
use crate::router::token::IMPERSONATION;

/// The built-in schema that has the audit (`V4__audit.sql`).
pub const AUDITED_SINCE: i32 = 4;

diesel::table! {
    audit (id) {
        id -> Uuid,
        at -> Timestamptz,
        actor -> Text,
        action -> Text,
        user_id -> Nullable<Uuid>,
        session_id -> Nullable<Uuid>,
        reason -> Nullable<Text>,
    }
}

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
    C: AsyncConnection<Backend = diesel::pg::Pg>,
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
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(Uuid::now_v7()),
            audit::at.eq(wanted.now),
            audit::actor.eq(wanted.actor),
            audit::action.eq("session.impersonated"),
            audit::user_id.eq(user),
            audit::session_id.eq(session.uuid()),
            audit::reason.eq(wanted.reason),
        ))
        .execute(conn)
        .await?;
    Ok(Some(Impersonated { session, user, roles: names, auth_version }))
}
