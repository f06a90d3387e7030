//! SCIM's tokens, and people and roles as it sees them, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::filter::Condition;
use super::user::NAMED;
use crate::kernel::{RoleId, ScimTokenId, UserId};
use crate::router::TenantConn;
use crate::tenant::schema::user_roles;
use crate::tenant::secrets::Program;

diesel::table! {
    scim_tokens (id) {
        id -> Uuid,
        name -> Text,
        owner_id -> Uuid,
        token_hash -> Bytea,
        hint -> Text,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    scim_users (user_id) {
        user_id -> Uuid,
        user_name -> Text,
        user_name_key -> Text,
        external_id -> Nullable<Text>,
    }
}

diesel::table! {
    scim_groups (role_id) {
        role_id -> Uuid,
        external_id -> Nullable<Text>,
        made -> Bool,
    }
}

use scim_groups as g;
use scim_tokens as t;
use scim_users as s;

/// A token, without what it is recognised by.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = scim_tokens)]
pub(super) struct TokenRow {
    pub id: ScimTokenId,
    pub name: String,
    pub owner_id: UserId,
    pub hint: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

impl Program for TokenRow {
    fn owner(&self) -> UserId {
        self.owner_id
    }

    fn label(&self) -> String {
        format!("{} ({})", self.name, self.id)
    }
}

/// The tokens, the latest first.
pub(super) async fn tokens(conn: &mut TenantConn) -> QueryResult<Vec<TokenRow>> {
    t::table.order((t::created_at.desc(), t::id)).select(TokenRow::as_select()).load(conn).await
}

/// The token with an id, held until the transaction ends.
pub(super) async fn hold_token(conn: &mut TenantConn, id: ScimTokenId) -> QueryResult<Option<TokenRow>> {
    t::table.find(id).select(TokenRow::as_select()).for_update().first(conn).await.optional()
}

/// Keeps a token's hash.
pub(super) async fn insert_token(conn: &mut TenantConn, row: &TokenRow, hash: &[u8; 32]) -> QueryResult<()> {
    diesel::insert_into(t::table)
        .values((
            t::id.eq(row.id),
            t::name.eq(&row.name),
            t::owner_id.eq(row.owner_id),
            t::token_hash.eq(hash.as_slice()),
            t::hint.eq(&row.hint),
            t::expires_at.eq(row.expires_at),
            t::created_at.eq(row.created_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Removes a token for good.
pub(super) async fn remove_token(conn: &mut TenantConn, id: ScimTokenId) -> QueryResult<()> {
    diesel::delete(t::table.find(id)).execute(conn).await.map(drop)
}

/// A token as it is when it is used, with what its owner may do now.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Presented {
    #[diesel(sql_type = SqlUuid)]
    pub id: ScimTokenId,
    #[diesel(sql_type = SqlUuid)]
    pub owner_id: UserId,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_used_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Array<Text>)]
    pub permissions: Vec<String>,
}

/// The token behind a hash.
pub(super) async fn presented(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Option<Presented>> {
    diesel::sql_query(
        "SELECT t.id, t.owner_id, t.expires_at, t.last_used_at, u.status, \
         ARRAY(SELECT p.name FROM permissions p WHERE p.id IN (SELECT rp.permission_id FROM role_permissions rp \
         WHERE rp.role_id IN (SELECT roles_of(u.id)))) AS permissions \
         FROM scim_tokens t JOIN users u ON u.id = t.owner_id WHERE t.token_hash = $1",
    )
    .bind::<diesel::sql_types::Bytea, _>(hash.as_slice())
    .get_result(conn)
    .await
    .optional()
}

/// Notes that a token was used.
pub(super) async fn used(conn: &mut TenantConn, id: ScimTokenId, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::update(t::table.find(id)).set(t::last_used_at.eq(now)).execute(conn).await.map(drop)
}

/// A part of a list: how many, from which place (the first is 0).
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub count: i64,
    pub from: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A person as a directory sees them.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Person {
    #[diesel(sql_type = SqlUuid)]
    pub id: UserId,
    #[diesel(sql_type = Text)]
    pub user_name: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub external_id: Option<String>,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub first_name: String,
    #[diesel(sql_type = Text)]
    pub last_name: String,
    #[diesel(sql_type = Bool)]
    pub active: bool,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    #[diesel(sql_type = Array<SqlUuid>)]
    pub role_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<Text>)]
    pub role_names: Vec<String>,
}

const PERSON: &str = "SELECT u.id, COALESCE(s.user_name, u.email) AS user_name, s.external_id, u.email, u.first_name, \
    u.last_name, u.status = 'active' AS active, u.created_at, u.updated_at, \
    ARRAY(SELECT r.id FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.user_id = u.id ORDER BY r.name) AS role_ids, \
    ARRAY(SELECT r.name FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.user_id = u.id ORDER BY r.name) \
    AS role_names FROM users u LEFT JOIN scim_users s ON s.user_id = u.id";

/// People who meet a condition, and how many there are in all.
pub(super) async fn people(
    conn: &mut TenantConn,
    condition: &Condition,
    part: Part,
) -> QueryResult<(Vec<Person>, i64)> {
    let wanted = format!("{PERSON} WHERE {} ORDER BY u.created_at, u.id LIMIT $2 OFFSET $3", condition.sql);
    let rows = diesel::sql_query(wanted)
        .bind::<Array<Text>, _>(&condition.values)
        .bind::<BigInt, _>(part.count)
        .bind::<BigInt, _>(part.from)
        .load(conn)
        .await?;
    let all = "SELECT count(*) AS count FROM users u LEFT JOIN scim_users s ON s.user_id = u.id";
    Ok((rows, count(conn, all, condition).await?))
}

async fn count(conn: &mut TenantConn, all: &str, condition: &Condition) -> QueryResult<i64> {
    // The bound list is named even where no value of it is used: PostgreSQL has to know its type.
    let query = format!("{all} WHERE {} AND $1::text[] IS NOT NULL", condition.sql);
    diesel::sql_query(query).bind::<Array<Text>, _>(&condition.values).get_result::<Count>(conn).await.map(|c| c.count)
}

/// The person with an id.
pub(super) async fn person(conn: &mut TenantConn, id: UserId) -> QueryResult<Option<Person>> {
    let query = diesel::sql_query(format!("{PERSON} WHERE u.id = $1"));
    query.bind::<SqlUuid, _>(id).get_result(conn).await.optional()
}

/// Whether somebody else is found by a user name: also who has it for their address, and none of a directory's.
pub(super) async fn is_taken(conn: &mut TenantConn, user: UserId, user_name: &str) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Is {
        #[diesel(sql_type = Bool)]
        is: bool,
    }
    let named = NAMED.replace('?', "$2");
    let query = format!("SELECT EXISTS (SELECT FROM users u WHERE u.id <> $1 AND {named}) AS \"is\"");
    let query = diesel::sql_query(query).bind::<SqlUuid, _>(user).bind::<Text, _>(user_name.to_lowercase());
    query.get_result::<Is>(conn).await.map(|row| row.is)
}

/// What a directory calls a person.
pub(super) async fn set_names(
    conn: &mut TenantConn,
    user: UserId,
    user_name: &str,
    external_id: Option<&str>,
) -> QueryResult<()> {
    let key = user_name.to_lowercase();
    let names = (s::user_name.eq(user_name), s::user_name_key.eq(&key), s::external_id.eq(external_id));
    diesel::insert_into(s::table)
        .values((s::user_id.eq(user), names))
        .on_conflict(s::user_id)
        .do_update()
        .set(names)
        .execute(conn)
        .await
        .map(drop)
}

/// A role as a directory sees it.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Group {
    #[diesel(sql_type = SqlUuid)]
    pub id: RoleId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub external_id: Option<String>,
    /// Whether a directory made it.
    #[diesel(sql_type = Bool)]
    pub made: bool,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// Of who its members are and what they are called, made by PostgreSQL.
    #[diesel(sql_type = Nullable<Text>)]
    pub members_digest: Option<String>,
    #[diesel(sql_type = Array<SqlUuid>)]
    pub member_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<Text>)]
    pub member_names: Vec<String>,
}

