//! How a command ends.

use crate::config::ConfigError;
use crate::dev::PostgresError;

/// A precondition is not met: exit code 4, one line with the remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refused {
    what: String,
    remedy: String,
}

impl Refused {
    /// What stands in the way, and what to do about it.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Done in part: exit code 3.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Partial(pub String);

/// The command line itself is wrong in a way that only the command can tell: exit code 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code that an error stands for.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    let local = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<PostgresError>().is_some_and(PostgresError::is_refusal)
    };
    if error.chain().any(|cause| cause.is::<Refused>() || cause.is::<ConfigError>() || local(cause)) {
        4
    } else if error.chain().any(|cause| cause.is::<Partial>()) {
        3
    } else if error.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else {
        1
    }
}

/// The error with its causes, in one line.
pub(super) fn line(error: &anyhow::Error) -> String {
    format!("error: {error:#}").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_contract() {
        assert_eq!(code(&anyhow::anyhow!("broken")), 1);
        assert_eq!(code(&Usage("bad slug".into()).into()), 2);
        assert_eq!(code(&Partial("2 of 5 failed".into()).into()), 3);
        let refused = anyhow::Error::from(Refused::new("the slug is taken", "choose another")).context("tenant create");
        assert_eq!(code(&refused), 4);
        assert_eq!(line(&refused), "error: tenant create: the slug is taken; choose another");
    }
}
