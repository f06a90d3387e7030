//! Where a connection goes: one database of one server, as one role.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use url::{ParseError, Url};

use super::tls::{TlsMode, TlsPolicy};

/// One database of one server, as one role.
#[derive(Clone)]
pub struct Target {
    /// Host name, address, or the directory of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// Role.
    pub user: String,
    /// The role's password; empty where the server asks for none.
    pub password: SecretString,
    /// TLS towards the server.
    pub tls: TlsPolicy,
}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let tls = &self.tls;
        (&self.host, self.port, &self.database, &self.user, self.password.expose_secret()).hash(state);
        (tls.mode, &tls.ca, &tls.client_cert, tls.client_key.as_ref().map(ExposeSecret::expose_secret)).hash(state);
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.database)
    }
}

/// What is wrong with a database URL. The text never repeats the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not `postgres://…`.
    #[error("a database URL looks like postgres://user:password@host:5432/database")]
    Shape,
    /// A part is missing.
    #[error("the database URL has no {0}")]
    Missing(&'static str),
    /// A parameter we do not take, so that it is not silently ignored.
    #[error("the database URL has the parameter '{0}', which is not taken; TLS is set apart from the URL")]
    Parameter(String),
    /// An `sslmode` that asks less of the server than the TLS policy does.
    #[error(
        "sslmode in the database URL is weaker than the TLS mode '{0}'; leave it out, or choose the TLS mode you mean"
    )]
    Weaker(TlsMode),
    /// An `sslmode` beside another TLS mode: one of them is not meant.
    #[error("sslmode in the database URL is '{written}', and the TLS mode '{said}'; leave one of them out")]
    Differs {
        /// The TLS mode.
        said: TlsMode,
        /// What the URL says.
        written: TlsMode,
    },
    /// A bad `sslmode`; `prefer` and `allow` are, for they go on in plain text with whoever wants that.
    #[error(
        "sslmode in the database URL is none of disable, require, verify-ca, verify-full ('prefer' and 'allow' promise \
         nothing); write one of these, or leave it out"
    )]
    SslMode,
}

impl Target {
    /// Reads `postgres://user:password@host:port/database[?sslmode=…]`. An `sslmode` in the URL may ask more of the
    /// server than `tls.mode`, never less; `prefer` and `allow` are refused, because they promise nothing. The directory of
    /// a socket is in the host's place, percent-encoded, or in `host=`.
    ///
    /// # Errors
    /// [`UrlError`], whose text does not repeat the URL.
    pub fn parse(url: &SecretString, tls: TlsPolicy) -> Result<Self, UrlError> {
        let (mut target, written) = Self::read(url, tls)?;
        if let Some(mode) = written {
            if mode < target.tls.mode {
                return Err(UrlError::Weaker(target.tls.mode));
            }
            target.tls.mode = mode;
        }
        Ok(target)
    }

    /// Reads the URL of a server that somebody names, and `mode` where they say one beside it. Else what the URL says of TLS
    /// counts, and `verify-full` where it says nothing.
    ///
    /// # Errors
    /// As [`Self::parse`]; [`UrlError::Differs`].
    pub fn parse_named(url: &SecretString, mode: Option<TlsMode>) -> Result<Self, UrlError> {
        let (mut target, written) = Self::read(url, TlsPolicy::mode(TlsMode::VerifyFull))?;
        target.tls.mode = match (mode, written) {
            (Some(said), Some(written)) if said != written => return Err(UrlError::Differs { said, written }),
            (said, written) => said.or(written).unwrap_or(TlsMode::VerifyFull),
        };
        Ok(target)
    }

