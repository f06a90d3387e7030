//! Whether a session stands, and what its person may do.
//!
//! Written for a connection just opened, where most of a query's time goes into looking up its tables, columns, operators
//! and functions for the first time: a subquery for one row is planned faster there than a join or a subquery for each column,
//! and without `LIMIT`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Nullable, Record, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::fixed::{Fixed, fixed};
use crate::kernel::{SessionId, UserId};
use crate::router::TenantConn;
use crate::tenant::schema::sessions;
use crate::tenant::teams;

/// The schema that has marks (`V3__rights_marks.sql`).
pub const MARKED_SINCE: i32 = 3;
/// The schema whose sessions know rights (`V25__rights_of_sessions.sql`).
pub const KNOWN_SINCE: i32 = 25;

/// Status, whether the password is to be changed, and the mark.
type PersonType = Record<(Text, Bool, Nullable<SqlUuid>)>;

const PERSON: Fixed<PersonType> = fixed(
    "(SELECT ROW(users.status, users.password_change_required, users.rights_mark) FROM users \
     WHERE users.id = sessions.user_id)",
);
const UNMARKED: Fixed<PersonType> = fixed(
    "(SELECT ROW(users.status, users.password_change_required, NULL::uuid) FROM users WHERE users.id = sessions.user_id)",
);
const ROLES_MARK: Fixed<Nullable<SqlUuid>> = fixed("(SELECT roles_mark.mark FROM roles_mark)");
const NO_MARK: Fixed<Nullable<SqlUuid>> = fixed("NULL::uuid");
const ROLES: Fixed<Array<Text>> = fixed(
    "ARRAY(SELECT r.name FROM roles r WHERE r.id IN \
     (SELECT ur.role_id FROM user_roles ur WHERE ur.user_id = sessions.user_id))",
);
const PERMISSIONS: Fixed<Array<Text>> = fixed(
    "ARRAY(SELECT p.name FROM permissions p WHERE p.id IN \
     (SELECT rp.permission_id FROM role_permissions rp WHERE rp.role_id IN \
     (SELECT ur.role_id FROM user_roles ur WHERE ur.user_id = sessions.user_id)))",
);

const ALL_ROLES: Fixed<Array<Text>> =
    fixed("ARRAY(SELECT r.name FROM roles r WHERE r.id IN (SELECT roles_of(sessions.user_id)))");
const ALL_PERMISSIONS: Fixed<Array<Text>> = fixed(
    "ARRAY(SELECT p.name FROM permissions p WHERE p.id IN \
     (SELECT rp.permission_id FROM role_permissions rp WHERE rp.role_id IN (SELECT roles_of(sessions.user_id))))",
);

const MARKS: Fixed<Nullable<Array<SqlUuid>>> = fixed(
    "ARRAY[(SELECT users.rights_mark FROM users WHERE users.id = sessions.user_id), \
     (SELECT roles_mark.mark FROM roles_mark)]",
);

/// What somebody's rights were read under: other marks, perhaps other rights; the same marks, the same rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    person: Uuid,
    roles: Uuid,
}

/// A session with its person's state.
#[derive(Debug, Queryable)]
pub struct Standing {
    pub user_id: UserId,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    person: (String, bool, Option<Uuid>),
    roles_mark: Option<Uuid>,
}

impl Standing {
    /// The person's.
    pub fn status(&self) -> &str {
        &self.person.0
    }

    /// Whether the person does that first.
    pub fn password_change_required(&self) -> bool {
        self.person.1
    }

    /// The marks of the person's rights at that moment; none in a database that has none.
    pub fn marks(&self) -> Option<Marks> {
        Some(Marks { person: self.person.2?, roles: self.roles_mark? })
    }
}

/// What a person may do.
#[derive(Debug, Queryable)]
pub struct Rights {
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
}

/// All that the admission of a token asks whose person's rights are known with their marks.
pub async fn standing(conn: &mut TenantConn, session: SessionId) -> QueryResult<Option<Standing>> {
    let columns = (sessions::user_id, sessions::expires_at, sessions::revoked_at, PERSON, ROLES_MARK);
    sessions::table.find(session).select(columns).get_result(conn).await.optional()
}

/// The same with the rights that the session knows, if they are still those.
pub async fn standing_with_known(
    conn: &mut TenantConn,
    session: SessionId,
) -> QueryResult<Option<(Standing, Option<Rights>)>> {
    type Known = (Option<Vec<Uuid>>, Option<Vec<String>>, Option<Vec<String>>);
    let standing = (sessions::user_id, sessions::expires_at, sessions::revoked_at, PERSON, ROLES_MARK);
    let known = (sessions::known_marks, sessions::known_roles, sessions::known_permissions);
    let read: Option<(Standing, Known)> =
        sessions::table.find(session).select((standing, known)).get_result(conn).await.optional()?;
    Ok(read.map(|(standing, (marks, roles, permissions))| {
        let hold = match (&marks.as_deref(), standing.marks()) {
            (Some([person, roles]), Some(now)) => Marks { person: *person, roles: *roles } == now,
            _ => false,
        };
        let rights = roles.zip(permissions).map(|(roles, permissions)| Rights { roles, permissions });
        (standing, rights.filter(|_| hold))
    }))
}

/// Has a session know its person's rights, where it does not. Rights and marks are of one moment.
pub async fn know_rights(conn: &mut TenantConn, session: SessionId) -> QueryResult<()> {
    diesel::update(sessions::table.find(session).filter(sessions::known_marks.is_distinct_from(MARKS)))
        .set((
            sessions::known_marks.eq(MARKS),
            sessions::known_roles.eq(ALL_ROLES.nullable()),
            sessions::known_permissions.eq(ALL_PERMISSIONS.nullable()),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// The same with the rights, in one statement: marks and rights are of one moment. Without marks in a database of an
/// older schema.
pub async fn standing_with_rights(
    conn: &mut TenantConn,
    session: SessionId,
    schema: i32,
) -> QueryResult<Option<(Standing, Rights)>> {
    let (person, roles) = if schema >= MARKED_SINCE { (PERSON, ROLES_MARK) } else { (UNMARKED, NO_MARK) };
    let rights = if schema >= teams::SINCE { (ALL_ROLES, ALL_PERMISSIONS) } else { (ROLES, PERMISSIONS) };
    let standing = (sessions::user_id, sessions::expires_at, sessions::revoked_at, person, roles);
    sessions::table.find(session).select((standing, rights)).get_result(conn).await.optional()
}
