//! Teams, their people and their roles, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::kernel::page::Seek;
use crate::kernel::{RoleId, TeamId, UserId};
use crate::router::TenantConn;
use crate::tenant::keyset::ascending;
use crate::tenant::schema::users;
use crate::tenant::users::rules::comparable;
use crate::tenant::users::store::UserRow;

diesel::table! {
    teams (id) {
        id -> Uuid,
        name -> Text,
        name_key -> Text,
        description -> Text,
        parent_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

diesel::table! {
    team_members (team_id, user_id) {
        team_id -> Uuid,
        user_id -> Uuid,
        added_at -> Timestamptz,
    }
}

diesel::table! {
    team_roles (team_id, role_id) {
        team_id -> Uuid,
        role_id -> Uuid,
    }
}

diesel::allow_tables_to_appear_in_same_query!(teams, team_members, team_roles, users);

/// A team, with the names of its own roles and how many people are in it.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = teams, check_for_backend(Pg))]
pub struct TeamRow {
    pub id: TeamId,
    pub name: String,
    pub name_key: String,
    pub description: String,
    pub parent_id: Option<TeamId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    #[diesel(select_expression = role_names(), select_expression_type = SqlLiteral<Array<Text>>)]
    pub roles: Vec<String>,
    #[diesel(select_expression = member_count(), select_expression_type = SqlLiteral<BigInt>)]
    pub members: i64,
}

fn role_names() -> SqlLiteral<Array<Text>> {
    sql(
        "ARRAY(SELECT r.name FROM team_roles tr JOIN roles r ON r.id = tr.role_id WHERE tr.team_id = teams.id ORDER BY 1)",
    )
}

fn member_count() -> SqlLiteral<BigInt> {
    sql("(SELECT count(*) FROM team_members m WHERE m.team_id = teams.id)")
}

/// A name as it is compared: no two teams are called alike but for capitals.
pub fn name_key(name: &str) -> String {
    comparable(name.trim()).to_lowercase()
}

/// What of a team is changed; `None` stays.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = teams)]
pub struct TeamChange {
    pub name: Option<String>,
    pub name_key: Option<String>,
    pub description: Option<String>,
    pub parent_id: Option<Option<TeamId>>,
}

/// The team with an id, or 404.
pub async fn get(conn: &mut TenantConn, id: TeamId) -> ApiResult<TeamRow> {
    let found = teams::table.find(id).select(TeamRow::as_select()).first(conn).await.optional()?;
    found.ok_or_else(|| ApiError::not_found("team"))
}

/// A page of teams by name; of those that somebody is in, if one is named.
pub async fn list(
    conn: &mut TenantConn,
    member: Option<UserId>,
    seek: Seek<String>,
    limit: i64,
) -> QueryResult<Vec<TeamRow>> {
    let mut query = teams::table.select(TeamRow::as_select()).limit(limit).into_boxed();
    if let Some(user) = member {
        let theirs = team_members::table.filter(team_members::user_id.eq(user)).select(team_members::team_id);
        query = query.filter(teams::id.eq_any(theirs));
    }
    ascending!(query, teams::name_key, seek).load(conn).await
}

/// How many there are; of those that somebody is in, if one is named.
pub async fn count(conn: &mut TenantConn, member: Option<UserId>) -> QueryResult<i64> {
    match member {
        None => teams::table.count().get_result(conn).await,
        Some(user) => team_members::table.filter(team_members::user_id.eq(user)).count().get_result(conn).await,
    }
}

/// Lets one transaction at a time change how teams stand in each other, so that no two close a ring.
pub async fn hold_tree(conn: &mut TenantConn) -> QueryResult<()> {
    diesel::sql_query("LOCK TABLE teams IN SHARE ROW EXCLUSIVE MODE").execute(conn).await.map(drop)
}

/// Makes a team. 409 if the name is taken.
pub async fn insert(
    conn: &mut TenantConn,
    id: TeamId,
    (name, description, parent): (&str, &str, Option<TeamId>),
    now: DateTime<Utc>,
) -> ApiResult<()> {
    diesel::insert_into(teams::table)
        .values((
            teams::id.eq(id),
            teams::name.eq(name.trim()),
            teams::name_key.eq(name_key(name)),
            teams::description.eq(description.trim()),
            teams::parent_id.eq(parent),
            teams::created_at.eq(now),
            teams::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes a team and its version. 409 if the name is taken.
pub async fn update(conn: &mut TenantConn, id: TeamId, change: &TeamChange, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::update(teams::table.find(id))
        .set((change, teams::updated_at.eq(now), teams::version.eq(teams::version + 1)))
        .execute(conn)
        .await?;
    Ok(())
}

/// A role is called otherwise, or goes: the teams that have it are shown with its name, so they have changed too. To be called
/// with [`hold_tree`].
pub async fn touch_having(conn: &mut TenantConn, role: RoleId, now: DateTime<Utc>) -> QueryResult<()> {
    let having = team_roles::table.filter(team_roles::role_id.eq(role)).select(team_roles::team_id);
    let touched = (teams::version.eq(teams::version + 1), teams::updated_at.eq(now));
    diesel::update(teams::table.filter(teams::id.eq_any(having))).set(touched).execute(conn).await.map(drop)
}

/// Removes a team; its people stay.
pub async fn remove(conn: &mut TenantConn, id: TeamId) -> QueryResult<()> {
    diesel::delete(teams::table.find(id)).execute(conn).await.map(drop)
}

/// Whether teams stand in this one.
pub async fn has_teams_below(conn: &mut TenantConn, id: TeamId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(teams::table.filter(teams::parent_id.eq(id)))).get_result(conn).await
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: TeamId,
}

/// A team and those it stands in.
pub async fn above(conn: &mut TenantConn, id: TeamId) -> QueryResult<Vec<TeamId>> {
    let query = diesel::sql_query("SELECT above AS id FROM teams_above($1) above");
    let rows: Vec<Id> = query.bind::<SqlUuid, _>(id).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// How many levels of teams stand in this one, itself included.
pub async fn height(conn: &mut TenantConn, id: TeamId) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Height {
        #[diesel(sql_type = BigInt)]
        height: i64,
    }
    let query = diesel::sql_query(
        "WITH RECURSIVE down (id, depth) AS (SELECT $1, 1::bigint UNION ALL \
         SELECT t.id, down.depth + 1 FROM teams t JOIN down ON t.parent_id = down.id WHERE down.depth < 100) \
         SELECT max(depth) AS height FROM down",
    );
    query.bind::<SqlUuid, _>(id).get_result::<Height>(conn).await.map(|row| row.height)
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// What a team's people may do by it: the permissions of its roles, and of those of the teams that it stands in.
pub async fn permissions(conn: &mut TenantConn, id: TeamId) -> QueryResult<Vec<String>> {
    let query = diesel::sql_query(
        "SELECT p.name FROM permissions p WHERE p.id IN (SELECT rp.permission_id FROM role_permissions rp \
         WHERE rp.role_id IN (SELECT tr.role_id FROM team_roles tr WHERE tr.team_id IN (SELECT teams_above($1)))) ORDER BY 1",
    );
    let rows: Vec<Name> = query.bind::<SqlUuid, _>(id).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// What a person may do, by their own roles and by their teams'.
pub async fn permissions_of_user(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<String>> {
    let query = diesel::sql_query(
        "SELECT p.name FROM permissions p WHERE p.id IN (SELECT rp.permission_id FROM role_permissions rp \
         WHERE rp.role_id IN (SELECT roles_of($1))) ORDER BY 1",
    );
    let rows: Vec<Name> = query.bind::<SqlUuid, _>(user).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// The names of a person's roles, their own and their teams'.
pub async fn role_names_of_user(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<String>> {
    let query = diesel::sql_query("SELECT r.name FROM roles r WHERE r.id IN (SELECT roles_of($1)) ORDER BY 1");
    let rows: Vec<Name> = query.bind::<SqlUuid, _>(user).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Holds whoever is invited and has rights by a team, in the order in which everybody holds people.
pub async fn hold_invited(conn: &mut TenantConn, id: TeamId) -> QueryResult<Vec<UserId>> {
    #[derive(QueryableByName)]
    struct Invited {
        #[diesel(sql_type = SqlUuid)]
        id: UserId,
    }
    let query = diesel::sql_query(
        "WITH RECURSIVE down (id) AS (SELECT $1 UNION SELECT t.id FROM teams t JOIN down ON t.parent_id = down.id) \
         SELECT u.id FROM users u WHERE u.status = 'invited' AND u.id IN (SELECT m.user_id FROM team_members m \
         WHERE m.team_id IN (SELECT down.id FROM down)) ORDER BY u.id FOR NO KEY UPDATE OF u",
    );
    let rows: Vec<Invited> = query.bind::<SqlUuid, _>(id).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Holds the roles that teams have or are to have, as whoever changes or removes one of them does first.
pub async fn hold_roles(conn: &mut TenantConn, teams: &[TeamId], names: &[String]) -> QueryResult<()> {
    let teams: Vec<Uuid> = teams.iter().map(|team| team.uuid()).collect();
    let names: Vec<String> = names.iter().map(|name| comparable(name)).collect();
    let query = diesel::sql_query(
        "SELECT r.id FROM roles r WHERE r.name = ANY($2) OR r.id IN \
         (SELECT tr.role_id FROM team_roles tr WHERE tr.team_id = ANY($1)) ORDER BY r.id FOR KEY SHARE OF r",
    );
    query.bind::<Array<SqlUuid>, _>(teams).bind::<Array<Text>, _>(names).execute(conn).await.map(drop)
}

/// Gives a team exactly these roles.
pub async fn set_roles(conn: &mut TenantConn, id: TeamId, roles: &[RoleId]) -> QueryResult<()> {
    let others = team_roles::table.filter(team_roles::team_id.eq(id)).filter(team_roles::role_id.ne_all(roles));
    diesel::delete(others).execute(conn).await?;
    let rows: Vec<_> = roles.iter().map(|role| (team_roles::team_id.eq(id), team_roles::role_id.eq(*role))).collect();
    diesel::insert_into(team_roles::table).values(rows).on_conflict_do_nothing().execute(conn).await.map(drop)
}

/// A page of a team's people, by when they were added to the tenant.
pub async fn members(conn: &mut TenantConn, team: TeamId, seek: Seek<UserId>, limit: i64) -> QueryResult<Vec<UserRow>> {
    let theirs = team_members::table.filter(team_members::team_id.eq(team)).select(team_members::user_id);
    let query = users::table.filter(users::id.eq_any(theirs)).select(UserRow::as_select()).limit(limit).into_boxed();
    ascending!(query, users::id, seek).load(conn).await
}

/// How many people are in a team, those of teams below not among them.
pub async fn count_members(conn: &mut TenantConn, team: TeamId) -> QueryResult<i64> {
    team_members::table.filter(team_members::team_id.eq(team)).count().get_result(conn).await
}

/// Puts somebody in. False if they are.
pub async fn add_member(conn: &mut TenantConn, team: TeamId, user: UserId, now: DateTime<Utc>) -> QueryResult<bool> {
    let row = (team_members::team_id.eq(team), team_members::user_id.eq(user), team_members::added_at.eq(now));
    let added = diesel::insert_into(team_members::table).values(row).on_conflict_do_nothing().execute(conn).await?;
    Ok(added == 1)
}

/// Takes somebody out. False if they are not in.
pub async fn remove_member(conn: &mut TenantConn, team: TeamId, user: UserId) -> QueryResult<bool> {
    Ok(diesel::delete(team_members::table.find((team, user))).execute(conn).await? == 1)
}

/// Whether a person is in a team.
pub async fn is_member(conn: &mut TenantConn, team: TeamId, user: UserId) -> QueryResult<bool> {
    let found: bool =
        diesel::select(diesel::dsl::exists(team_members::table.find((team, user)))).get_result(conn).await?;
    Ok(found)
}
