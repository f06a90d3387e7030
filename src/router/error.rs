//! What can go wrong between a request and its tenant's database.

use std::time::Duration;

/// A result with a router [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The router's error. Its text never holds a URL, a password or a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No bearer token where one is needed.
    #[error("no bearer token")]
    Unauthenticated,
    /// The token is malformed, forged, of another kind, or of a tenant that is gone. The word is for the log.
    #[error("token refused: {0}")]
    TokenInvalid(&'static str),
    /// The token was good once.
    #[error("token expired")]
    TokenExpired,
    /// The session of the token has ended.
    #[error("session ended")]
    TokenRevoked,
    /// No tenant was named.
    #[error("no tenant named")]
    TenantRequired,
    /// A header, host or parameter names another tenant than the token.
    #[error("the request names another tenant than its token")]
    TenantMismatch,
    /// There is no such tenant, or a stranger may not know that there is.
    #[error("unknown tenant")]
    TenantUnknown,
    /// The tenant is suspended.
    #[error("tenant suspended")]
    TenantSuspended,
    /// The tenant is being made, or held.
    #[error("tenant not available now")]
    TenantUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The tenant's database cannot be reached, refuses us, or is another tenant's.
    #[error("tenant database unavailable")]
    DatabaseUnavailable {
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log.
        #[source]
        source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// No connection became free within the acquire deadline, or the queue is full.
    #[error("no database connection became free in time")]
    PoolExhausted {
        /// When to try again.
        retry_after: Duration,
    },
    /// An API key came more often than it may.
    #[error("an API key came too often")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
        /// How it stands.
        rate: super::access::Rate,
    },
    /// The tenant's schema is older than what this needs, and could not be brought up in time.
    #[error("tenant schema outdated")]
    SchemaOutdated {
        /// When to try again.
        retry_after: Duration,
    },
    /// The control plane does not answer, and what was asked is not known here.
    #[error("control plane unavailable")]
    ControlPlane(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A start is refused: the connection budgets have no room for one more node. The arithmetic, and what to do.
    #[error("{0}")]
    BudgetCannotHold(String),
    /// A start is refused: a setting that would break every request. Which, and what it may be.
    #[error("{0}")]
    Config(String),
    /// A statement took longer than its deadline.
    #[error("a statement exceeded its deadline")]
    Deadline,
    /// A statement failed.
    #[error("a statement failed")]
    Query(#[from] diesel::result::Error),
}

impl Error {
    /// When to try again, where that makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::TenantUnavailable { retry_after }
            | Self::DatabaseUnavailable { retry_after, .. }
            | Self::PoolExhausted { retry_after }
            | Self::RateLimited { retry_after, .. }
            | Self::SchemaOutdated { retry_after } => *retry_after,
            _ => Duration::from_secs(1),
        }
    }

    /// Whether the tenant's database is at fault, not who asked.
    pub(super) const fn is_database(&self) -> bool {
        matches!(self, Self::DatabaseUnavailable { .. } | Self::PoolExhausted { .. } | Self::Deadline | Self::Query(_))
    }

    /// The control plane could not be asked.
    pub fn control_plane(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::ControlPlane(cause.into())
    }
}
