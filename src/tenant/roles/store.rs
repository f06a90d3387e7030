//! Roles with their permissions, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text};
use diesel_async::RunQueryDsl;

use crate::kernel::RoleId;
use crate::kernel::page::Direction;
use crate::router::TenantConn;
use crate::tenant::schema::roles;

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
pub async fn list(
    conn: &mut TenantConn,
    seek: Option<(Direction, String)>,
    limit: i64,
    offset: i64,
) -> QueryResult<Vec<RoleRow>> {
    use roles::name;
    let query = roles::table.select(RoleRow::as_select()).limit(limit).offset(offset).into_boxed();
    let query = match seek {
        None => query.order(name.asc()),
        Some((Direction::Next, at)) => query.filter(name.gt(at)).order(name.asc()),
        Some((Direction::Previous, at)) => query.filter(name.lt(at)).order(name.desc()),
    };
    query.load(conn).await
}

/// How many roles there are.
pub async fn count(conn: &mut TenantConn) -> QueryResult<i64> {
    roles::table.count().get_result(conn).await
}
