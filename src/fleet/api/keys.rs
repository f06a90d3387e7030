//! Rotation of a tenant's signing key, for operators.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operators::Operator;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::signing_keys::{RotateKeys, RotatedKeys};
use crate::rest::{Answer, Envelope, Idempotency, NoQuery, OptionalJson, Path};
use crate::router::KeyAlgorithm;
use crate::tenant::auth::{Auth, delta};

/// How to rotate.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKeysBody {
    /// What the next key signs with; as the one before, if left out.
    #[garde(skip)]
    pub algorithm: Option<KeyAlgorithm>,
    /// It signs within seconds, instead of after the two minutes in which whoever verifies tokens gets to know it.
    #[serde(default)]
    #[garde(skip)]
    pub now: bool,
    /// The former keys are in wrong hands: as `now`, and their tokens are refused from then on.
    #[serde(default)]
    #[garde(skip)]
    pub compromised: bool,
}

/// Gives a tenant another signing key. It is published at once and signs two minutes later; tokens of the former one are
/// accepted until they end.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRotateKeys",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body(content = Option<RotateKeysBody>, example = json!({"algorithm": "EdDSA"})),
    responses((status = 200, description = "The next key", body = Envelope<RotatedKeys>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/rotate-keys")]
pub async fn rotate_keys(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    auth: web::Data<Auth>,
    id: Path<String>,
    idempotency: Idempotency,
    body: OptionalJson<RotateKeysBody>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let RotateKeysBody { algorithm, now, compromised } = body.0.unwrap_or_default();
    let wanted = RotateKeys { algorithm, now, compromised, token_ttl: delta(auth.settings.access_token_ttl) };
    let effect = async move |fleet: Fleet, request: Uuid| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        fleet.rotate_keys_once(tenant.id, request.into(), wanted).await.map(Answer::ok)
    };
    fleet.once_known(who, idempotency, effect).await
}