    /// Reads the control plane's URL. What it says of TLS counts; where it says nothing, a server on this machine is
    /// reached without, any other with `verify-full`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_control_plane(url: &SecretString) -> Result<Self, UrlError> {
        let (mut target, written) = Self::read(url, TlsPolicy::mode(TlsMode::VerifyFull))?;
        let unsaid = if target.is_local() { TlsMode::Disable } else { TlsMode::VerifyFull };
        target.tls.mode = written.unwrap_or(unsaid);
        Ok(target)
    }

    /// The target with this policy, and the `sslmode` that its URL asks for: the strictest, if there are several.
    fn read(url: &SecretString, tls: TlsPolicy) -> Result<(Self, Option<TlsMode>), UrlError> {
        let mut written: Option<TlsMode> = None;
        let (url, host) = split_host(url.expose_secret().trim()).ok_or(UrlError::Shape)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(UrlError::Shape);
        }
        let decode = |text: &str| percent_decode(text).ok_or(UrlError::Shape);
        let mut host = decode(&host)?;
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => {
                    let mode = TlsMode::from_str(&value).map_err(|_| UrlError::SslMode)?;
                    written = written.max(Some(mode));
                }
                "host" => host = value.into_owned(),
                // What looks like no name may be the rest of a password with a `?` in it.
                other if other.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                    return Err(UrlError::Parameter(other.to_owned()));
                }
                _ => return Err(UrlError::Shape),
            }
        }
        if host.starts_with('[') && host.ends_with(']') {
            host = host[1..host.len() - 1].to_owned();
        }
        let target = Self {
            host,
            port: url.port().unwrap_or(5432),
            database: decode(url.path().trim_start_matches('/'))?,
            user: decode(url.username())?,
            password: decode(url.password().unwrap_or_default())?.into(),
            tls,
        };
        for (part, name) in [(&target.host, "host"), (&target.database, "database"), (&target.user, "user")] {
            if part.is_empty() {
                return Err(UrlError::Missing(name));
            }
        }
        Ok((target, written))
    }

    /// Whether the server is on this machine: a loopback address, or the directory of a socket.
    fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.starts_with('/') || self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The URL form, password included: for sealing, or for the operator's own eyes.
    #[must_use]
    pub fn to_url(&self) -> SecretString {
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let host = match &*self.host {
            // A URL with a user has a host: `host=` alone could not be read again.
            directory if directory.starts_with('/') => encode(directory),
            address if address.contains(':') => format!("[{address}]"),
            name => name.to_owned(),
        };
        format!(
            "postgres://{}:{}@{host}:{}/{}?sslmode={}",
            encode(&self.user),
            encode(self.password.expose_secret()),
            self.port,
            encode(&self.database),
            self.tls.mode,
        )
        .into()
    }

    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }
}

