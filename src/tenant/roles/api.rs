//! Roles as clients see them.

use actix_web::get;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::store::{self, RoleRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::RoleId;
use crate::rest::{Authorized, Envelope, ListEnvelope, Listed, NoQuery, Paging, Path, Query, Tagged, Versioned};
use crate::router::TenantConn;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::RolesRead;

/// A role.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Identity.
    pub id: RoleId,
    /// Name.
    #[schema(example = "user")]
    pub name: String,
    /// Whom it is for.
    pub description: String,
    /// What it lets people do.
    #[schema(example = json!(["contacts:read"]))]
    pub permissions: Vec<String>,
    /// It comes with the product.
    pub system: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<RoleRow> for Role {
    fn from(row: RoleRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            permissions: row.permissions,
            system: row.system,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for Role {
    fn version(&self) -> i64 {
        self.version
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRoles {
    /// Number of the page, from 1.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The roles, by name.
#[utoipa::path(
    tag = "roles",
    params(ListRoles),
    responses((status = 200, description = "A page", body = ListEnvelope<Role>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/roles")]
pub async fn list_roles(caller: Authorized<RolesRead>, query: Query<ListRoles>) -> ApiResult<Listed<Role>> {
    let ListRoles { page, page_size, cursor, include_total } = query.0;
    let pages = Paging::new(page, page_size, cursor, include_total)?.of(&caller.db, "roles", "name", "");
    let seek = pages.seek::<String>()?;
    let (limit, offset, counted) = (pages.limit(), pages.offset(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = store::list(conn, seek.clone(), limit, offset).await?;
            let total = if counted { Some(store::count(conn).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    Ok(pages.listed(rows, |row| row.name.clone(), total).map(Role::from))
}

/// A role.
#[utoipa::path(
    tag = "roles",
    params(("id" = RoleId, Path, description = "The role")),
    responses(
        (status = 200, description = "The role, with `ETag`", body = Envelope<Role>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/roles/{id}")]
pub async fn get_role(_: NoQuery, caller: Authorized<RolesRead>, id: Path<RoleId>) -> ApiResult<Tagged<Role>> {
    let row =
        caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::find(conn, id.0).await?) }).await?;
    row.map(|row| Tagged(row.into())).ok_or_else(|| ApiError::not_found("role"))
}
