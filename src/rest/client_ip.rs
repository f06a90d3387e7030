//! From where a request came: the connection's address, or what a proxy that we trust says of it.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use ipnet::Ipv6Net;

use crate::config::Network;
use crate::error::ApiError;

/// Proxies whose `X-Forwarded-For` is believed: application data of the server.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<Network>);

/// The client's address. None where the connection has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

/// Whose tries are counted together: an IPv4 address; of an IPv6 address the /64 network that one customer gets.
#[must_use]
pub fn customer(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 64).trunc().to_string(),
    }
}

impl ClientIp {
    /// Reads it.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        let Some(peer) = request.peer_addr().map(|address| address.ip().to_canonical()) else { return Self(None) };
        let Some(trusted) = request.app_data::<TrustedProxies>() else { return Self(Some(peer)) };
        let is_proxy = |ip: IpAddr| trusted.0.iter().any(|network| network.contains(ip));
        if !is_proxy(peer) {
            return Self(Some(peer));
        }
        // Each proxy appends whom it saw. From the right, the first that is no proxy of ours is the client; what stands
        // further left, the client may have made up.
        let values = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let chain: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut client = peer;
        for hop in chain.into_iter().rev() {
            let Ok(ip) = hop.parse::<IpAddr>() else { break };
            client = ip.to_canonical();
            if !is_proxy(client) {
                break;
            }
        }
        Self(Some(client))
    }
}

impl FromRequest for ClientIp {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn seen(peer: &str, forwarded: &str) -> String {
        let request = TestRequest::default()
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("x-forwarded-for", forwarded))
            .app_data(TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]))
            .to_http_request();
        ClientIp::of(&request).0.unwrap().to_string()
    }

    #[test]
    fn only_proxies_that_we_trust_are_believed() {
        assert_eq!(seen("198.51.100.1", "203.0.113.5"), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", "203.0.113.5"), "203.0.113.5");
        assert_eq!(seen("10.0.0.1", "1.1.1.1, 203.0.113.5, 10.0.0.2"), "203.0.113.5");
        assert_eq!(seen("10.0.0.1", "made up"), "10.0.0.1");
    }
}