/// What is read of a role's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: the role has no version then.
    Role,
    /// Their digest, for its version.
    Version,
    /// The same, and who they are.
    Members,
}

const ROLES: &str = "FROM roles r LEFT JOIN scim_groups g ON g.role_id = r.id";
/// What a member is called.
const NAME: &str = "COALESCE(s.user_name, u.email)";
const MEMBERS: &str = "FROM user_roles ur JOIN users u ON u.id = ur.user_id LEFT JOIN scim_users s ON s.user_id = u.id \
    WHERE ur.role_id = r.id";

/// The roles as [`Group`] has them. What is not told is not looked up either.
fn select_groups(told: Told) -> String {
    let (ids, names) = match told {
        Told::Role | Told::Version => ("ARRAY[]::uuid[]".to_owned(), "ARRAY[]::text[]".to_owned()),
        Told::Members => (
            format!("ARRAY(SELECT ur.user_id {MEMBERS} ORDER BY ur.user_id)"),
            format!("ARRAY(SELECT {NAME} {MEMBERS} ORDER BY ur.user_id)"),
        ),
    };
    // Names have no line breaks, and ids one length: no two crowds make one text.
    let lines = format!("string_agg(ur.user_id::text || ' ' || {NAME}, chr(10) ORDER BY ur.user_id)");
    let digest = match told {
        Told::Role => "NULL::text".to_owned(),
        Told::Version | Told::Members => {
            format!("(SELECT encode(sha256(convert_to(COALESCE({lines}, ''), 'UTF8')), 'hex') {MEMBERS})")
        }
    };
    format!(
        "SELECT r.id, r.name, g.external_id, COALESCE(g.made, false) AS made, r.created_at, r.updated_at, \
         {digest} AS members_digest, {ids} AS member_ids, {names} AS member_names {ROLES}"
    )
}

