//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11): how one stands against a limit, on the
//! answers to whom it concerns.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::error::ApiError;
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
    /// Writes the headers, if somebody noted how the caller of this request stands.
    pub fn write(request: &HttpRequest, headers: &mut HeaderMap) {
        let Some(Self { name, rate }) = request.extensions().get::<Self>().copied() else { return };
        let Rate { quota, window, left, reset } = rate;
        let told = [
            (RATE_LIMIT_POLICY, format!("\"{name}\";q={quota};w={window}")),
            (RATE_LIMIT, format!("\"{name}\";r={left};t={reset}")),
        ];
        for (name, value) in told {
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
