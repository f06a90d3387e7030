//! Where somebody belongs to, told by mail.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::signup::SignUpSettings;
use crate::rest::{Answer, ClientIp, Envelope, ErrorEnvelope, Idempotency, Json, NoQuery};
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::users::rules::email_shape;

/// Whose workspaces.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FindWorkspaces {
    /// Address.
    #[garde(custom(email_shape))]
    #[schema(example = "ada@acme.test")]
    pub email: String,
}

/// A mail is on its way, if there is anything to tell.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspacesByMail {
    /// What happens next.
    #[schema(example = "If this address belongs to a workspace, a mail that lists them is on its way.")]
    pub message: &'static str,
}

const BY_MAIL: WorkspacesByMail =
    WorkspacesByMail { message: "If this address belongs to a workspace, a mail that lists them is on its way." };

/// Sends a mail that lists the tenants where somebody has this address, verified, and may come in.
///
/// The answer is always the same, and comes as quickly: the search is done afterwards. One address gets at most one mail
/// within a minute and five within an hour, so that sending it again does no more.
#[utoipa::path(
    tag = "auth",
    request_body = FindWorkspaces,
    params(("Idempotency-Key" = Option<String>, Header, description = "Without effect: sent again within a minute, it does no more")),
    responses(
        (status = 202, description = "A mail is on its way, if there is anything to tell", body = Envelope<WorkspacesByMail>),
        (status = 429, description = "`rate_limited`: too many searches from this network; wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/workspaces")]
pub async fn find_workspaces(
    _: NoQuery,
    fleet: web::Data<Fleet>,
    settings: web::Data<SignUpSettings>,
    client: ClientIp,
    idempotency: Idempotency,
    body: Json<FindWorkspaces>,
) -> ApiResult<HttpResponse> {
    fleet.ask_for_workspaces(&settings, client.0, &body.0.email).await?;
    idempotency.respond(Answer::accepted(BY_MAIL), false)
}
