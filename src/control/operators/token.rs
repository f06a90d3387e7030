//! Operators' tokens: JWS, EdDSA, `typ: op+jwt`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::OperatorRole;
use crate::kernel::{OperatorId, SessionId};

/// The `typ` of an operator's token.
pub const OPERATOR_TYP: &str = "op+jwt";

/// The claims of an operator's token. Nothing else is accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorClaims {
    /// `<public url>/admin`.
    pub iss: String,
    /// The same as `iss`.
    pub aud: String,
    /// The operator.
    pub sub: OperatorId,
    /// The session.
    pub sid: SessionId,
    /// This token.
    pub jti: Uuid,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
    /// What the operator may do.
    pub role: OperatorRole,
}

/// The `typ` of a token that is good for the second factor alone.
pub const SECOND_FACTOR_TYP: &str = "op-mfa+jwt";

/// The claims of such a token. Nothing else is accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecondFactorClaims {
    /// `<public url>/admin`.
    pub(super) iss: String,
    /// The same as `iss`.
    pub(super) aud: String,
    /// The operator.
    pub(super) sub: OperatorId,
    /// This token.
    pub(super) jti: Uuid,
    /// Issued at, Unix seconds.
    pub(super) iat: i64,
    /// Expires at, Unix seconds.
    pub(super) exp: i64,
}
