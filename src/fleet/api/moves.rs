//! What moves and renews: longer work on tenants and clusters, left to workers.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ChangeRefusals, JobView, Refusals, accepted, spans, tenant_of};
use crate::control::operators::Operator;
use crate::error::{ApiError, ApiResult};
use crate::fleet::relocate::{HOLD_DEADLINE, LONGEST_HOLD, Method};
use crate::fleet::{Fleet, MoveTenant};
use crate::rest::{Envelope, Idempotency, Json, NoBody, NoQuery, Path};

/// Where a tenant is to be.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveRequest {
    /// The cluster's name.
    #[garde(length(min = 1, max = 63))]
    pub to: String,
    /// How long its requests may wait, in milliseconds; 30,000 if left out. Past that the move is taken back.
    #[garde(inner(range(min = 1, max = 600_000)))]
    pub hold_deadline_ms: Option<u64>,
    /// The same as the command line has it, such as `30s`; not along with `holdDeadlineMs`.
    #[garde(skip)]
    pub hold_deadline: Option<String>,
    /// How the rows get there; by the size of its database if left out.
    #[garde(skip)]
    pub method: Option<Method>,
}

impl MoveRequest {
    fn read(self) -> ApiResult<MoveTenant> {
        let hold_deadline = match (self.hold_deadline_ms, self.hold_deadline) {
            (Some(_), Some(_)) => {
                let said = "Give either holdDeadline or holdDeadlineMs.";
                return Err(ApiError::invalid_field("holdDeadline", "ambiguous", said));
            }
            (Some(millis), None) => Duration::from_millis(millis),
            (None, Some(text)) => {
                let bounds = (Duration::from_millis(1)..=LONGEST_HOLD, "From 1ms to 10m.");
                spans::within("holdDeadline", &text, bounds)?
            }
            (None, None) => HOLD_DEADLINE,
        };
        Ok(MoveTenant { to: Some(self.to), hold_deadline, method: self.method })
    }
}

/// Gives a tenant's role another password.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRotateCredentials",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 202, description = "A job, `Location` says where", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/rotate-credentials")]
pub async fn rotate_credentials(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(accepted(fleet.rotate_later(&tenant, Some(operator.id)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// Moves a tenant to another cluster. The job's `result` has `pauseMs` and the checksums.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminMoveTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body(content = MoveRequest, example = json!({"to": "eu-2", "holdDeadline": "30s"})),
    responses((status = 202, description = "A job, `Location` says where", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/move")]
pub async fn move_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    idempotency: Idempotency,
    body: Json<MoveRequest>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let wanted = body.0.read()?;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(accepted(fleet.relocate_later(tenant.id, &wanted, Some(operator.id)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// Keeps new tenants off a cluster and moves its own to others. The job's `result` lists those that could not be moved.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminDrainCluster",
    params(
        ("name" = String, Path, description = "The cluster"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 202, description = "A job, `Location` says where", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/clusters/{name}/drain")]
pub async fn drain_cluster(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    name: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect =
        async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.drain_later(&name.0, Some(who)).await?)) };
    fleet.once(who, idempotency, effect).await
}
