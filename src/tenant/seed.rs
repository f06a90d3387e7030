//! What a new tenant's database begins with: the permissions, the system roles, the first administrator.
//!
//! Everything here may run again at any time, over whatever an interrupted run left.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text, Uuid as SqlUuid};
use diesel::upsert::excluded;
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::permissions::catalog::{ADMIN, PERMISSIONS, SYSTEM_ROLES, USER};
use super::schema::{permissions, roles, users};
use super::users::rules::email_key;
use super::users::store::UserRow;
use crate::kernel::{PermissionId, RoleId, UserId};

/// Writes the permissions and the system roles `admin` (everything) and `user`.
///
/// # Errors
/// What the database answers.
pub async fn seed<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    let rows: Vec<_> = PERMISSIONS
        .iter()
        .map(|entry| {
            (
                permissions::id.eq(PermissionId::generate()),
                permissions::name.eq(entry.name),
                permissions::description.eq(entry.description),
            )
        })
        .collect();
    diesel::insert_into(permissions::table)
        .values(rows)
        .on_conflict(permissions::name)
        .do_update()
        .set(permissions::description.eq(excluded(permissions::description)))
        .execute(conn)
        .await?;
    let rows: Vec<_> = SYSTEM_ROLES
        .iter()
        .map(|(name, description)| {
            (
                roles::id.eq(RoleId::generate()),
                roles::name.eq(name),
                roles::description.eq(description),
                roles::system.eq(true),
            )
        })
        .collect();
    diesel::insert_into(roles::table)
        .values(rows)
        .on_conflict(roles::name)
        .do_update()
        .set((roles::description.eq(excluded(roles::description)), roles::system.eq(true)))
        .execute(conn)
        .await?;
    let all = PERMISSIONS.iter().map(|entry| entry.name).collect();
    let users = PERMISSIONS.iter().filter(|entry| entry.user).map(|entry| entry.name).collect();
    grant(conn, ADMIN, all).await?;
    grant(conn, USER, users).await
}

async fn grant<C>(conn: &mut C, role: &str, names: Vec<&str>) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::sql_query(
        "INSERT INTO role_permissions (role_id, permission_id) \
         SELECT r.id, p.id FROM roles r, permissions p WHERE r.name = $1 AND p.name = ANY ($2) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(role)
    .bind::<Array<Text>, _>(names)
    .execute(conn)
    .await
    .map(drop)
}

/// The first administrator of a tenant.
#[derive(Debug)]
pub struct FirstAdmin {
    /// Address to log in with.
    pub email: String,
    /// The password was made by somebody else.
    pub password_change_required: bool,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
}

/// A first administrator in the database.
#[derive(Debug)]
pub struct Seeded {
    /// Who they are there.
    pub user: UserRow,
    /// Whether there was nobody with their address: they have their one role, and nothing else.
    pub is_new: bool,
}

/// Makes the first administrator, after [`seed`]; the password is given by [`give_password`] in the same transaction. One
/// with the same address gets it, and the role: a run that resumes has printed another password than the one that was
/// interrupted.
///
/// # Errors
/// What the database answers; `NotFound` for somebody new if [`seed`] has not run.
pub async fn seed_admin<C>(conn: &mut C, admin: &FirstAdmin) -> QueryResult<Seeded>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    let mut user: UserRow = diesel::insert_into(users::table)
        .values((
            users::id.eq(UserId::generate()),
            users::email.eq(admin.email.trim()),
            users::email_key.eq(email_key(&admin.email)),
            users::first_name.eq(admin.first_name.trim()),
            users::last_name.eq(admin.last_name.trim()),
            users::status.eq("active"),
            users::password_change_required.eq(admin.password_change_required),
        ))
        .on_conflict(users::email_key)
        .do_update()
        .set((
            users::status.eq("active"),
            users::password_change_required.eq(excluded(users::password_change_required)),
            users::auth_version.eq(users::auth_version + 1),
            users::updated_at.eq(diesel::dsl::now),
            users::version.eq(users::version + 1),
        ))
        .returning(UserRow::as_returning())
        .get_result(conn)
        .await?;
    let is_new = user.version == 1;
    // The audit has somebody new as made by somebody else, in the same statement: whoever waits for a sign-up waits for this.
    let noted = diesel::sql_query(
        "WITH given AS (INSERT INTO user_roles (user_id, role_id) SELECT $1, r.id FROM roles r WHERE r.name = $2 \
         ON CONFLICT DO NOTHING RETURNING user_id) \
         INSERT INTO audit (id, at, actor, action, user_id) SELECT $3, now(), 'system', 'user.created', g.user_id \
         FROM given g WHERE $4",
    )
    .bind::<SqlUuid, _>(user.id)
    .bind::<Text, _>(ADMIN)
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<Bool, _>(is_new)
    .execute(conn)
    .await?;
    if noted == 0 && is_new {
        return Err(diesel::result::Error::NotFound);
    }
    if is_new {
        user.roles = vec![ADMIN.to_owned()];
    }
    Ok(Seeded { user, is_new })
}

/// Sets the password of a first administrator, in the transaction that made them: its Argon2id hash in PHC form.
///
/// # Errors
/// What the database answers.
pub async fn give_password<C>(conn: &mut C, user: UserId, hash: &SecretString) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    let hash = users::password_hash.eq(hash.expose_secret());
    diesel::update(users::table.find(user)).set(hash).execute(conn).await.map(drop)
}
