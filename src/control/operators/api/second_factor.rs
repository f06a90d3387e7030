//! My second factor.

use actix_web::{post, web};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::docs::{ChangeRefusals, Refusals};
use crate::control::operators::{Oneself, Operator, Operators};
use crate::error::ApiResult;
use crate::rest::totp::Enrolment;
use crate::rest::{Envelope, ErrorEnvelope, Json, NoContent, NoQuery, Reply};

/// A code, to show that the authenticator is at hand.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtpCode {
    /// The authenticator's code of now.
    #[garde(skip)]
    #[schema(value_type = String, example = "123456")]
    pub code: SecretString,
}

/// Begins a second factor: what the authenticator is told, shown once. It counts once a code is confirmed.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorEnrolTotp",
    responses((status = 200, description = "For the authenticator", body = Envelope<Enrolment>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/mfa/totp")]
pub async fn enrol_totp(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
) -> ApiResult<Reply<Enrolment>> {
    Ok(Reply(operators.enrol(operator.id, &operator.email).await?))
}

/// Codes for whoever lost the authenticator, each good once. Shown once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Ten of them.
    pub recovery_codes: Vec<String>,
}

/// Confirms the second factor by its first code: from here on a login asks for one, and other sessions end.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorConfirmTotp",
    request_body = OtpCode,
    responses(
        (status = 200, description = "It counts", body = Envelope<RecoveryCodes>),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/mfa/totp/confirm")]
pub async fn confirm_totp(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
    body: Json<OtpCode>,
) -> ApiResult<Reply<RecoveryCodes>> {
    let codes = operators.confirm(operator.id, operator.session, body.0.code).await?;
    Ok(Reply(RecoveryCodes { recovery_codes: codes.iter().map(|code| code.expose_secret().to_owned()).collect() }))
}

/// Takes the second factor away, by a code of it.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorRemoveTotp",
    request_body = OtpCode,
    responses(
        (status = 204, description = "A login asks for none any more"),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/mfa/totp/remove")]
pub async fn remove_totp(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
    body: Json<OtpCode>,
) -> ApiResult<NoContent> {
    operators.remove_second_factor(operator.id, body.0.code).await?;
    Ok(NoContent)
}
