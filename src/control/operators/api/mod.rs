//! Signing in and out, who am I, my sessions.

pub mod login;
pub mod sessions;

use serde::Serialize;
use utoipa::ToSchema;

use super::OperatorRole;
use crate::kernel::OperatorId;

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
