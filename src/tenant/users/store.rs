//! People and their roles, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::dsl::{IsNotNull, sql};
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::rules::{UserStatus, comparable, email_key};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{RoleId, UserId};
use crate::router::TenantConn;
use crate::tenant::passwords;
use crate::tenant::permissions::catalog::{ADMIN, USER};
use crate::tenant::schema::{permissions, role_permissions, roles, user_roles, users};

/// A person with the names of their roles.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(Pg))]
pub struct UserRow {
    pub id: UserId,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    #[diesel(deserialize_as = String)]
    pub status: UserStatus,
    pub password_change_required: bool,
    #[diesel(select_expression = users::password_hash.is_not_null(), select_expression_type = IsNotNull<users::password_hash>)]
    pub has_password: bool,
    pub auth_version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    #[diesel(select_expression = role_names(), select_expression_type = SqlLiteral<Array<Text>>)]
    pub roles: Vec<String>,
}

/// The names of a person's roles, as an array beside their row.
pub(crate) fn role_names() -> SqlLiteral<Array<Text>> {
    sql("ARRAY(SELECT r.name FROM user_roles ur JOIN roles r ON r.id = ur.role_id \
         WHERE ur.user_id = users.id ORDER BY r.name)")
}

/// A person to be made.
#[derive(Debug)]
pub struct NewUser<'a> {
    pub id: UserId,
    pub email: &'a str,
    pub first_name: &'a str,
    pub last_name: &'a str,
    pub status: UserStatus,
    pub password_hash: Option<&'a str>,
}

/// What changes of a person; `None` stays.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = users)]
pub struct UserChange {
    pub email: Option<String>,
    pub email_key: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub status: Option<String>,
    pub password_hash: Option<String>,
    pub password_change_required: Option<bool>,
}

/// The person with an id.
pub async fn find(conn: &mut TenantConn, id: UserId) -> QueryResult<Option<UserRow>> {
    users::table.find(id).select(UserRow::as_select()).first(conn).await.optional()
}

/// The person with an address.
pub async fn find_by_email(conn: &mut TenantConn, email: &str) -> QueryResult<Option<UserRow>> {
    let found = users::table.filter(users::email_key.eq(email_key(email)));
    found.select(UserRow::as_select()).first(conn).await.optional()
}

/// The person with an id, or 404.
pub async fn get(conn: &mut TenantConn, id: UserId) -> ApiResult<UserRow> {
    find(conn, id).await?.ok_or_else(|| ApiError::not_found("user"))
}

/// The person with an id, held until the transaction ends, or 404.
pub async fn hold(conn: &mut TenantConn, id: UserId) -> ApiResult<UserRow> {
    let row = users::table.find(id).select(UserRow::as_select()).for_no_key_update().first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("user"))
}

/// As [`hold`], for several, in the order in which everybody holds people. Whoever is not there is left out.
pub async fn hold_all(conn: &mut TenantConn, ids: &[UserId]) -> QueryResult<Vec<UserRow>> {
    let held = users::table.filter(users::id.eq_any(ids)).order(users::id).select(UserRow::as_select());
    held.for_no_key_update().load(conn).await
}