/// The URL, and the host in it as it is written. libpq takes none beside a user, where `host=` says it; the standard for
/// URLs does not.
fn split_host(text: &str) -> Option<(Url, String)> {
    match Url::parse(text) {
        Ok(url) => {
            let host = url.host_str().unwrap_or_default().to_owned();
            Some((url, host))
        }
        Err(ParseError::EmptyHost) => {
            let begin = text.find("://")? + "://".len();
            let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |end| begin + end);
            let place = text[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
            let url = Url::parse(&format!("{}localhost{}", &text[..place], &text[place..])).ok()?;
            Some((url, String::new()))
        }
        Err(_) => None,
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, UrlError> {
        Target::parse(&url.to_owned().into(), TlsPolicy::mode(TlsMode::Require))
    }

    #[test]
    fn reads_and_writes_urls() {
        let target = parse("postgres://us%40er:p%3Aw%2F@db.example:6432/na%20me?sslmode=verify-ca").unwrap();
        assert_eq!((&*target.user, target.password.expose_secret(), target.port), ("us@er", "p:w/", 6432));
        assert_eq!((&*target.host, &*target.database, target.tls.mode), ("db.example", "na me", TlsMode::VerifyCa));
        let again = parse(target.to_url().expose_secret()).unwrap();
        assert_eq!((again.user, again.database, again.tls.mode), (target.user, target.database, TlsMode::VerifyCa));
        assert_eq!(parse("postgres://u:p@[::1]/d").unwrap().host, "::1");
    }

    #[test]
    fn the_directory_of_a_socket_is_a_host() {
        for url in [
            "postgres://u:p@%2Frun%2Fpost%20gres:5433/d",
            "postgres://u:p@localhost:5433/d?host=/run/post%20gres",
            // What was sealed with an earlier release.
            "postgres://u:p@:5433/d?sslmode=require&host=%2Frun%2Fpost%20gres",
        ] {
            let target = parse(url).unwrap();
            for target in [parse(target.to_url().expose_secret()).unwrap(), target] {
                let (user, password) = (&*target.user, target.password.expose_secret());
                let at = (&*target.host, target.port, &*target.database);
                assert_eq!((user, password, at), ("u", "p", ("/run/post gres", 5433, "d")), "{url}");
            }
        }
        assert_eq!(parse("postgres://u:p@/d?host=/run").unwrap().port, 5432);
        for url in ["postgres://u:p@/d", "postgres://u:p@:5432/d", "postgres:///d"] {
            assert_eq!(parse(url).unwrap_err(), UrlError::Missing("host"), "{url}");
        }
    }

    #[test]
    fn the_control_plane_is_verified_unless_it_is_here() {
        let mode = |url: &str| Target::parse_control_plane(&url.to_owned().into()).unwrap().tls.mode;
        assert_eq!(mode("postgres://u@db.example/d"), TlsMode::VerifyFull);
        assert_eq!(mode("postgres://u@db.example/d?sslmode=disable"), TlsMode::Disable);
        for here in ["127.0.0.1", "localhost", "[::1]"] {
            assert_eq!(mode(&format!("postgres://u@{here}/d")), TlsMode::Disable, "{here}");
        }
    }

    #[test]
    fn a_url_says_itself_what_nobody_says_beside_it() {
        let named = |query: &str, mode: Option<TlsMode>| {
            let url = format!("postgres://u@127.0.0.1/d{query}").into();
            Target::parse_named(&url, mode).map(|target| target.tls.mode)
        };
        assert_eq!(named("", None), Ok(TlsMode::VerifyFull), "on this machine too");
        for mode in TlsMode::ALL.iter().copied() {
            let query = format!("?sslmode={mode}");
            assert_eq!(named(&query, None), Ok(mode));
            assert_eq!(named(&query, Some(mode)), Ok(mode));
            assert_eq!(named("", Some(mode)), Ok(mode));
            for said in TlsMode::ALL.iter().copied().filter(|said| *said != mode) {
                assert_eq!(named(&query, Some(said)), Err(UrlError::Differs { said, written: mode }));
            }
        }
        for weak in ["prefer", "allow", ""] {
            assert_eq!(named(&format!("?sslmode={weak}"), None), Err(UrlError::SslMode), "{weak}");
        }
        for query in ["?sslmode=disable&sslmode=require", "?sslmode=require&sslmode=disable"] {
            assert_eq!(named(query, None), Ok(TlsMode::Require), "the strictest");
        }
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert_eq!(parse("mysql://u@h/d").unwrap_err(), UrlError::Shape);
        assert_eq!(parse("postgres://h/d").unwrap_err(), UrlError::Missing("user"));
        assert_eq!(parse("postgres://u@h/").unwrap_err(), UrlError::Missing("database"));
        assert_eq!(parse("postgres://u@h/d?sslmode=prefer").unwrap_err(), UrlError::SslMode);
        assert_eq!(parse("postgres://u@h/d?sslmode=disable").unwrap_err(), UrlError::Weaker(TlsMode::Require));
        assert_eq!(parse("postgres://u@h/d?options=-c").unwrap_err(), UrlError::Parameter("options".into()));
        assert_eq!(parse("postgres://u:12?rest@db/crm").unwrap_err(), UrlError::Shape, "the rest of a password");
    }
}
