//! Databases that are kept for a while, for operators.

use actix_web::{get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusals;
use crate::control::operators::{Operator, Survey};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::view::KeptView;
use crate::rest::{ListEnvelope, Listed, Query};

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListKept {
    /// Those of one tenant, by id or slug.
    pub tenant: Option<String>,
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
    query: Query<ListKept>,
) -> ApiResult<Listed<KeptView>> {
    Ok(Listed::whole(fleet.kept(query.0.tenant.as_deref()).await?.into_iter().map(Into::into).collect()))
}
