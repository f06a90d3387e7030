//! The second half of a login, over HTTP.

use actix_web::{post, web};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::challenge::{Passed, Waiting, With};
use crate::error::ApiResult;
use crate::rest::totp::Enrolment;
use crate::rest::{Client, Envelope, ErrorEnvelope, Hints, Json, NoQuery, Reply};
use crate::router::Router;
use crate::tenant::auth::passkeys::PasskeyOptions;
use crate::tenant::auth::session::{SignIn, expose_some};
use crate::tenant::auth::settings::Auth;
use crate::tenant::docs::StrangerRefusals;

/// The second half of a login.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecondFactor {
    /// The token that the first half gave.
    #[garde(skip)]
    #[schema(value_type = String, example = "tmf_AZq…")]
    pub mfa_token: SecretString,
    /// The authenticator's code of now, or a recovery code.
    #[garde(skip)]
    #[schema(value_type = String, example = "123456")]
    pub code: SecretString,
    /// Ask this device for no second factor for 30 days: the answer has a `deviceToken` for its next login.
    #[serde(default)]
    #[garde(skip)]
    pub trust_device: bool,
}

/// A login that waits for its second half.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeginEnrolment {
    /// The token that the first half gave.
    #[garde(skip)]
    #[schema(value_type = String, example = "tmf_AZq…")]
    pub mfa_token: SecretString,
}

/// The first code of a second factor.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfirmEnrolment {
    /// The token that the first half gave.
    #[garde(skip)]
    #[schema(value_type = String, example = "tmf_AZq…")]
    pub mfa_token: SecretString,
    /// The authenticator's code of now.
    #[garde(skip)]
    #[schema(value_type = String, example = "123456")]
    pub code: SecretString,
}

/// A login with a second factor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInWithFactor {
    /// The session.
    #[serde(flatten)]
    pub sign_in: SignIn,
    /// For the device's next login, where it was to be trusted. Shown once.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tdv_AZq…")]
    pub device_token: Option<SecretString>,
    /// Ten codes for whoever loses the authenticator, where it was just enrolled. Shown once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["8f3k-…"]))]
    pub recovery_codes: Vec<String>,
}

impl From<Passed> for SignInWithFactor {
    fn from(passed: Passed) -> Self {
        let Passed { sign_in, device, recovery_codes } = passed;
        let recovery_codes = recovery_codes.iter().map(|code| code.expose_secret().to_owned()).collect();
        Self { sign_in, device_token: device, recovery_codes }
    }
}

/// Signs in who has a second factor. A code is good once, and a wrong one counts like a wrong password.
#[utoipa::path(
    tag = "auth",
    request_body = SecondFactor,
    responses(
        (status = 200, description = "Signed in", body = Envelope<SignInWithFactor>),
        (status = 401, description = "`invalid_credentials`, `token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/mfa")]
pub async fn second_factor(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<SecondFactor>,
) -> ApiResult<Reply<SignInWithFactor>> {
    let SecondFactor { mfa_token, code, trust_device: trust } = body.0;
    let waiting = Waiting::find(&router, &hints, &mfa_token).await?;
    Ok(Reply(waiting.pass(&auth, &client, With::Code { code: &code, trust }).await?.into()))
}

/// Begins the second factor of somebody who has to have one to come in: what the authenticator is told, shown once.
#[utoipa::path(
    tag = "auth",
    request_body = BeginEnrolment,
    responses(
        (status = 200, description = "For the authenticator", body = Envelope<Enrolment>),
        (status = 401, description = "`token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "There is a second factor or a passkey already", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/mfa/enrolment")]
pub async fn begin_enrolment(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    body: Json<BeginEnrolment>,
) -> ApiResult<Reply<Enrolment>> {
    Ok(Reply(Waiting::find(&router, &hints, &body.0.mfa_token).await?.enrol(&auth).await?))
}

/// Confirms it by its first code, and signs in.
#[utoipa::path(
    tag = "auth",
    request_body = ConfirmEnrolment,
    responses(
        (status = 200, description = "Signed in", body = Envelope<SignInWithFactor>),
        (status = 401, description = "`invalid_credentials`, `token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "No second factor waits for its first code, or there is a passkey", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/mfa/enrolment/confirm")]
pub async fn confirm_enrolment(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<ConfirmEnrolment>,
) -> ApiResult<Reply<SignInWithFactor>> {
    let ConfirmEnrolment { mfa_token, code } = body.0;
    let waiting = Waiting::find(&router, &hints, &mfa_token).await?;
    Ok(Reply(waiting.pass(&auth, &client, With::FirstCode(&code)).await?.into()))
}

/// A login that waits for a passkey's answer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasskeyFactor {
    /// The token that the first half gave.
    #[garde(skip)]
    #[schema(value_type = String, example = "tmf_AZq…")]
    pub mfa_token: SecretString,
    /// As the options say.
    #[garde(skip)]
    pub ceremony_id: Uuid,
    /// What `navigator.credentials.get` gave, by `toJSON()`.
    #[garde(skip)]
    #[schema(value_type = Object)]
    pub credential: Value,
    /// Ask this device for no second factor for 30 days: the answer has a `deviceToken` for its next login.
    #[serde(default)]
    #[garde(skip)]
    pub trust_device: bool,
}

/// What a passkey is asked with in the second half of a login: for `methods` with `webauthn`.
#[utoipa::path(
    tag = "auth",
    request_body = BeginEnrolment,
    responses(
        (status = 200, description = "For the browser", body = Envelope<PasskeyOptions>),
        (status = 401, description = "`token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "There is no passkey", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/mfa/webauthn/options")]
pub async fn passkey_factor_options(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    body: Json<BeginEnrolment>,
) -> ApiResult<Reply<PasskeyOptions>> {
    Ok(Reply(Waiting::find(&router, &hints, &body.0.mfa_token).await?.ask_passkey(&auth).await?))
}

/// Signs in who has a passkey. An answer is good once, and a wrong one counts like a wrong password.
#[utoipa::path(
    tag = "auth",
    request_body = PasskeyFactor,
    responses(
        (status = 200, description = "Signed in", body = Envelope<SignInWithFactor>),
        (status = 401, description = "`invalid_credentials`, `token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "There are no passkeys here", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/mfa/webauthn")]
pub async fn passkey_factor(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<PasskeyFactor>,
) -> ApiResult<Reply<SignInWithFactor>> {
    let PasskeyFactor { mfa_token, ceremony_id, credential, trust_device: trust } = body.0;
    let waiting = Waiting::find(&router, &hints, &mfa_token).await?;
    let with = With::Passkey { answer: (ceremony_id, &credential), trust };
    Ok(Reply(waiting.pass(&auth, &client, with).await?.into()))
}
