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
    let public = public(context)?;
    let (address, status) = match ask(public) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let management = reachable(context.config.management_listen());
            let status = ask(management).with_context(|| format!("no answer from {public}, nor from {management}"));
            (management, status?)
        }
        answer => (public, answer.with_context(|| format!("no answer from {public}"))?),
    };
    if !status.contains(" 200 ") {
        bail!("{address} answered: {status}");
    }
    Ok(())
}

/// The listener that is configured; where none is, what `tenantry dev` says of its own in the data directory.
fn public(context: &Context) -> anyhow::Result<SocketAddr> {
    let settings = context.config.describe();
    if settings.iter().any(|setting| setting.key == "listen" && setting.source != "default") {
        return Ok(reachable(context.config.listen()));
    }
    let url = server_url(context, None)?;
    let found = url.socket_addrs(|| None).with_context(|| format!("cannot find {url}"))?;
    found.first().copied().with_context(|| format!("{url} leads nowhere"))
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
