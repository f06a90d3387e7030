//! `tenantry healthcheck`: for `HEALTHCHECK` of a container, which has no curl.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Context;
use super::remote::server_url;

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the listener for `/livez`; where nobody listens there, that of management, on which a worker answers.
///
/// # Errors
/// If it does not answer 200 within three seconds.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for address in listeners(context) {
        match ask(address) {
            Ok(status) if status.contains(" 200 ") => return Ok(()),
            Ok(status) => bail!("{address} answered: {status}"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused.push(address.to_string()),
            Err(error) => return Err(error).with_context(|| format!("no answer from {address}")),
        }
    }
    bail!("no answer from {}", refused.join(", nor from "))
}

/// Where somebody may listen, the likeliest first: that listener which is configured; where none is, that which `tenantry
/// dev` says is its own in the data directory, and the usual one; and that of management.
fn listeners(context: &Context) -> Vec<SocketAddr> {
    let settings = context.config.describe();
    let is_set = settings.iter().any(|setting| setting.key == "listen" && setting.source != "default");
    // A data directory that cannot be read is not what is asked about.
    let told = || server_url(context, None).ok()?.socket_addrs(|| None).ok()?.into_iter().next();
    let mut all = Vec::from_iter(if is_set { None } else { told() });
    all.extend([reachable(context.config.listen()), reachable(context.config.management_listen())]);
    all.dedup();
    all
}

/// Where a listener is reached from its own machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
