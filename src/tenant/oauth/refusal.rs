//! Refusals as RFC 6749 and RFC 6750 have them: bare JSON that nobody keeps.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::error::{ApiError, Code, Limit};
use crate::rest::RateStanding;
use crate::router;

/// A result with a [`Refusal`].
pub(super) type Outcome<T> = Result<T, Refusal>;

/// A refusal. The words are for the developer of the app: plain ASCII without quotes, as the standard wants it.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    error: &'static str,
    said: Cow<'static, str>,
    retry_after: Option<Duration>,
    limit: Option<Limit>,
}

/// A refusal as it is written.
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthError {
    /// A word of RFC 6749, RFC 6750 or RFC 7009.
    #[schema(value_type = String, example = "invalid_grant")]
    pub error: Cow<'static, str>,
    /// What is wrong, for developers.
    #[schema(value_type = String, example = "The code is not valid.")]
    pub error_description: Cow<'static, str>,
}

/// What every endpoint for apps may answer instead.
#[derive(Debug, IntoResponses)]
pub enum OauthRefusals {
    /// The request is not one, or is not granted.
    #[response(status = 400)]
    Invalid(OauthError),
    /// The client is not known, or did not prove who it is.
    #[response(status = 401)]
    Client(OauthError),
    /// A secret was wrong too often; see `Retry-After` and `RateLimit`.
    #[response(status = 429)]
    TooOften(OauthError),
    /// The tenant or its database cannot serve now; see `Retry-After`.
    #[response(status = 503)]
    Unavailable(OauthError),
}

impl Refusal {
    /// 400 with one of the standard's words.
    pub(super) fn new(error: &'static str, said: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, said: said.into(), retry_after: None, limit: None }
    }

    pub(super) fn request(said: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_request", said)
    }

    /// The code or refresh token is not good. Why, nobody is told.
    pub(super) fn grant() -> Self {
        Self::new("invalid_grant", "The code or token is not valid, or is not this client's.")
    }

    /// The client is not known, or did not prove who it is: alike.
    pub(super) fn client() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_client", "The client is not known here.") }
    }

    /// The access token is not good.
    pub(super) fn token() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_token", "The access token is not valid.") }
    }

    /// The access token is not for this.
    pub(super) fn scope() -> Self {
        let said = "The access token was not given for this.";
        Self { status: StatusCode::FORBIDDEN, ..Self::new("insufficient_scope", said) }
    }

    /// The word, and what is said, for an answer by redirect.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        (self.error, &self.said)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.said)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer.insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache"));
        match self.error {
            "invalid_client" if self.status == StatusCode::UNAUTHORIZED => {
                answer.insert_header((WWW_AUTHENTICATE, "Basic realm=\"oauth\""));
            }
            "invalid_token" | "insufficient_scope" => {
                answer.insert_header((WWW_AUTHENTICATE, format!("Bearer error=\"{}\"", self.error)));
            }
            _ => {}
        }
        if let Some(after) = self.retry_after {
            answer.insert_header((RETRY_AFTER, after.as_secs_f64().ceil().max(1.0).to_string()));
        }
        if let Some(limit) = self.limit {
            for header in RateStanding::beyond(limit, self.retry_after.unwrap_or_default()).told() {
                answer.insert_header(header);
            }
        }
        answer.json(OauthError { error: self.error.into(), error_description: self.said.clone() })
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (retry_after, limit) = (error.retry_after_value(), error.limit_value());
        let of = |status, word, said| Self { status, retry_after, limit, ..Self::new(word, said) };
        match error.code() {
            Code::TooManyAttempts => {
                of(StatusCode::TOO_MANY_REQUESTS, "invalid_client", "Too many wrong secrets. Wait, and try again.")
            }
            code if code.status() == 503 => {
                of(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "Wait, and try again.")
            }
            code => {
                let cause = error.cause().map(ToString::to_string);
                tracing::error!(code = code.as_str(), cause, "a request of an app failed");
                of(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "Something went wrong on our side.")
            }
        }
    }
}

impl From<router::Error> for Refusal {
    fn from(error: router::Error) -> Self {
        ApiError::from(error).into()
    }
}

/// 200 with a bare document that nobody keeps.
pub(super) fn bare(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache")).json(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_stand_in_an_answer() {
        let all = [Refusal::grant(), Refusal::client(), Refusal::token(), Refusal::scope()];
        for refusal in all {
            let (word, said) = refusal.parts();
            let good = |text: &str| text.bytes().all(|b| matches!(b, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~'));
            assert!(good(word) && good(said), "{refusal}");
            assert_eq!(refusal.error_response().headers().get(CACHE_CONTROL).unwrap(), "no-store");
        }
        let busy = Refusal::from(ApiError::new(Code::Overloaded)).error_response();
        assert_eq!((busy.status().as_u16(), busy.headers().contains_key(RETRY_AFTER)), (503, true));
    }
}
