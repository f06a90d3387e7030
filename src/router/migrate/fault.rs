//! Why a statement was not done.

use tokio_postgres::Error as PgError;
use tokio_postgres::error::SqlState;

use super::MigrateError;
use crate::router::connect::ConnectError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server said so, or the connection broke.
    #[error(transparent)]
    Said(#[from] PgError),
    /// The server said nothing: it stands still, or cannot be reached any more.
    #[error(transparent)]
    Silent(ConnectError),
    /// There is no index now that does what the file asks for.
    #[error(transparent)]
    Index(#[from] IndexFault),
}

/// Why an index is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexFault {
    #[error("the name {name} belongs to something else ({owner}); rename the index")]
    Taken { name: String, owner: String },
    #[error("the index {0} is not there, or invalid, although it was made twice; see the server's log")]
    NotMade(String),
}

impl Fault {
    /// As the failure of a statement around the migrations.
    pub(super) fn of_history(self) -> MigrateError {
        match self {
            Self::Said(error) => MigrateError::History(error),
            Self::Silent(silent) => silent.into(),
            // None of them makes an index.
            Self::Index(fault) => MigrateError::Failed { migration: String::new(), source: Box::new(fault) },
        }
    }

    /// As the failure of a migration that was tried so often.
    pub(super) fn of(self, migration: String, attempts: u32) -> MigrateError {
        let error = match self {
            Self::Silent(silent) => return silent.into(),
            Self::Index(fault) => return MigrateError::Failed { migration, source: Box::new(fault) },
            Self::Said(error) => error,
        };
        match error.as_db_error() {
            Some(said) if [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED].contains(&said.code()) => {
                MigrateError::LockTimeout { migration, attempts }
            }
            Some(said) => MigrateError::Failed { migration, source: Box::new(said.clone()) },
            None => MigrateError::Failed { migration, source: Box::new(error) },
        }
    }
}
