//! What operators' endpoints refuse with, for OpenAPI.

use utoipa::IntoResponses;

use crate::rest::ErrorEnvelope;

/// The answers of any endpoint for operators.
#[derive(Debug, IntoResponses)]
pub enum Refusals {
    /// A parameter is unknown or has a bad value, or the body is not JSON.
    #[response(status = 400)]
    Malformed(ErrorEnvelope),
    /// No token of an operator, or a bad, expired or revoked one.
    #[response(status = 401)]
    Unauthenticated(ErrorEnvelope),
    /// The operator's role does not go so far.
    #[response(status = 403)]
    Forbidden(ErrorEnvelope),
    /// There is nothing here.
    #[response(status = 404)]
    NotFound(ErrorEnvelope),
    /// The control plane or a database server does not answer; see `Retry-After`.
    #[response(status = 503)]
    Unavailable(ErrorEnvelope),
}

/// The answers of an endpoint that changes something.
#[derive(Debug, IntoResponses)]
pub enum ChangeRefusals {
    /// The state of the thing does not allow it, or its name is taken.
    #[response(status = 409)]
    Conflict(ErrorEnvelope),
    /// It has changed since it was read.
    #[response(status = 412)]
    Stale(ErrorEnvelope),
    /// The body has another type than this endpoint takes.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorEnvelope),
    /// Some fields are not valid.
    #[response(status = 422)]
    Invalid(ErrorEnvelope),
}

/// The answers of an operator's login.
#[derive(Debug, IntoResponses)]
pub enum LoginRefusals {
    /// Not JSON.
    #[response(status = 400)]
    Malformed(ErrorEnvelope),
    /// `invalid_credentials`; of a second factor also `token_invalid`, `token_expired`.
    #[response(status = 401)]
    Unknown(ErrorEnvelope),
    /// The body is not `application/json`.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorEnvelope),
    /// Some fields are not valid.
    #[response(status = 422)]
    Invalid(ErrorEnvelope),
    /// `too_many_attempts`: wait for `Retry-After`.
    #[response(status = 429)]
    TooMany(ErrorEnvelope),
    /// Busy, or the control plane does not answer.
    #[response(status = 503)]
    Unavailable(ErrorEnvelope),
}
