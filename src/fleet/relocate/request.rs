//! What a move is asked for, and what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Method, TableChecksum};
use crate::control::tenants::TenantRecord;
use crate::fleet::StepTime;

/// What a move is asked for.
#[derive(Debug, Clone)]
pub struct MoveTenant {
    /// The cluster's name; the least loaded one if absent.
    pub to: Option<String>,
    /// How long requests may be held; past that, nothing has changed.
    pub hold_deadline: Duration,
    /// How the rows get there; by the size of the database if absent.
    pub method: Option<Method>,
}

/// How long requests may be held, if nobody says otherwise.
pub const HOLD_DEADLINE: Duration = Duration::from_secs(30);

/// The longest that they may be held.
pub const LONGEST_HOLD: Duration = Duration::from_secs(600);

impl Default for MoveTenant {
    fn default() -> Self {
        Self { to: None, hold_deadline: HOLD_DEADLINE, method: None }
    }
}

/// What came of a move.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Relocation {
    /// The cluster that it was on.
    pub from: String,
    /// The cluster that it is on.
    pub to: String,
    /// How the rows got there.
    pub method: Method,
    /// How long requests were held, in milliseconds.
    pub pause_ms: u64,
    /// What was compared, the same on both sides.
    pub checksums: Vec<TableChecksum>,
    /// Sequences that were compared.
    pub sequences: usize,
}

/// A tenant at its new place.
#[derive(Debug)]
pub struct Moved {
    /// The tenant.
    pub tenant: TenantRecord,
    /// What came of it.
    pub relocation: Relocation,
    /// What was done.
    pub steps: Vec<StepTime>,
}
