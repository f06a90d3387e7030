//! Who is behind a request: a person, or a program in somebody's name.

use std::sync::Arc;

use crate::kernel::{SessionId, UserId};
use crate::router::{AccessClaims, AppBearer, ForeignBearer, KeyHolder};

/// Who is behind a request.
#[derive(Debug, Clone)]
pub enum Principal {
    /// A person with a session, or somebody who acts in their name.
    Person(Arc<AccessClaims>),
    /// A program with an API key.
    Key(KeyHolder),
    /// Somebody with a token of another issuer.
    Foreign(ForeignBearer),
    /// An app that somebody let in.
    App(AppBearer),
}

impl Principal {
    /// The person, or the one in whose name the program works.
    #[must_use]
    pub fn user(&self) -> UserId {
        match self {
            Self::Person(claims) => claims.sub,
            Self::Key(key) => key.owner,
            Self::Foreign(bearer) => bearer.user,
            Self::App(app) => app.user,
        }
    }

    /// Whether somebody else acts in their name.
    pub(super) fn is_acted_for(&self) -> bool {
        matches!(self, Self::Person(claims) if claims.act.is_some())
    }

    /// The session; a program has none.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Person(claims) => Some(claims.sid),
            Self::Key(_) | Self::Foreign(_) | Self::App(_) => None,
        }
    }
}
