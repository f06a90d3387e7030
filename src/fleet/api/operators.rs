//! Operators to be. To read and to change them is the control plane's.

use actix_web::{HttpResponse, post, web};
use uuid::Uuid;

use super::{ChangeRefusals, Refusals};
use crate::control::operators::{self, ManagedOperator, NewOperatorBody, Operator};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::rest::{Answer, Envelope, Idempotency, Json, NoQuery, Versioned as _};

/// Adds an operator.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminAddOperator",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    request_body = NewOperatorBody,
    responses((status = 201, description = "Added", body = Envelope<ManagedOperator>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/operators")]
pub async fn add_operator(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    body: Json<NewOperatorBody>,
) -> ApiResult<HttpResponse> {
    let effect = async move |fleet: Fleet, request: Uuid| -> ApiResult<_> {
        let added = operators::add(&fleet.control, &fleet.passwords, request.into(), body.0).await?;
        let (location, version) = (format!("/api/v1/admin/operators/{}", added.operator.id), added.version());
        Ok(Answer::created(added).location(location).etag(version))
    };
    fleet.once_known(operator.id, idempotency, effect).await
}
