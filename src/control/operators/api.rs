//! Login, logout, who am I.

use actix_web::{get, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::service::LIFETIME;
use super::{Operator, OperatorRole, Operators};
use crate::error::ApiResult;
use crate::kernel::OperatorId;
use crate::rest::{Envelope, ErrorEnvelope, Json, NoContent, Reply};

/// An operator who wants in.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorLogin {
    /// Address.
    #[garde(length(max = 320))]
    #[schema(example = "ops@example.com")]
    pub email: String,
    /// Password.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub password: SecretString,
}

/// An operator.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// Identity.
    pub id: OperatorId,
    /// Address.
    pub email: String,
    /// What they may do.
    pub role: OperatorRole,
}

/// A token for `/api/v1/admin`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorToken {
    /// For `Authorization: Bearer …`.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: &'static str,
    /// Seconds that it is good for.
    pub expires_in: i64,
    /// Whose it is.
    pub operator: OperatorView,
}

/// Signs an operator in.
///
/// An unknown address, a wrong password and a disabled operator answer alike. After five attempts within 15 minutes the
/// address is locked, whether it is anybody's or not.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorLogin",
    request_body = OperatorLogin,
    responses(
        (status = 200, description = "Signed in", body = Envelope<OperatorToken>),
        (status = 400, description = "Not JSON", body = ErrorEnvelope),
        (status = 401, description = "`invalid_credentials`", body = ErrorEnvelope),
        (status = 415, description = "The body is not `application/json`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        (status = 503, description = "Busy, or the control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[post("/api/v1/admin/auth/login")]
pub async fn login(operators: web::Data<Operators>, body: Json<OperatorLogin>) -> ApiResult<Reply<OperatorToken>> {
    let OperatorLogin { email, password } = body.0;
    let (access_token, operator) = operators.log_in(&email, password).await?;
    Ok(Reply(OperatorToken {
        access_token,
        token_type: "Bearer",
        expires_in: LIFETIME.num_seconds(),
        operator: OperatorView { id: operator.id, email: operator.email, role: operator.role },
    }))
}

/// Ends the session of the token.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorLogout",
    security(("operator" = [])),
    responses(
        (status = 204, description = "Signed out"),
        (status = 401, description = "No token, or a bad, expired or revoked one", body = ErrorEnvelope),
        (status = 503, description = "The control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[post("/api/v1/admin/auth/logout")]
pub async fn logout(operators: web::Data<Operators>, operator: Operator) -> ApiResult<NoContent> {
    operators.log_out(operator.session).await?;
    Ok(NoContent)
}

/// Who the token is of.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorMe",
    security(("operator" = [])),
    responses(
        (status = 200, description = "The operator", body = Envelope<OperatorView>),
        (status = 401, description = "No token, or a bad, expired or revoked one", body = ErrorEnvelope),
        (status = 503, description = "The control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[get("/api/v1/admin/auth/me")]
pub async fn me(operator: Operator) -> Reply<OperatorView> {
    Reply(OperatorView { id: operator.id, email: operator.email, role: operator.role })
}
