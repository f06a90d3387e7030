//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11): how one stands against a limit, on the
//! answers to whom it concerns.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::error::{ApiError, Limit};
use crate::router::Rate;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How a caller stands, for the headers of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStanding {
    /// What is limited.
    pub name: &'static str,
    /// How often, in how many seconds, and what is left.
    pub rate: Rate,
}

impl RateStanding {
    /// Of whoever reached a limit and has to wait.
    #[must_use]
    pub fn beyond(limit: Limit, wait: Duration) -> Self {
        let Limit { name, quota, window } = limit;
        let reset = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { name, rate: Rate { quota, window: window.as_secs(), left: 0, reset: reset.max(1) } }
    }

    /// The headers that tell it.
    #[must_use]
    pub fn told(self) -> [(HeaderName, String); 2] {
        let Self { name, rate: Rate { quota, window, left, reset } } = self;
        [
            (RATE_LIMIT_POLICY, format!("\"{name}\";q={quota};w={window}")),
            (RATE_LIMIT, format!("\"{name}\";r={left};t={reset}")),
        ]
    }

    /// Writes the headers, if somebody noted how the caller of this request stands.
    pub fn write(request: &HttpRequest, headers: &mut HeaderMap) {
        let Some(standing) = request.extensions().get::<Self>().copied() else { return };
        for (name, value) in standing.told() {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// Lets a handler note how its caller stands.
#[derive(Debug)]
pub struct RateNote(HttpRequest);

impl RateNote {
    /// Notes it.
    pub fn note(&self, name: &'static str, rate: Rate) {
        self.0.extensions_mut().insert(RateStanding { name, rate });
    }
}

impl FromRequest for RateNote {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.clone())))
    }
}
