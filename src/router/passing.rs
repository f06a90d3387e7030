//! Failures of a statement that are nobody's fault who asked: one place judges, for the server and for embedders.

use diesel::result::DatabaseErrorKind;
use diesel::result::Error::{self, DatabaseError};

/// What is said of a statement that the server broke off, in place of its own words.
const BROKEN_OFF: &str = "the server broke a statement off";
/// And of one that gave way to others. An English server says the same.
const DEADLOCK: &str = "deadlock detected";
/// What a client says whose connection is gone. No server has translated it.
const LOST: [&str; 3] = ["connection closed", "error communicating with the server", "connection reset"];
/// What a server says in English: all that is known where nobody asks what was overheard, as of an administrator's
/// connection.
const ENGLISH: [&str; 3] = ["due to statement timeout", "terminating connection", "the database system is"];

/// Why a statement failed that may succeed if it is repeated unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// The connection broke, or the server broke the statement off: it took too long, or the server is being stopped.
    Away,
    /// Statements waited for each other, and this one had to give way.
    Deadlock,
}

impl Passing {
    /// Whether and why an error of a statement passes by itself. Of a commit whose answer was lost it does not say
    /// whether it was done.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        let DatabaseError(kind, said) = error else { return None };
        let says = |words: &[&str]| words.iter().any(|word| said.message().contains(word));
        let away = match kind {
            DatabaseErrorKind::ClosedConnection => true,
            DatabaseErrorKind::UnableToSendCommand => says(&LOST),
            DatabaseErrorKind::Unknown if says(&[DEADLOCK]) => return Some(Self::Deadlock),
            DatabaseErrorKind::Unknown => says(&[BROKEN_OFF]) || says(&LOST) || says(&ENGLISH),
            _ => false,
        };
        away.then_some(Self::Away)
    }

    /// The same by SQLSTATE, which is never translated. diesel does not pass it on.
    pub(super) fn by_state(state: &[u8]) -> Option<Self> {
        match state {
            b"57014" => Some(Self::Away),
            b"40P01" => Some(Self::Deadlock),
            _ if state.starts_with(b"57P0") => Some(Self::Away),
            _ => None,
        }
    }

    /// An error that is known again, in whatever language the server speaks.
    pub(super) fn error(self) -> Error {
        let text = match self {
            Self::Away => BROKEN_OFF,
            Self::Deadlock => DEADLOCK,
        };
        DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: DatabaseErrorKind, text: &str) -> Option<Passing> {
        Passing::of(&DatabaseError(kind, Box::new(text.to_owned())))
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        use DatabaseErrorKind as K;
        assert_eq!(of(K::ClosedConnection, "breche Verbindung ab"), Some(Passing::Away));
        assert_eq!(of(K::UnableToSendCommand, "connection closed"), Some(Passing::Away));
        assert_eq!(of(K::UnableToSendCommand, "error encoding message to server"), None);
        assert_eq!(of(K::Unknown, "canceling statement due to statement timeout"), Some(Passing::Away));
        assert_eq!(of(K::Unknown, "column \"x\" does not exist"), None);
        assert_eq!(of(K::UniqueViolation, "deadlock detected"), None);
        assert_eq!(Passing::of(&Error::NotFound), None);
        for passing in [Passing::Away, Passing::Deadlock] {
            assert_eq!(Passing::of(&passing.error()), Some(passing));
        }
    }

    #[test]
    fn a_state_is_the_same_in_every_language() {
        for state in ["57014", "57P01", "57P02", "57P03", "57P05"] {
            assert_eq!(Passing::by_state(state.as_bytes()), Some(Passing::Away));
        }
        assert_eq!(Passing::by_state(b"40P01"), Some(Passing::Deadlock));
        assert_eq!((Passing::by_state(b"23505"), Passing::by_state(b"40001")), (None, None));
    }
}
