//! Roles with their permissions, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::error::ApiResult;
use crate::kernel::page::Seek;
use crate::kernel::{PermissionId, RoleId, UserId};
use crate::router::TenantConn;
use crate::tenant::keyset::ascending;
use crate::tenant::schema::{permissions, role_permissions, roles, user_roles, users};

/// A role with the names of its permissions.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = roles, check_for_backend(Pg))]
pub struct RoleRow {
    pub id: RoleId,
    pub name: String,
    pub description: String,
    pub system: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    #[diesel(select_expression = permission_names(), select_expression_type = SqlLiteral<Array<Text>>)]
    pub permissions: Vec<String>,
}

fn permission_names() -> SqlLiteral<Array<Text>> {
    sql("ARRAY(SELECT p.name FROM role_permissions rp JOIN permissions p ON p.id = rp.permission_id \
         WHERE rp.role_id = roles.id ORDER BY p.name)")
}

/// The role with an id.
pub async fn find(conn: &mut TenantConn, id: RoleId) -> QueryResult<Option<RoleRow>> {
    roles::table.find(id).select(RoleRow::as_select()).first(conn).await.optional()
}

/// A page of roles by name.
pub async fn list(conn: &mut TenantConn, seek: Seek<String>, limit: i64, offset: i64) -> QueryResult<Vec<RoleRow>> {
    let query = roles::table.select(RoleRow::as_select()).limit(limit).offset(offset).into_boxed();
    ascending!(query, roles::name, seek).load(conn).await
}

/// How many roles there are.
pub async fn count(conn: &mut TenantConn) -> QueryResult<i64> {
    roles::table.count().get_result(conn).await
}

/// What of a role is changed.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = roles)]
pub struct RoleChange {
    pub name: Option<String>,
    pub description: Option<String>,
}

/// Holds a role until the transaction ends.
pub async fn hold(conn: &mut TenantConn, id: RoleId) -> QueryResult<()> {
    let held = roles::table.find(id).select(roles::id).for_update();
    held.first::<RoleId>(conn).await.optional().map(drop)
}

/// Holds the people who have a role, in the order in which everybody does: before the role itself, as when one of them
/// changes.
pub async fn hold_members(conn: &mut TenantConn, id: RoleId) -> QueryResult<()> {
    let members = user_roles::table.filter(user_roles::role_id.eq(id)).select(user_roles::user_id);
    let held = users::table.filter(users::id.eq_any(members)).order(users::id).select(users::id).for_no_key_update();
    held.load::<UserId>(conn).await.map(drop)
}

/// As [`hold_members`], whom a change of a role concerns: whoever has it themselves, where it is to be called otherwise, and who
/// is invited and has it, by a team as well, where it is to have other permissions.
pub async fn hold_concerned(conn: &mut TenantConn, id: RoleId, named: bool, permits: bool) -> QueryResult<()> {
    let query = diesel::sql_query(
        "SELECT u.id FROM users u WHERE u.id IN (\
             SELECT ur.user_id FROM user_roles ur WHERE $2 AND ur.role_id = $1 \
             UNION SELECT i.id FROM users i WHERE $3 AND i.status = 'invited' AND $1 IN (SELECT roles_of(i.id))) \
         ORDER BY u.id FOR NO KEY UPDATE OF u",
    );
    let query = query.bind::<SqlUuid, _>(id.uuid()).bind::<Bool, _>(named).bind::<Bool, _>(permits);
    query.execute(conn).await.map(drop)
}

/// Who is invited and has a role, by a team as well.
pub async fn invited(conn: &mut TenantConn, id: RoleId) -> QueryResult<Vec<UserId>> {
    #[derive(QueryableByName)]
    struct Invited {
        #[diesel(sql_type = SqlUuid)]
        id: UserId,
    }
    let query = diesel::sql_query(
        "SELECT u.id FROM users u WHERE u.status = 'invited' AND $1 IN (SELECT roles_of(u.id)) ORDER BY u.id",
    );
    let rows: Vec<Invited> = query.bind::<SqlUuid, _>(id.uuid()).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The role is called otherwise, or goes: those who have it are shown with its name, so they have changed too.
pub async fn touch_members(conn: &mut TenantConn, id: RoleId, now: DateTime<Utc>) -> QueryResult<()> {
    let members = user_roles::table.filter(user_roles::role_id.eq(id)).select(user_roles::user_id);
    let touched = (users::version.eq(users::version + 1), users::updated_at.eq(now));
    diesel::update(users::table.filter(users::id.eq_any(members))).set(touched).execute(conn).await.map(drop)
}

/// Makes a role without permissions. 409 if the name is taken.
pub async fn insert(conn: &mut TenantConn, id: RoleId, wanted: &RoleChange, now: DateTime<Utc>) -> ApiResult<()> {
    let name = wanted.name.as_deref().unwrap_or_default();
    let description = wanted.description.as_deref().unwrap_or_default();
    diesel::insert_into(roles::table)
        .values((
            roles::id.eq(id),
            roles::name.eq(name),
            roles::description.eq(description),
            roles::created_at.eq(now),
            roles::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes a role. 409 if the name is taken.
pub async fn update(conn: &mut TenantConn, id: RoleId, change: &RoleChange, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::update(roles::table.find(id))
        .set((change, roles::updated_at.eq(now), roles::version.eq(roles::version + 1)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives a role exactly these permissions.
pub async fn set_permissions(conn: &mut TenantConn, id: RoleId, names: &[String]) -> QueryResult<()> {
    let wanted: Vec<PermissionId> =
        permissions::table.filter(permissions::name.eq_any(names)).select(permissions::id).load(conn).await?;
    let others = role_permissions::table
        .filter(role_permissions::role_id.eq(id))
        .filter(role_permissions::permission_id.ne_all(&wanted));
    diesel::delete(others).execute(conn).await?;
    let rows: Vec<_> = wanted
        .into_iter()
        .map(|permission| (role_permissions::role_id.eq(id), role_permissions::permission_id.eq(permission)))
        .collect();
    diesel::insert_into(role_permissions::table).values(rows).on_conflict_do_nothing().execute(conn).await.map(drop)
}

/// Removes a role, from everybody.
pub async fn remove(conn: &mut TenantConn, id: RoleId) -> QueryResult<()> {
    diesel::delete(roles::table.find(id)).execute(conn).await.map(drop)
}
