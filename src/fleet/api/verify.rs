//! The proof of isolation, for operators.

use actix_web::{HttpResponse, post, web};

use super::jobs::{JobView, accepted};
use super::{ChangeRefusals, Refusals};
use crate::control::operators::Operator;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::rest::{Envelope, Idempotency, NoBody, NoQuery};

/// Has a worker prove the isolation of the installation, at its public URL.
///
/// The job is `done` whatever was found; its `result` has `passed`, the report as the text `document`, and the `signature`
/// of that: saved as they are, `tenantry fleet verify --check` checks them. A report lists at most 1000 faults and 1000
/// tenants, and says how many more there are.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminVerifyFleet",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    responses((status = 202, description = "A job, `Location` says where", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/fleet/verify")]
pub async fn verify_fleet(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.verify_later(Some(who)).await?)) };
    fleet.once(who, idempotency, effect).await
}
