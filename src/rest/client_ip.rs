//! From where a request came: the connection's address, or what a proxy that we trust says of it.

use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};

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

/// The IPv6 network of the size that one site gets, /48, and with it every /64 in there; none of an IPv4 address.
#[must_use]
pub fn site(address: IpAddr) -> Option<String> {
    match address.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(Ipv6Net::new_assert(v6, 48).trunc().to_string()),
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
        // Whatever else is in a line: what our proxy appended to it counts.
        let lines = request.headers().get_all("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes()));
        let lines: Vec<_> = lines.collect();
        let chain: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut client = peer;
        for hop in chain.into_iter().rev() {
            let Some(ip) = address(hop) else { break };
            client = ip.to_canonical();
            if !is_proxy(client) {
                break;
            }
        }
        Self(Some(client))
    }
}

/// An address, or one with a port, as some proxies write it.
fn address(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|hop| hop.ip()))
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
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    fn seen(peer: &str, forwarded: &str) -> String {
        seen_of(peer, forwarded.as_bytes())
    }

    fn seen_of(peer: &str, forwarded: &[u8]) -> String {
        let request = TestRequest::default()
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("x-forwarded-for", HeaderValue::from_bytes(forwarded).unwrap()))
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
        assert_eq!(seen("10.0.0.1", "1.1.1.1, 203.0.113.5:4711, 10.0.0.2"), "203.0.113.5");
    }

    #[test]
    fn a_site_has_many_customers() {
        let [one, other, elsewhere] =
            ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2:1::1"].map(|ip| ip.parse().unwrap());
        assert!(customer(one) != customer(other) && site(one) == site(other) && site(one) != site(elsewhere));
        assert_eq!(site("::ffff:203.0.113.5".parse().unwrap()), None);
    }

    /// Whoever sends bytes of no text is not taken for the proxy that passes them on.
    #[test]
    fn what_a_proxy_appended_counts_whatever_stands_before_it() {
        assert_eq!(seen_of("10.0.0.1", b"\xff, 203.0.113.5"), "203.0.113.5");
        assert_eq!(seen_of("10.0.0.1", b"10.0.0.7, \xff, 203.0.113.5, 10.0.0.2"), "203.0.113.5");
    }
}
