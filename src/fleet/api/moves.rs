//! What moves and renews: longer work on tenants and clusters, left to workers.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::tenants::OperatedTenant;
use super::{ChangeRefusals, JobView, Refusals, accepted, spans, tenant_of};
use crate::control::operators::Operator;
use crate::error::{ApiError, ApiResult};
use crate::fleet::once::Before;
use crate::fleet::relocate::{HOLD_DEADLINE, LONGEST_HOLD, Method};
use crate::fleet::{Fleet, MoveTenant, Silent};
use crate::rest::{Answer, Envelope, Idempotency, Json, NoBody, NoQuery, Path};
use crate::router::Router;

/// Where a tenant is to be; or what is to become of a move that was begun, or is done.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveRequest {
    /// The cluster's name. Needed, unless there is `abort` or `confirm`.
    #[garde(inner(length(min = 1, max = 63)))]
    pub to: Option<String>,
    /// How long its requests may wait, in milliseconds; 30,000 if left out. Past that the move is taken back.
    #[garde(inner(range(min = 1, max = 600_000)))]
    pub hold_deadline_ms: Option<u64>,
    /// The same as the command line has it, such as `30s`; not along with `holdDeadlineMs`.
    #[garde(skip)]
    pub hold_deadline: Option<String>,
    /// How the rows get there; by the size of its database if left out.
    #[garde(skip)]
    pub method: Option<Method>,
    /// Take a move back that is under way: the tenant stays where it is. Stands alone.
    #[serde(default)]
    #[garde(skip)]
    pub abort: bool,
    /// Drop the old copy of a tenant that was moved, now instead of after the grace period. Stands alone.
    #[serde(default)]
    #[garde(skip)]
    pub confirm: bool,
}

/// What a [`MoveRequest`] asks for.
enum Asked {
    Move(MoveTenant),
    Settle(Settle),
}

/// What is to become of a move.
#[derive(Clone, Copy)]
enum Settle {
    Abort,
    Confirm,
}

/// A tenant whose move was taken back or confirmed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettledMove {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: OperatedTenant,
    /// How many old copies were dropped; not there after `abort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies_dropped: Option<usize>,
}

impl MoveRequest {
    fn read(self) -> ApiResult<Asked> {
        let Self { to, hold_deadline_ms, hold_deadline, method, abort, confirm } = self;
        let settled = match (abort, confirm) {
            (true, _) => Some(("abort", Settle::Abort)),
            (false, true) => Some(("confirm", Settle::Confirm)),
            (false, false) => None,
        };
        if let Some((name, settle)) = settled {
            let beside = [
                ("to", to.is_some()),
                ("holdDeadlineMs", hold_deadline_ms.is_some()),
                ("holdDeadline", hold_deadline.is_some()),
                ("method", method.is_some()),
                ("confirm", abort && confirm),
            ];
            return match beside.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(ApiError::invalid_field(field, "ambiguous", format!("'{name}' stands alone."))),
                None => Ok(Asked::Settle(settle)),
            };
        }
        let to = to.ok_or_else(|| ApiError::invalid_field("to", "required", "This field is required."))?;
        let hold_deadline = match (hold_deadline_ms, hold_deadline) {
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
        Ok(Asked::Move(MoveTenant { to: Some(to), hold_deadline, method }))
    }
}

/// Moves a tenant to another cluster. The job's `result` has `pauseMs` and the checksums. With `abort` or `confirm` it
/// takes a move back that was interrupted, or drops the old copy of one that is done, at once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminMoveTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body(content = MoveRequest, example = json!({"to": "eu-2", "holdDeadline": "30s"})),
    responses(
        (status = 200, description = "The move is taken back, or its old copy gone", body = Envelope<SettledMove>),
        (status = 202, description = "A job, `Location` says where", body = Envelope<JobView>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/move")]
pub async fn move_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    body: Json<MoveRequest>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let wanted = match body.0.read()? {
        Asked::Move(wanted) => wanted,
        Asked::Settle(settle) => {
            let effect = async move |fleet: Fleet, request: Uuid, before: Before| -> ApiResult<_> {
                let tenant = tenant_of(&operator, &fleet, &id.0).await?;
                let (tenant, copies_dropped) = match settle {
                    // Where it was taken back and nobody heard, none is under way.
                    Settle::Abort if before == Before::Begun && fleet.is_moved_back(tenant.id, request).await? => {
                        (tenant, None)
                    }
                    Settle::Abort => (fleet.abort_move(tenant.id, &Silent).await?, None),
                    Settle::Confirm => {
                        let dropped = fleet.confirm_move(tenant.id).await?;
                        (tenant, Some(dropped))
                    }
                };
                let (version, tenant) = (tenant.version, OperatedTenant::new(tenant, &router));
                Ok(Answer::ok(SettledMove { tenant, copies_dropped }).etag(version))
            };
            return fleet.once_told(who, idempotency, effect).await;
        }
    };
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
