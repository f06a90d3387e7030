//! From where somebody signs in.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpRequest};

use super::ClientIp;
use crate::error::ApiError;

const MAX_USER_AGENT: usize = 256;

/// Address and program of the other side. A forwarded address is believed from a trusted proxy only.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// IP address.
    pub ip: Option<String>,
    /// `User-Agent`, shortened.
    pub user_agent: Option<String>,
}

impl FromRequest for Client {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let ip = ClientIp::of(request).0.map(|address| address.to_string());
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.map(|text| text.chars().take(MAX_USER_AGENT).collect());
        ready(Ok(Self { ip, user_agent }))
    }
}
