//! Which addresses may be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::OutboundError;
use crate::config::Network;

/// IPv4 that is not for the public (RFC 6890 and its registry), metadata services of clouds among it.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// Parts of the global unicast IPv6 that are none: tunnels, which end at an IPv4 address that nobody judged, and examples.
const SPECIAL_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];
/// All other IPv6 is loopback, local, multicast, translated, or nobody's yet.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Of its first two groups.
const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Whether an address is of the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|network| network.contains(&ip)),
        IpAddr::V6(ip) => GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|network| network.contains(&ip)),
    }
}

/// An address that may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address may not be reached")]
pub(super) struct Refused;

impl From<Refused> for OutboundError {
    fn from(_: Refused) -> Self {
        Self::Refused("It leads to an address that may not be reached from here.")
    }
}

/// What may be reached.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Networks of the installation's own that may be.
    pub allowed: Arc<[Network]>,
    /// Whether the public internet may be.
    pub public: bool,
}

impl Guard {
    pub(super) fn judge(&self, ip: IpAddr) -> Result<(), Refused> {
        let allowed = self.allowed.iter().any(|network| network.contains(ip));
        if allowed || (self.public && is_public(ip)) { Ok(()) } else { Err(Refused) }
    }

    /// All that a name stands for, or nothing: a name that stands for something inside too is up to something.
    fn judge_all(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        found.iter().try_for_each(|address| self.judge(address.ip()))?;
        Ok(found)
    }
}

/// Looks names up and judges what they stand for: the connection goes to what was judged, not to what another look-up
/// might give.
#[derive(Debug, Clone)]
pub(super) struct Looked(pub(super) Guard);

impl Resolve for Looked {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let found: Addrs = Box::new(guard.judge_all(found)?.into_iter());
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str], public: bool) -> Guard {
        Guard { allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(), public }
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
    }

    #[test]
    fn a_list_opens_what_it_names_and_no_more() {
        let open = guard(&["127.0.0.0/8"], true);
        for (ip, may) in [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("::1", false), ("10.0.0.1", false)] {
            assert_eq!(open.judge(ip.parse().unwrap()).is_ok(), may, "{ip}");
        }
        assert!(
            guard(&["127.0.0.0/8"], false).judge("1.1.1.1".parse().unwrap()).is_err(),
            "no plain HTTP to the public"
        );
    }

    #[test]
    fn one_address_inside_is_enough_to_refuse_a_name() {
        let at = |text: &str| format!("{text}:0").parse::<SocketAddr>().unwrap();
        let guard = guard(&[], true);
        assert_eq!(guard.judge_all(vec![at("1.1.1.1"), at("8.8.8.8")]).unwrap().len(), 2);
        assert_eq!(guard.judge_all(vec![at("1.1.1.1"), at("127.0.0.1")]), Err(Refused));
    }
}