/// Makes a person. 409 if the address is taken.
pub async fn insert(conn: &mut TenantConn, user: &NewUser<'_>, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::insert_into(users::table)
        .values((
            users::id.eq(user.id),
            users::email.eq(user.email.trim()),
            users::email_key.eq(email_key(user.email)),
            users::first_name.eq(user.first_name.trim()),
            users::last_name.eq(user.last_name.trim()),
            users::status.eq(user.status.as_str()),
            users::password_hash.eq(user.password_hash),
            users::created_at.eq(now),
            users::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    if let Some(hash) = user.password_hash {
        passwords::remember(conn, user.id, hash, now).await?;
    }
    Ok(())
}

/// Changes a person and their version; `rights` too if what they may do changes. 409 if the address is taken.
pub async fn update(
    conn: &mut TenantConn,
    id: UserId,
    change: &UserChange,
    rights: bool,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    if let Some(email) = &change.email {
        // Nobody has shown yet that the new one is theirs.
        diesel::sql_query("UPDATE users SET email_verified_at = NULL WHERE id = $1 AND email <> $2")
            .bind::<SqlUuid, _>(id.uuid())
            .bind::<Text, _>(email)
            .execute(conn)
            .await?;
    }
    diesel::update(users::table.find(id))
        .set((
            change,
            users::updated_at.eq(now),
            users::version.eq(users::version + 1),
            users::auth_version.eq(users::auth_version + i64::from(rights)),
        ))
        .execute(conn)
        .await?;
    if let Some(hash) = &change.password_hash {
        passwords::remember(conn, id, hash, now).await?;
    }
    Ok(())
}

/// Removes a person with all that hangs on them.
pub async fn remove(conn: &mut TenantConn, id: UserId) -> QueryResult<()> {
    diesel::delete(users::table.find(id)).execute(conn).await.map(drop)
}

/// The ids of the roles with these names; fewer if some do not exist.
pub async fn role_ids(conn: &mut TenantConn, names: &[String]) -> QueryResult<Vec<(RoleId, String)>> {
    let names: Vec<String> = names.iter().map(|name| comparable(name)).collect();
    roles::table.filter(roles::name.eq_any(names)).select((roles::id, roles::name)).load(conn).await
}

/// As [`role_ids`], held until the transaction ends, so that they allow no more meanwhile than whoever gives them has seen.
pub async fn hold_roles(conn: &mut TenantConn, names: &[String]) -> QueryResult<Vec<(RoleId, String)>> {
    let names: Vec<String> = names.iter().map(|name| comparable(name)).collect();
    let named = roles::table.filter(roles::name.eq_any(names)).order(roles::id).select((roles::id, roles::name));
    named.for_key_share().load(conn).await
}

/// The roles of a newcomer to whom nobody gave any.
pub async fn newcomer_roles(conn: &mut TenantConn) -> QueryResult<Vec<RoleId>> {
    roles::table.filter(roles::name.eq(USER)).select(roles::id).load(conn).await
}

/// Gives a person exactly these roles.
pub async fn set_roles(conn: &mut TenantConn, user: UserId, ids: &[RoleId]) -> QueryResult<()> {
    diesel::delete(user_roles::table.filter(user_roles::user_id.eq(user)).filter(user_roles::role_id.ne_all(ids)))
        .execute(conn)
        .await?;
    let rows: Vec<_> = ids.iter().map(|id| (user_roles::user_id.eq(user), user_roles::role_id.eq(*id))).collect();
    diesel::insert_into(user_roles::table).values(rows).on_conflict_do_nothing().execute(conn).await.map(drop)
}

/// Gives a person a role. False if they have it.
pub async fn add_role(conn: &mut TenantConn, user: UserId, role: RoleId) -> QueryResult<bool> {
    let row = (user_roles::user_id.eq(user), user_roles::role_id.eq(role));
    let added = diesel::insert_into(user_roles::table).values(row).on_conflict_do_nothing().execute(conn).await?;
    Ok(added == 1)
}

/// Takes a role from a person. False if they do not have it.
pub async fn remove_role(conn: &mut TenantConn, user: UserId, role: RoleId) -> QueryResult<bool> {
    Ok(diesel::delete(user_roles::table.find((user, role))).execute(conn).await? == 1)
}

/// Whether there is such a role.
pub async fn role_exists(conn: &mut TenantConn, role: RoleId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(roles::table.find(role))).get_result(conn).await
}

/// What roles allow.
pub async fn permissions_of_roles(conn: &mut TenantConn, ids: &[RoleId]) -> QueryResult<Vec<String>> {
    role_permissions::table
        .inner_join(permissions::table)
        .filter(role_permissions::role_id.eq_any(ids))
        .select(permissions::name)
        .distinct()
        .order(permissions::name)
        .load(conn)
        .await
}

/// Lets one transaction at a time take the last administrator away, so that two cannot each leave the other's.
pub async fn hold_admins(conn: &mut TenantConn) -> QueryResult<()> {
    let held: Vec<RoleId> =
        roles::table.filter(roles::name.eq(ADMIN)).select(roles::id).for_no_key_update().load(conn).await?;
    debug_assert!(held.len() <= 1, "role names are unique");
    Ok(())
}

/// How many active people are administrators.
pub async fn active_admins(conn: &mut TenantConn) -> QueryResult<i64> {
    user_roles::table
        .inner_join(users::table)
        .inner_join(roles::table)
        .filter(roles::name.eq(ADMIN))
        .filter(users::status.eq(UserStatus::Active.as_str()))
        .count()
        .get_result(conn)
        .await
}