/// How many members the roles of a part have together, counted to `most` and no further.
pub(super) async fn count_members(
    conn: &mut TenantConn,
    condition: &Condition,
    part: Part,
    most: i64,
) -> QueryResult<i64> {
    let query = format!(
        "SELECT count(*) AS count FROM (SELECT 1 FROM user_roles m WHERE m.role_id IN (SELECT r.id {ROLES} \
         WHERE {} AND $1::text[] IS NOT NULL ORDER BY r.created_at, r.id LIMIT $2 OFFSET $3) LIMIT $4) counted",
        condition.sql
    );
    let query = diesel::sql_query(query)
        .bind::<Array<Text>, _>(&condition.values)
        .bind::<BigInt, _>(part.count)
        .bind::<BigInt, _>(part.from)
        .bind::<BigInt, _>(most);
    query.get_result::<Count>(conn).await.map(|c| c.count)
}

/// Roles that meet a condition, and how many there are in all.
pub(super) async fn groups(
    conn: &mut TenantConn,
    condition: &Condition,
    part: Part,
    told: Told,
) -> QueryResult<(Vec<Group>, i64)> {
    let groups = select_groups(told);
    let wanted = format!("{groups} WHERE {} ORDER BY r.created_at, r.id LIMIT $2 OFFSET $3", condition.sql);
    let rows = diesel::sql_query(wanted)
        .bind::<Array<Text>, _>(&condition.values)
        .bind::<BigInt, _>(part.count)
        .bind::<BigInt, _>(part.from)
        .load(conn)
        .await?;
    Ok((rows, count(conn, &format!("SELECT count(*) AS count {ROLES}"), condition).await?))
}

/// The role with an id.
pub(super) async fn group(conn: &mut TenantConn, id: RoleId, told: Told) -> QueryResult<Option<Group>> {
    let query = diesel::sql_query(format!("{} WHERE r.id = $1", select_groups(told)));
    query.bind::<SqlUuid, _>(id).get_result(conn).await.optional()
}

/// Who has a role.
pub(super) async fn members(conn: &mut TenantConn, role: RoleId) -> QueryResult<Vec<UserId>> {
    user_roles::table.filter(user_roles::role_id.eq(role)).select(user_roles::user_id).load(conn).await
}

/// What a directory calls a role. Whether it made it is said once.
pub(super) async fn set_group(
    conn: &mut TenantConn,
    role: RoleId,
    external_id: Option<&str>,
    made: bool,
) -> QueryResult<()> {
    diesel::insert_into(g::table)
        .values((g::role_id.eq(role), g::external_id.eq(external_id), g::made.eq(made)))
        .on_conflict(g::role_id)
        .do_update()
        .set(g::external_id.eq(external_id))
        .execute(conn)
        .await
        .map(drop)
}
