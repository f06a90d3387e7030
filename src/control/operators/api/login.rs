//! Login in one step or two.

use actix_web::{post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OperatorView;
use crate::control::docs::LoginRefusals;
use crate::control::operators::Operators;
use crate::control::operators::service::{LIFETIME, LoggedIn};
use crate::error::ApiResult;
use crate::rest::{Client, Envelope, Json, RateNote, Reply};
use crate::router::Rate;

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
/// An unknown address, a wrong password and a disabled operator answer alike. After five failures within 15 minutes the
/// address is locked, whether it is anybody's or not.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorLogin",
    request_body = OperatorLogin,
    responses(
        (status = 200, description = "Signed in, or the second factor is asked for", body = Envelope<OperatorLoggedIn>),
        LoginRefusals,
    ),
)]
#[post("/api/v1/admin/auth/login")]
pub async fn login(
    operators: web::Data<Operators>,
    client: Client,
    rate: RateNote,
    body: Json<OperatorLogin>,
) -> ApiResult<Reply<OperatorLoggedIn>> {
    let OperatorLogin { email, password } = body.0;
    let stands = |standing: Rate| rate.note("login", standing);
    Ok(Reply(operators.log_in(&email, password, client, &stands).await?.into()))
}

/// Signs an operator in who has a second factor. A code is good once, and counted like a password.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorSecondFactor",
    request_body = SecondFactor,
    responses(
        (status = 200, description = "Signed in", body = Envelope<OperatorToken>),
        LoginRefusals,
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
