//! What OpenAPI says of every endpoint alike.

use utoipa::IntoResponses;

use crate::rest::ErrorEnvelope;

/// The answers of any endpoint that takes a token.
#[derive(Debug, IntoResponses)]
pub enum Refusals {
    /// A parameter is unknown or has a bad value, or a cursor is another list's.
    #[response(status = 400)]
    Malformed(ErrorEnvelope),
    /// No token, or a bad, expired or revoked one.
    #[response(status = 401)]
    Unauthenticated(ErrorEnvelope),
    /// A permission is missing, the password must be changed first, or the tenant is suspended.
    #[response(status = 403)]
    Denied(ErrorEnvelope),
    /// There is nothing here, or nothing the caller may know of; or the request names another tenant than its token.
    #[response(status = 404)]
    NotFound(ErrorEnvelope),
    /// An API key came more often than it may; see `Retry-After`.
    #[response(status = 429)]
    TooOften(ErrorEnvelope),
    /// The tenant or its database cannot serve now; see `Retry-After`.
    #[response(status = 503)]
    Unavailable(ErrorEnvelope),
}

/// The answers of endpoints without a token, where strangers come.
#[derive(Debug, IntoResponses)]
pub enum StrangerRefusals {
    /// Not JSON, or no tenant is named.
    #[response(status = 400)]
    Malformed(ErrorEnvelope),
    /// The body is not `application/json`.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorEnvelope),
    /// Some fields are not valid.
    #[response(status = 422)]
    Invalid(ErrorEnvelope),
    /// Busy, or the tenant's database cannot serve now; see `Retry-After`.
    #[response(status = 503)]
    Unavailable(ErrorEnvelope),
}
