//! What was done in somebody's name, or to how somebody proves who they are, for the tenant to read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use uuid::Uuid;

use crate::kernel::{SessionId, UserId, request};
use crate::rest::{Authorized, Permission};
use crate::router::{AdminConn, TenantConn, TenantTx};

/// The built-in schema that has the audit (`V4__audit.sql`).
pub const AUDITED_SINCE: i32 = 4;

/// The built-in schema whose lines say for which request they were written (`V21__audited_requests.sql`).
pub const REQUESTS_SINCE: i32 = 21;

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
        request_id -> Nullable<Text>,
    }
}

/// A connection that lines are written over.
pub trait AuditConn: AsyncConnectionCore<Backend = diesel::pg::Pg> {
    /// The version of the built-in schema that the tenant's database has at the least.
    fn schema(&self) -> i32;

    /// The request that is worked on, if a line has room for it.
    fn request(&self) -> Option<Arc<str>> {
        if self.schema() >= REQUESTS_SINCE { request::current() } else { None }
    }
}

impl AuditConn for TenantConn {
    fn schema(&self) -> i32 {
        self.schema_version()
    }
}

impl AuditConn for TenantTx {
    fn schema(&self) -> i32 {
        self.schema_version()
    }
}

/// Over it commands write, which no request causes.
impl AuditConn for AdminConn {
    fn schema(&self) -> i32 {
        AUDITED_SINCE
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

/// An [`Entry`] that may be about nobody in particular.
struct Line<'a> {
    actor: &'a str,
    action: &'static str,
    user: Option<UserId>,
    session: Option<SessionId>,
    reason: Option<&'a str>,
}

async fn write<C: AuditConn>(conn: &mut C, line: Line<'_>, now: DateTime<Utc>) -> QueryResult<()> {
    let request = conn.request();
    let line = (
        audit::id.eq(Uuid::now_v7()),
        audit::at.eq(now),
        audit::actor.eq(line.actor),
        audit::action.eq(line.action),
        audit::user_id.eq(line.user),
        audit::session_id.eq(line.session.map(SessionId::uuid)),
        audit::reason.eq(line.reason.map(cut)),
    );
    match &request {
        Some(id) => {
            let line = (line, audit::request_id.eq(&**id));
            diesel::insert_into(audit::table).values(line).execute(conn).await?
        }
        None => diesel::insert_into(audit::table).values(line).execute(conn).await?,
    };
    Ok(())
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
    C: AuditConn,
{
    let Entry { actor, action, user, session, reason } = *entry;
    write(conn, Line { actor, action, user: Some(user), session, reason }, now).await
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
    C: AuditConn,
{
    write(conn, Line { actor, action, user: None, session: None, reason: Some(reason) }, now).await
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
    C: AuditConn,
{
    let request = conn.request();
    for some in users.chunks(1000) {
        let line = |user: &UserId| {
            let what = (audit::actor.eq(actor), audit::action.eq(action), audit::user_id.eq(*user));
            (audit::id.eq(Uuid::now_v7()), audit::at.eq(now), what)
        };
        match &request {
            Some(id) => {
                let lines: Vec<_> = some.iter().map(|user| (line(user), audit::request_id.eq(&**id))).collect();
                diesel::insert_into(audit::table).values(lines).execute(conn).await?
            }
            None => {
                let lines: Vec<_> = some.iter().map(line).collect();
                diesel::insert_into(audit::table).values(lines).execute(conn).await?
            }
        };
    }
    Ok(())
}
