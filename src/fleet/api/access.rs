//! An operator's own password and second factor, changed once per `Idempotency-Key`.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ChangeRefusals, Refusals};
use crate::control::operators::{Oneself, Operator, Operators};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::Fleet;
use crate::fleet::once::Before;
use crate::rest::totp::Enrolment;
use crate::rest::{Answer, Envelope, ErrorEnvelope, Idempotency, Json, NoBody, NoQuery};

/// Another password.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeOperatorPassword {
    /// The present one.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub current_password: SecretString,
    /// What it is to be.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "another sentence of uncommon words")]
    pub new_password: SecretString,
}

/// Changes one's own password, and ends one's other sessions. Wrong guesses are counted: after five within 15 minutes, it is
/// `too_many_attempts`, right or wrong.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorChangePassword",
    params(("Idempotency-Key" = Option<String>, Header, description = "Changes once, however often it is sent")),
    request_body = ChangeOperatorPassword,
    responses(
        (status = 204, description = "Changed"),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/change-password")]
pub async fn change_password(
    _: NoQuery,
    operator: Operator<Oneself>,
    (fleet, operators): (web::Data<Fleet>, web::Data<Operators>),
    idempotency: Idempotency,
    body: Json<ChangeOperatorPassword>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |_: Fleet, _: Uuid, before: Before| -> ApiResult<Answer<()>> {
        let ChangeOperatorPassword { current_password, new_password } = body.0;
        let email = operator.email.as_str();
        // Where it was changed and nobody heard, the present one is the new one, and no wrong guess.
        if before == Before::Nothing || !operators.has_password(who, email, new_password.clone()).await? {
            operators.change_password((who, email, operator.session), current_password, new_password).await?;
        }
        Ok(Answer::no_content())
    };
    fleet.once_told(who, idempotency, effect).await
}

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
    params(("Idempotency-Key" = Option<String>, Header, description = "Begins once, however often it is sent: again, it answers with the seed that waits")),
    responses((status = 200, description = "For the authenticator", body = Envelope<Enrolment>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/mfa/totp")]
pub async fn enrol_totp(
    _: NoQuery,
    operator: Operator<Oneself>,
    (fleet, operators): (web::Data<Fleet>, web::Data<Operators>),
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |before: Before| -> ApiResult<Answer<Enrolment>> {
        Ok(Answer::ok(match before {
            // One that waits is none yet: who was not told of it gets another.
            Before::Nothing | Before::Begun => operators.enrol(operator.id, &operator.email).await?,
            Before::Answered => operators.begun(operator.id, &operator.email).await?,
        }))
    };
    fleet.once_secret(who, idempotency, effect).await
}

/// Codes for whoever lost the authenticator, each good once. Shown once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Ten of them.
    pub recovery_codes: Vec<String>,
}

fn is_gone() -> ApiError {
    ApiError::new(Code::Conflict).detail("The second factor that this confirmed is there no more.")
}

/// Confirms the second factor by its first code: from here on a login asks for one, and other sessions end.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorConfirmTotp",
    params(("Idempotency-Key" = Option<String>, Header, description = "Confirms once, however often it is sent: again, it answers with new recovery codes")),
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
    operator: Operator<Oneself>,
    (fleet, operators): (web::Data<Fleet>, web::Data<Operators>),
    idempotency: Idempotency,
    body: Json<OtpCode>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |before: Before| -> ApiResult<Answer<RecoveryCodes>> {
        let code = body.0.code;
        let other = match before {
            Before::Nothing => None,
            Before::Begun => operators.other_codes(operator.id, code.clone()).await?,
            Before::Answered => Some(operators.other_codes(operator.id, code.clone()).await?.ok_or_else(is_gone)?),
        };
        let codes = match other {
            Some(codes) => codes,
            None => operators.confirm(operator.id, operator.session, code).await?,
        };
        let recovery_codes = codes.iter().map(|code| code.expose_secret().to_owned()).collect();
        Ok(Answer::ok(RecoveryCodes { recovery_codes }))
    };
    fleet.once_secret(who, idempotency, effect).await
}

/// Takes the second factor away, by a code of it.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorRemoveTotp",
    params(("Idempotency-Key" = Option<String>, Header, description = "Removes once, however often it is sent")),
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
    operator: Operator<Oneself>,
    (fleet, operators): (web::Data<Fleet>, web::Data<Operators>),
    idempotency: Idempotency,
    body: Json<OtpCode>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |_: Fleet, _: Uuid, before: Before| -> ApiResult<Answer<()>> {
        // Where it was removed and nobody heard, there is none that the code could be of.
        if before == Before::Nothing || operators.has_second_factor(who).await? {
            operators.remove_second_factor(who, body.0.code).await?;
        }
        Ok(Answer::no_content())
    };
    fleet.once_told(who, idempotency, effect).await
}
