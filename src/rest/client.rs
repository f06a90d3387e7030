//! From where somebody signs in.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpRequest};

use super::{ClientIp, customer};
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

impl Client {
    /// Whose tries are counted together: see [`customer`].
    #[must_use]
    pub fn network(&self) -> Option<String> {
        Some(customer(self.ip.as_deref()?.parse().ok()?))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_customer_is_one_network() {
        let network = |ip: &str| Client { ip: Some(ip.to_owned()), user_agent: None }.network().unwrap();
        assert_eq!(network("203.0.113.7"), "203.0.113.7");
        assert_eq!(network("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(network("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(network("2001:db8:1:2::4"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::4"), network("2001:db8:1:3::4"));
    }
}
