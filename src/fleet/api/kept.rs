//! Databases that are kept for a while, for operators.

use actix_web::{delete, get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{ChangeRefusals, Refusals};
use crate::control::operators::{Operator, Survey};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::view::KeptView;
use crate::kernel::request;
use crate::rest::{ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query};
use crate::router::Router;

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListKept {
    /// Those of one tenant, by id or slug.
    pub tenant: Option<String>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The databases that moves and restores have left and that serve nobody, in the order in which they go; at most a
/// thousand.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListKeptDatabases",
    params(ListKept),
    responses((status = 200, description = "The databases", body = ListEnvelope<KeptView>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/kept-databases")]
pub async fn list_kept_databases(
    _: Operator<Survey>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    query: Query<ListKept>,
) -> ApiResult<Listed<KeptView>> {
    let ListKept { tenant, page_size, cursor, include_total } = query.0;
    let kept = fleet.kept(tenant.as_deref()).await?.into_iter().map(KeptView::from).collect();
    let (scope, list) = ((None, &router.installation().mac), ("admin/kept-databases", tenant.unwrap_or_default()));
    let few = ListFew { page_size, cursor, include_total };
    few.bound(scope, list, kept, |kept: &KeptView| format!("{} {}", kept.cluster, kept.database_name))
}

/// Drops what moves and restores have left of a tenant, now instead of after the grace period; also of one that is gone, by
/// its id.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminDropKeptDatabases",
    params(("id" = String, Path, description = "Id or slug; the id alone of a tenant that is gone")),
    responses((status = 204, description = "Nothing is kept of it any more"), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/tenants/{id}/kept-databases")]
pub async fn drop_kept_databases(
    _: NoQuery,
    _: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
) -> ApiResult<NoContent> {
    let fleet = fleet.into_inner();
    // What was begun ends, also if whoever asked goes away.
    let dropping = request::carried(async move { fleet.drop_kept_now(&id.0).await });
    actix_web::rt::spawn(dropping).await.map_err(ApiError::internal)??;
    Ok(NoContent)
}
