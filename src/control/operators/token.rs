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
