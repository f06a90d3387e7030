//! Login in one step or two, logout, who am I, my sessions, my second factor.

use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::Oneself;
use super::service::{LIFETIME, LoggedIn};
use super::store::{self, SessionRow};
use super::{Operator, OperatorRole, Operators};
use crate::control::docs::{ChangeRefusals, Refusals};
use crate::control::fault;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{OperatorId, SessionId, Slug};
use crate::rest::totp::Enrolment;
use crate::rest::{Client, Envelope, ErrorEnvelope, Json, NoContent, NoQuery, Path, Reply};
use crate::router::MainConn;

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

/// The second half of a login.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecondFactor {
    /// The token that the first half gave.
    #[garde(length(max = 4096))]
    pub mfa_token: String,
    /// The authenticator's code of now, or a recovery code.
    #[garde(skip)]
    #[schema(value_type = String, example = "123456")]
    pub code: SecretString,
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

/// How a login goes on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum OperatorLoggedIn {
    /// In.
    Token(OperatorToken),
    /// The second factor is asked for.
    SecondFactor(SecondFactorRequired),
}

/// A token for the second factor, to be given within five minutes to `/api/v1/admin/auth/mfa`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecondFactorRequired {
    /// `true`.
    pub mfa_required: bool,
    /// Good for the second factor alone.
    pub mfa_token: String,
    /// `otp`, `recovery`.
    pub methods: Vec<&'static str>,
}

impl From<LoggedIn> for OperatorLoggedIn {
    fn from(logged_in: LoggedIn) -> Self {
        match logged_in {
            LoggedIn::Token(access_token, operator) => Self::Token(OperatorToken {
                access_token,
                token_type: "Bearer",
                expires_in: LIFETIME.num_seconds(),
                operator: OperatorView { id: operator.id, email: operator.email, role: operator.role },
            }),
            LoggedIn::SecondFactor(mfa_token) => {
                let methods = vec!["otp", "recovery"];
                Self::SecondFactor(SecondFactorRequired { mfa_required: true, mfa_token, methods })
            }
        }
    }
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
        (status = 200, description = "Signed in, or the second factor is asked for", body = Envelope<OperatorLoggedIn>),
        (status = 400, description = "Not JSON", body = ErrorEnvelope),
        (status = 401, description = "`invalid_credentials`", body = ErrorEnvelope),
        (status = 415, description = "The body is not `application/json`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        (status = 503, description = "Busy, or the control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[post("/api/v1/admin/auth/login")]
pub async fn login(
    operators: web::Data<Operators>,
    client: Client,
    body: Json<OperatorLogin>,
) -> ApiResult<Reply<OperatorLoggedIn>> {
    let OperatorLogin { email, password } = body.0;
    Ok(Reply(operators.log_in(&email, password, client).await?.into()))
}

/// Signs an operator in who has a second factor. A code is good once, and counted like a password.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorSecondFactor",
    request_body = SecondFactor,
    responses(
        (status = 200, description = "Signed in", body = Envelope<OperatorToken>),
        (status = 400, description = "Not JSON", body = ErrorEnvelope),
        (status = 401, description = "`invalid_credentials`, `token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 415, description = "The body is not `application/json`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        (status = 503, description = "The control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[post("/api/v1/admin/auth/mfa")]
pub async fn second_factor(
    operators: web::Data<Operators>,
    client: Client,
    body: Json<SecondFactor>,
) -> ApiResult<Reply<OperatorLoggedIn>> {
    let SecondFactor { mfa_token, code } = body.0;
    Ok(Reply(operators.log_in_further(&mfa_token, code, client).await?.into()))
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
pub async fn logout(operators: web::Data<Operators>, operator: Operator<Oneself>) -> ApiResult<NoContent> {
    operators.end_session(operator.id, operator.session).await?;
    Ok(NoContent)
}

/// The operator behind a token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Myself {
    /// Who.
    #[serde(flatten)]
    pub operator: OperatorView,
    /// Whether a login asks for a second factor.
    pub second_factor: bool,
    /// The tenants of an owner; null for those who know of all.
    pub tenants: Option<Vec<Slug>>,
}

/// Who the token is of.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorMe",
    responses((status = 200, description = "The operator", body = Envelope<Myself>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/auth/me")]
pub async fn me(_: NoQuery, operators: web::Data<Operators>, operator: Operator<Oneself>) -> ApiResult<Reply<Myself>> {
    let id = operator.id;
    let read = async move |conn: &mut MainConn| {
        Ok::<_, ApiError>((store::find(conn, id).await?, store::tenants_of(conn, id).await?))
    };
    let (found, slugs) = operators.control().db.read(read).await.map_err(fault)?;
    let tenants = operator.reach().only().map(|_| slugs);
    let view = OperatorView { id, email: operator.email, role: operator.role };
    Ok(Reply(Myself { operator: view, second_factor: found.second_factor, tenants }))
}

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorSession {
    /// Identity.
    pub id: SessionId,
    /// Whether it is that of the token.
    pub current: bool,
    /// From where it was opened.
    pub address: Option<String>,
    /// By what.
    pub user_agent: Option<String>,
    /// Whether it was opened with a second factor.
    pub second_factor: bool,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// One's open sessions, the latest first.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorListSessions",
    responses((status = 200, description = "The sessions", body = Envelope<Vec<OperatorSession>>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/auth/sessions")]
pub async fn list_sessions(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
) -> ApiResult<Reply<Vec<OperatorSession>>> {
    let (id, now) = (operator.id, operators.control().clock.now());
    let read = async move |conn: &mut MainConn| store::open_sessions(conn, id, now).await;
    let open = operators.control().db.read(read).await.map_err(fault)?;
    let view = |row: SessionRow| OperatorSession {
        current: row.id == operator.session,
        id: row.id,
        address: row.address,
        user_agent: row.user_agent,
        second_factor: row.second_factor,
        created_at: row.created_at,
        expires_at: row.expires_at,
    };
    Ok(Reply(open.into_iter().map(view).collect()))
}

/// Ends one of one's sessions; on this node at once, on the others within a second.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorEndSession",
    params(("id" = SessionId, Path, description = "The session")),
    responses((status = 204, description = "Ended"), Refusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/auth/sessions/{id}")]
pub async fn end_session(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
    id: Path<SessionId>,
) -> ApiResult<NoContent> {
    if operators.end_session(operator.id, id.0).await? { Ok(NoContent) } else { Err(ApiError::not_found("session")) }
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

/// Confirms the second factor by its first code: from here on a login asks for one.
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
    let codes = operators.confirm(operator.id, body.0.code).await?;
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
