//! Sign-ins of strangers that are under way: bounded by network and by site, so that neither alone makes those of all others give
//! way.

use std::time::Duration;

use crate::error::{ApiError, Code, Limit};
use crate::rest::{Client, customer, site};

/// The built-in schema that knows from where they began (`V23__asked.sql`).
pub(super) const SINCE: i32 = 23;

/// All networks of one site have so many times what one of them may have under way: whoever has a /48, or a /56, has many.
pub(super) const NETWORKS: i64 = 5;

/// From where a stranger begins.
#[derive(Debug, Clone)]
pub(super) struct Whence {
    /// See [`customer`].
    pub network: String,
    /// See [`site`]; of an IPv4 address, the same as its network.
    pub site: String,
}

impl Whence {
    /// None where the connection has no address.
    pub(super) fn of(client: &Client) -> Option<Self> {
        let address = client.ip.as_deref()?.parse().ok()?;
        let network = customer(address);
        Some(Self { site: site(address).unwrap_or_else(|| network.clone()), network })
    }
}

/// 429: as many are under way from this address, or this site, as may be, and each lasts this long.
pub(super) fn too_many(most: i64, window: Duration) -> ApiError {
    let limit = Limit { name: "sign-ins-begun", quota: u32::try_from(most).unwrap_or(u32::MAX), window };
    let said = "Too many sign-ins were begun from here and not ended. Wait, and begin again.";
    ApiError::new(Code::RateLimited).detail(said).retry_after(window / 10).limited(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_of_a_site_and_an_ipv4_address_is_its_own() {
        let of = |ip: &str| {
            let from = Whence::of(&Client { ip: Some(ip.to_owned()), user_agent: None }).unwrap();
            format!("{} {}", from.network, from.site)
        };
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64 2001:db8:1::/48");
        assert_eq!(of("203.0.113.7"), "203.0.113.7 203.0.113.7");
        assert!(Whence::of(&Client::default()).is_none());
    }
}
