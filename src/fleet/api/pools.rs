//! The connection pools of the node that answers, for operators.

use actix_web::{HttpRequest, get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use crate::control::operators::{Operator, Survey};
use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::rest::{Envelope, Query, Reply};
use crate::router::MOST_TENANTS;
use crate::router::{PoolsReport, Router, TopBy};

const DEFAULT_LIMIT: usize = 50;

/// Which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopTenants {
    /// By what tenants stand out; `wait` if left out.
    #[param(inline)]
    pub by: Option<TopBy>,
    /// How many tenants, 1 to 1000; 50 if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

/// The pools of one node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePools {
    /// The node that answered: the machine's name and the port.
    pub node: String,
    /// Its pools.
    #[serde(flatten)]
    pub pools: PoolsReport,
}

/// The connection pools of the node that answers, and the tenants that stand out most.
///
/// Counts of time and requests are those since the node got to know the tenant: take the difference of two answers of
/// the same node. A tenant without connections, waiting requests or an open breaker is not listed.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListPools",
    params(TopTenants),
    responses((status = 200, description = "The pools of this node", body = Envelope<NodePools>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/pools")]
pub async fn list_pools(
    _: Operator<Survey>,
    router: web::Data<Router>,
    query: Query<TopTenants>,
    request: HttpRequest,
) -> ApiResult<Reply<NodePools>> {
    let TopTenants { by, limit } = query.0;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST_TENANTS).contains(&limit) {
        let (code, message) = (if limit == 0 { "too_small" } else { "too_large" }, "Must be from 1 to 1000.");
        return Err(ApiError::new(Code::InvalidQuery)
            .detail("The query parameter 'limit' has a bad value.")
            .field(FieldError::new("limit", code, message)));
    }
    let pools = router.pools().report(by.unwrap_or(TopBy::Wait), limit);
    Ok(Reply(NodePools { node: node_name(&request), pools }))
}

fn node_name(request: &HttpRequest) -> String {
    let machine = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    format!("{}:{}", machine.unwrap_or_else(|_| "unknown".into()), request.app_config().local_addr().port())
}
