//! Times on the command line: none that PostgreSQL could not be told, or nobody would live to see.

use std::time::Duration;

use crate::config::Span;
use crate::fleet::relocate::LONGEST_HOLD;
use crate::kernel::LONGEST_WAIT;

/// How long something is waited for.
pub(super) fn wait(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if span.0 > LONGEST_WAIT { Err("at most 24d".to_owned()) } else { Ok(span) }
}

/// What PostgreSQL is given as a bound: nothing at all would be none.
pub(super) fn bound(text: &str) -> Result<Span, String> {
    let span = wait(text)?;
    if span.0 < Duration::from_millis(1) { Err("at least 1ms".to_owned()) } else { Ok(span) }
}

/// How long a tenant's requests may be held.
pub(super) fn hold(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if span.0 > LONGEST_HOLD {
        return Err("at most 10m; a tenant that takes longer is moved by --method replicate".to_owned());
    }
    bound(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_held_for_longer_than_ten_minutes() {
        assert!(hold("1ms").is_ok() && hold("10m").is_ok());
        assert!(hold("0s").is_err());
        for text in ["11m", "25d"] {
            assert!(hold(text).is_err_and(|said| said.contains("10m")), "{text}");
        }
    }
}
