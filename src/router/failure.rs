//! Why a connection could not be opened.

use std::error::Error as StdError;

use tokio_postgres::error::{DbError, SqlState};

/// Why a connection could not be opened; the kind decides what the breaker does and what an operator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// No such host, nobody listens, no answer in time, or the server is starting or stopping.
    Unreachable,
    /// TLS could not be agreed on, or a certificate was refused.
    Tls,
    /// Wrong role or password, or no right to connect.
    Authentication,
    /// The server is out of connections, for everybody.
    ServerFull,
    /// The role's or the database's own limit of connections is reached.
    ConnectionLimit,
    /// There is no such database.
    UnknownDatabase,
    /// The database answers for another tenant, or for nobody.
    StampMismatch,
    /// Anything else the server said.
    Other,
}

impl ConnectFailure {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Tls,
        Self::Authentication,
        Self::ServerFull,
        Self::ConnectionLimit,
        Self::UnknownDatabase,
        Self::StampMismatch,
        Self::Other,
    ];

    /// The word used in metrics and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::ServerFull => "server_full",
            Self::ConnectionLimit => "connection_limit",
            Self::UnknownDatabase => "unknown_database",
            Self::StampMismatch => "stamp_mismatch",
            Self::Other => "other",
        }
    }
}

/// A failed opening.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect ({})", kind.as_str())]
pub struct ConnectError {
    /// What kind of failure.
    pub kind: ConnectFailure,
    /// The cause, for logs and operators.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

/// The server did not say no; it said nothing.
#[derive(Debug, thiserror::Error)]
#[error("no answer {0}")]
pub(super) struct Late(pub(super) &'static str);

impl ConnectError {
    /// Whether there was no answer within a deadline.
    pub(super) fn is_late(&self) -> bool {
        self.source.is::<Late>()
    }

    /// Whether the server says that this very role may not come in here: it has no right to CONNECT, or a rule of
    /// `pg_hba.conf` turns it away. Whoever gave a wrong password has not learned that.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        let Some(error) = self.source.downcast_ref::<tokio_postgres::Error>() else { return false };
        match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => true,
            // The same code tells of a role that may log in nowhere; what raised it tells them apart, in every language.
            Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                error.as_db_error().and_then(DbError::routine) == Some("ClientAuthentication")
            }
            _ => false,
        }
    }

    /// Whether the server says that the password is wrong.
    #[must_use]
    pub fn is_wrong_password(&self) -> bool {
        let error = self.source.downcast_ref::<tokio_postgres::Error>();
        error.and_then(tokio_postgres::Error::code) == Some(&SqlState::INVALID_PASSWORD)
    }

    /// A failure of a kind, with its cause.
    pub fn new(kind: ConnectFailure, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        let kind = match error.code() {
            Some(code)
                if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
            {
                ConnectFailure::Authentication
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => ConnectFailure::Authentication,
            // One code for both; what raised it tells them apart, in every language.
            Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
                let routine = error.as_db_error().and_then(DbError::routine);
                let own = routine.is_some_and(|it| ["InitializeSessionUserId", "CheckMyDatabase"].contains(&it));
                if own { ConnectFailure::ConnectionLimit } else { ConnectFailure::ServerFull }
            }
            Some(code) if *code == SqlState::UNDEFINED_DATABASE => ConnectFailure::UnknownDatabase,
            Some(code) if *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::ADMIN_SHUTDOWN => {
                ConnectFailure::Unreachable
            }
            Some(_) => ConnectFailure::Other,
            // tokio-postgres has no public kind for these two; its Display is stable and tested here.
            None if error.to_string().contains("TLS") => ConnectFailure::Tls,
            None if error.to_string().contains("authentication") => ConnectFailure::Authentication,
            None => ConnectFailure::Unreachable,
        };
        Self::new(kind, error)
    }
}
