//! Longer work, done in named steps along the journal: each step safe to repeat, the whole resumable after a crash at
//! any point, by the command that began it or by any worker.

pub(crate) mod background;
mod cancel;
mod journal;
pub(in crate::fleet) mod retention;

use std::fmt;
use std::future::Future;

use serde::Serialize;

pub(super) use journal::Journal;

use crate::control::operations::Operation;
use crate::error::{ApiError, ApiResult};
use crate::kernel::OperationId;

/// Hears of each step as it happens.
pub trait Progress: Send + Sync {
    /// A step begins.
    fn started(&self, _step: &str) {}
    /// The step under way has come so far, of so much.
    fn advanced(&self, _step: &str, _done: i64, _total: i64) {}
    /// A step is done.
    fn done(&self, _step: &StepTime) {}
    /// Something an operator should know.
    fn note(&self, _text: &str) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// A step and what it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StepTime {
    /// Name of the step.
    pub name: String,
    /// Milliseconds.
    pub ms: i64,
}

/// Where to die, for tests of resuming: aborts the process, as `kill -9` would.
#[derive(Debug, Clone)]
pub struct Halt {
    /// After the effect of this step …
    pub after: String,
    /// … and before its row in the journal, or after it.
    pub before_journal: bool,
}

/// What is not part of the request itself.
#[derive(Debug, Clone, Default)]
pub struct OperationOptions {
    /// Where to die.
    pub halt: Option<Halt>,
    /// The operation that a worker was left: this very one is driven while it is open, and none is begun.
    pub(in crate::fleet) left: Option<OperationId>,
}

impl OperationOptions {
    /// Where to die, if anywhere.
    #[must_use]
    pub const fn halting(halt: Option<Halt>) -> Self {
        Self { halt, left: None }
    }

    /// Of a worker that was left an operation.
    pub(in crate::fleet) fn of_worker(operation: &Operation) -> Self {
        Self { halt: None, left: Some(operation.id) }
    }
}

/// Work in named steps.
pub(super) trait Steps: Send {
    /// A step's name.
    type Step: Copy + fmt::Display + Send + Sync;

    /// Does a step. Doing it again changes nothing.
    fn perform(&mut self, step: Self::Step, journal: &mut Journal<'_>) -> impl Future<Output = ApiResult<()>> + Send;

    /// Whether it is done again although the journal has it.
    fn is_repeated(&self, _step: Self::Step) -> bool {
        false
    }

    /// Whether the operation may be stopped before it, or in it.
    fn can_stop(&self, _step: Self::Step) -> bool {
        true
    }

    /// Whether the operation has not failed by an error: it stays open, and whoever comes next goes on with it.
    fn is_left_open(&self, _error: &ApiError) -> bool {
        false
    }

    /// Whether there is nothing to do for it.
    fn is_left_out(&self, _step: Self::Step) -> bool {
        false
    }
}
