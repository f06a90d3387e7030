//! Times on the command line: none that PostgreSQL could not be told, or nobody would live to see.

use std::time::Duration;

use crate::config::Span;
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
