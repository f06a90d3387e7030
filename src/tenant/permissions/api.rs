//! The list of permissions.

use actix_web::get;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::PermissionsRead;
use crate::error::ApiResult;
use crate::kernel::PermissionId;
use crate::kernel::page::Seek;
use crate::rest::{Authorized, ListEnvelope, Listed, Paging, Query};
use crate::router::TenantConn;
use crate::tenant::docs::Refusals;
use crate::tenant::keyset::ascending;
use crate::tenant::schema::permissions;

/// A permission.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = permissions)]
pub struct PermissionView {
    /// Identity.
    pub id: PermissionId,
    /// `resource:action`.
    #[schema(example = "contacts:read")]
    pub name: String,
    /// What it lets someone do.
    pub description: String,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPermissions {
    /// Number of the page, from 1.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The permissions, by name.
#[utoipa::path(
    tag = "permissions",
    params(ListPermissions),
    responses((status = 200, description = "A page", body = ListEnvelope<PermissionView>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/permissions")]
pub async fn list_permissions(
    caller: Authorized<PermissionsRead>,
    query: Query<ListPermissions>,
) -> ApiResult<Listed<PermissionView>> {
    let ListPermissions { page, page_size, cursor, include_total } = query.0;
    let pages = Paging::new(page, page_size, cursor, include_total)?.of(&caller.db, "permissions", "name", "");
    let seek = pages.seek::<String>()?;
    let (limit, offset, counted) = (pages.limit(), pages.offset(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = list(conn, seek.clone(), limit, offset).await?;
            let total = if counted { Some(permissions::table.count().get_result(conn).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    Ok(pages.listed(rows, |row| row.name.clone(), total))
}

async fn list(conn: &mut TenantConn, seek: Seek<String>, limit: i64, offset: i64) -> QueryResult<Vec<PermissionView>> {
    let query = permissions::table.select(PermissionView::as_select()).limit(limit).offset(offset).into_boxed();
    ascending!(query, permissions::name, seek).load(conn).await
}
