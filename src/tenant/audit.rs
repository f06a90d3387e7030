//! What was done in somebody's name, or to how somebody proves who they are, for the tenant to read.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use uuid::Uuid;

use crate::kernel::{SessionId, UserId};
use crate::rest::{Authorized, Permission};
use crate::router::TenantConn;

/// The built-in schema that has the audit (`V4__audit.sql`).
pub const AUDITED_SINCE: i32 = 4;

/// The longest reason that a line has, in characters.
const LONGEST: usize = 500;

/// As much of a reason as a line has: no list of roles or permissions is too long for a deed to be done.
fn cut(reason: &str) -> &str {
    reason.char_indices().nth(LONGEST).map_or(reason, |(end, _)| &reason[..end])
}

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

/// One line. Written in the transaction of the deed.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Who did it: `cli:account`, `operator:id`, `user:id`, or a program as [`actor`] has it.
    pub actor: &'a str,
    /// What: words with dots between them.
    pub action: &'static str,
    /// Whom it is about.
    pub user: UserId,
    /// Which session, if it is about one.
    pub session: Option<SessionId>,
    /// Why, if it was said.
    pub reason: Option<&'a str>,
}

/// Who does it, as the audit has them: `user:id`, or the program that acts with a person's rights.
#[must_use]
pub fn actor<P: Permission>(caller: &Authorized<P>) -> String {
    let actor = caller.actor();
    if actor.contains(':') { actor } else { format!("user:{actor}") }
}

/// Writes a line.
///
/// # Errors
/// What the database answers.
pub async fn note<C>(conn: &mut C, entry: &Entry<'_>, now: DateTime<Utc>) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(Uuid::now_v7()),
            audit::at.eq(now),
            audit::actor.eq(entry.actor),
            audit::action.eq(entry.action),
            audit::user_id.eq(entry.user),
            audit::session_id.eq(entry.session.map(SessionId::uuid)),
            audit::reason.eq(entry.reason.map(cut)),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Writes a line about a person, in whichever session.
///
/// # Errors
/// What the database answers.
pub async fn note_person(
    conn: &mut TenantConn,
    (actor, user): (&str, UserId),
    action: &'static str,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    note(conn, &Entry { actor, action, user, session: None, reason }, now).await
}

/// Writes a line that is about nobody in particular.
///
/// # Errors
/// What the database answers.
pub async fn note_tenant<C>(
    conn: &mut C,
    actor: &str,
    action: &'static str,
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(Uuid::now_v7()),
            audit::at.eq(now),
            audit::actor.eq(actor),
            audit::action.eq(action),
            audit::reason.eq(cut(reason)),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Writes a line about each of many people.
///
/// # Errors
/// What the database answers.
pub async fn note_each<C>(
    conn: &mut C,
    actor: &str,
    action: &'static str,
    users: &[UserId],
    now: DateTime<Utc>,
) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    for some in users.chunks(1000) {
        let line = |user: &UserId| {
            let what = (audit::actor.eq(actor), audit::action.eq(action), audit::user_id.eq(*user));
            (audit::id.eq(Uuid::now_v7()), audit::at.eq(now), what)
        };
        let lines: Vec<_> = some.iter().map(line).collect();
        diesel::insert_into(audit::table).values(lines).execute(conn).await?;
    }
    Ok(())
}
