//! Times in bodies, written as on the command line.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Span;
use crate::error::{ApiError, ApiResult};

/// A time such as `500ms` or `3s`, within bounds.
///
/// # Errors
/// 422 on `field`, if it is none or outside.
pub(super) fn within(field: &'static str, text: &str, bounds: &RangeInclusive<Duration>) -> ApiResult<Duration> {
    let Ok(Span(span)) = text.parse() else {
        return Err(ApiError::invalid_field(field, "invalid", "A time is written as 500ms or 3s."));
    };
    if bounds.contains(&span) {
        return Ok(span);
    }
    let said = format!("From {} ms to {} ms.", bounds.start().as_millis(), bounds.end().as_millis());
    Err(ApiError::invalid_field(field, "invalid", said))
}
