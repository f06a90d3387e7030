//! A token of one of a tenant's people, for an operator who is to see what they see.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operators::Operator;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::impersonate::{TokenGiven, TokenWanted};
use crate::fleet::once::Before;
use crate::rest::{Answer, Envelope, Idempotency, Json, NoQuery, Path};
use crate::router::Router;

/// As whom, and why.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewImpersonation {
    /// The person's address at the tenant.
    #[garde(length(min = 1, max = 320))]
    #[schema(example = "ada@acme.example")]
    pub user: String,
    /// Why; the tenant reads it in its audit.
    #[garde(length(chars, min = 1, max = 500))]
    #[schema(example = "ticket 4711: missing contacts")]
    pub reason: String,
}

/// Opens a session in a person's name, for 15 minutes, and gives its token: it says who acts (`act`), and changes nothing about
/// who comes in and with what rights. It stands, with the reason, in the tenant's own audit.
///
/// The token is kept nowhere: a repetition under an `Idempotency-Key` opens another session.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminImpersonate",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same body again gives a fresh token, another body is refused"),
    ),
    request_body = NewImpersonation,
    responses((status = 201, description = "The token", body = Envelope<TokenGiven>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/tokens")]
pub async fn impersonate(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    body: Json<NewImpersonation>,
) -> ApiResult<HttpResponse> {
    let (who, acting) = (operator.id, fleet.clone());
    let effect = async move |_: Before| -> ApiResult<Answer<TokenGiven>> {
        let tenant = tenant_of(&operator, &acting, &id.0).await?;
        let NewImpersonation { user, reason } = body.0;
        let actor = format!("operator:{}", operator.id);
        let wanted = TokenWanted { tenant: tenant.id.to_string(), user, actor, reason };
        Ok(Answer::created(acting.impersonate(&wanted, &router.config().public_url).await?))
    };
    fleet.once_secret(who, idempotency, effect).await
}
