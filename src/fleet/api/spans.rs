//! Times in bodies, written as on the command line.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Span;
use crate::error::{ApiError, ApiResult};

/// A time such as `500ms` or `3s`, within bounds, which `said` names.
///
/// # Errors
/// 422 on `field`, if it is none or outside.
pub(super) fn within(
    field: &'static str,
    text: &str,
    (bounds, said): (RangeInclusive<Duration>, &'static str),
) -> ApiResult<Duration> {
    let Ok(Span(span)) = text.parse() else {
        return Err(ApiError::invalid_field(field, "invalid", "A time is written as 500ms or 3s."));
    };
    if bounds.contains(&span) { Ok(span) } else { Err(ApiError::invalid_field(field, "invalid", said)) }
}
