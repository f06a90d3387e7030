//! Where databases are not what their migrations make, for operators.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::jobs::{JobView, accepted};
use super::{ChangeRefusals, Refusals};
use crate::control::operators::Operator;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::kernel::Slug;
use crate::rest::{Envelope, Idempotency, NoQuery, OptionalJson};

/// Which tenants to compare.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewComparison {
    /// These tenants alone; all of them if it is left out.
    #[garde(inner(length(max = 1000)))]
    pub only: Option<Vec<Slug>>,
}

/// Has a worker compare each tenant's catalog with what its migrations make at the same version.
///
/// The job's `result` has `compared`, how many were; `tenants`, those that differ or could not be compared, each with
/// its `differences` or its `error`, at most 1000; and `leftOut`, how many more there are of those.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminCompareFleet",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    request_body(content = NewComparison, example = json!({"only": ["acme"]})),
    responses((status = 202, description = "It is a job now", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/fleet/drift")]
pub async fn compare_fleet(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    body: OptionalJson<NewComparison>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let only = body.0.unwrap_or_default().only.unwrap_or_default();
    let effect = async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.drift_later(only, Some(who)).await?)) };
    fleet.once(who, idempotency, effect).await
}
