//! Where a mail server is and how it is spoken to: `smtps://user:password@host:465`, `smtp://host:587?tls=required`; with
//! `ca=/file` beside, who may vouch for it.

use std::fmt;
use std::fs;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Certificate;
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

/// A mail server.
#[derive(Clone)]
pub struct SmtpServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    /// Who may vouch for it; whom the system knows, if nobody is named.
    pub(super) authorities: Option<Certificate>,
    user: Option<(String, SecretString)>,
}

/// How the connection is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS before anything is said that matters.
    StartTls,
    /// As [`Self::StartTls`]; none towards a server on this machine.
    LocalOnly,
    /// None at all.
    None,
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({}:{}, {:?})", self.host, self.port, self.security)
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadServer(pub(super) &'static str);

impl SmtpServer {
    /// Reads the URL of a server.
    ///
    /// # Errors
    /// What is wrong with it; never the URL itself, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, BadServer> {
        let url = Url::parse(url).map_err(|_| BadServer("is no URL"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            // `url` knows the hosts of web addresses alone for what they are.
            _ => return Err(BadServer("names no host")),
        };
        let (mut tls, mut ca) = (None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "tls" if tls.is_none() => tls = Some(value.into_owned()),
                "ca" if ca.is_none() => ca = Some(value.into_owned()),
                _ => return Err(BadServer("has a parameter that is neither `tls` nor `ca`, or one twice")),
            }
        }
        let (security, port) = match (url.scheme(), tls.as_deref()) {
            ("smtps", None) => (Security::Tls, 465),
            ("smtp", Some("required")) => (Security::StartTls, 587),
            ("smtp", None) => (Security::LocalOnly, 587),
            ("smtp", Some("none")) => (Security::None, 587),
            ("smtp", Some(_)) => return Err(BadServer("has a `tls` that is neither `required` nor `none`")),
            _ => return Err(BadServer("begins with neither smtps:// nor smtp://")),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(BadServer("has a path"));
        }
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (_, None) | ("", _) => return Err(BadServer("has a user without a password, or the reverse")),
            (user, Some(password)) => Some((decoded(user)?, SecretString::from(decoded(password)?))),
        };
        if user.is_some() && security == Security::None {
            return Err(BadServer("would send the password in clear"));
        }
        if ca.is_some() && security == Security::None {
            return Err(BadServer("has a `ca`, and no TLS to use it for"));
        }
        let authorities = ca.as_deref().map(authorities).transpose()?;
        Ok(Self { host, port: url.port().unwrap_or(port), security, authorities, user })
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let (user, password) = self.user.as_ref()?;
        Some(Credentials::new(user.clone(), password.expose_secret().to_owned()))
    }
}

/// Reads certificates (PEM).
fn authorities(path: &str) -> Result<Certificate, BadServer> {
    let text = fs::read_to_string(path).map_err(|_| BadServer("has a `ca` that cannot be read"))?;
    let certificates = Certificate::from_pem(text.as_bytes()).ok();
    let some = certificates.filter(|_| text.contains("-----BEGIN CERTIFICATE-----"));
    some.ok_or(BadServer("has a `ca` with no certificates in it"))
}

fn decoded(text: &str) -> Result<String, BadServer> {
    let plain = text.replace('+', "%2B");
    let pair = format!("x={plain}");
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
    decoded.filter(|value| !value.chars().any(char::is_control)).ok_or(BadServer("has a user that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_how() {
        let read = |url: &str| SmtpServer::parse(url).map(|server| (server.host, server.port, server.security));
        let of = |host: &str, port, security| Ok((host.to_owned(), port, security));
        assert_eq!(read("smtps://mail.example.com"), of("mail.example.com", 465, Security::Tls));
        assert_eq!(read("smtp://mail.example.com:25?tls=required"), of("mail.example.com", 25, Security::StartTls));
        assert_eq!(read("smtp://127.0.0.1:2525"), of("127.0.0.1", 2525, Security::LocalOnly));
        assert_eq!(read("smtp://[::1]:2525?tls=none"), of("::1", 2525, Security::None));
        for bad in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://mail.example.com?tls=opportunistic",
            "smtp://mail.example.com?secure=1",
            "smtps://mail.example.com?ca=/nowhere/example.pem",
            concat!("smtps://mail.example.com?ca=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "smtp://mail.example.com?tls=none&ca=/nowhere/example.pem",
            "smtp://mail.example.com?tls=required&tls=none",
            "smtp://mail.example.com/ehlo",
            "smtp://ada:hunter2@mail.example.com?tls=none",
            "smtps://ada@mail.example.com",
            "smtps://:465",
        ] {
            let said = read(bad).unwrap_err().to_string();
            assert!(!said.contains("hunter2") && !said.contains("example"), "{said}");
        }
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let server = SmtpServer::parse("smtps://ada%40example.com:hun%2Fter2+@mail.example.com").unwrap();
        assert!(!format!("{server:?}").contains("ter2"));
        let (user, password) = server.user.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("ada@example.com", "hun/ter2+"));
    }
}
