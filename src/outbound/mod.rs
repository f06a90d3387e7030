//! The one way out over HTTP to addresses that tenants name: identity providers, webhooks, and the like.
//!
//! Whoever names an address could name one inside: so only public addresses are reached, over TLS. What a name stands for
//! is looked up by ourselves and judged before a connection is opened, and each request looks it up anew; redirects are
//! not followed, proxies of the environment not used, and time and size are bounded. An installation can allow networks of
//! its own (`outbound.allow`); only there plain HTTP is spoken, too.

mod guard;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, redirect};
use tokio::time::timeout;
use url::Url;

use crate::config::Network;
use guard::{Guard, Looked, Refused};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long everything of one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const MOST: usize = 256 * 1024;
/// The longest address.
const LONGEST_URL: usize = 2048;

/// Why there is no answer. The text never holds the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The address may not be reached. The sentence is for whoever named it.
    #[error("{0}")]
    Refused(&'static str),
    /// It took too long.
    #[error("no answer in time")]
    TooLate,
    /// The answer is too long.
    #[error("the answer is too long")]
    TooLong,
    /// Nobody there, or no TLS that could be trusted. The kind of failure is for the log.
    #[error("cannot be reached: {0}")]
    Unreachable(&'static str),
}

/// A result with an [`OutboundError`].
pub type Result<T> = std::result::Result<T, OutboundError>;

/// What is asked.
pub struct Request {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    most: usize,
    patience: Duration,
}

// Headers and bodies carry secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.method)
    }
}

impl Request {
    fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Vec::new(), most: MOST, patience: PATIENCE }
    }

    /// GET.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// POST of a body.
    #[must_use]
    pub fn post(url: Url, content_type: &'static str, body: Vec<u8>) -> Self {
        let kind = (reqwest::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { body, headers: vec![kind], ..Self::new(Method::POST, url) }
    }

    /// PUT of a body.
    #[must_use]
    pub fn put(url: Url, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { method: Method::PUT, ..Self::post(url, content_type, body) }
    }

    /// With a further header; one whose value is none is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.push((name, value));
        }
        self
    }

    /// Bytes of the answer that are read; 256 KiB where nothing else is said.
    #[must_use]
    pub const fn at_most(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// How long all of it may take; 10 s where nothing else is said.
    #[must_use]
    pub const fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// What came back.
#[derive(Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

/// The client. Clones share it.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    allowed: Arc<[Network]>,
    /// For everywhere that may be reached, over TLS.
    tls: OnceLock<Option<Client>>,
    /// For the allowed networks alone.
    plain: OnceLock<Option<Client>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("allowed", &self.0.allowed).finish_non_exhaustive()
    }
}

impl Outbound {
    /// A client that reaches public addresses, and those of these networks.
    #[must_use]
    pub fn new(allowed: Vec<Network>) -> Self {
        Self(Arc::new(Inner { allowed: allowed.into(), tls: OnceLock::new(), plain: OnceLock::new() }))
    }

    /// Reads an address, and refuses what could not be reached whatever its name stands for.
    ///
    /// # Errors
    /// [`OutboundError::Refused`].
    pub fn read(&self, text: &str) -> Result<Url> {
        if text.len() > LONGEST_URL {
            return Err(OutboundError::Refused("It is too long."));
        }
        let url =
            Url::parse(text).map_err(|_| OutboundError::Refused("It is no address, as https://id.example.com."))?;
        self.judge(&url)?;
        Ok(url)
    }

    fn judge(&self, url: &Url) -> Result<()> {
        let plain = match url.scheme() {
            "https" => false,
            "http" if !self.0.allowed.is_empty() => true,
            _ => return Err(OutboundError::Refused("Only https:// is taken.")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OutboundError::Refused("It has a name or a password in it."));
        }
        match url.host() {
            Some(url::Host::Domain("")) | None => Err(OutboundError::Refused("It names no host.")),
            Some(url::Host::Domain(_)) => Ok(()),
            Some(url::Host::Ipv4(ip)) => self.guard(plain).judge(ip.into()).map_err(Into::into),
            Some(url::Host::Ipv6(ip)) => self.guard(plain).judge(ip.into()).map_err(Into::into),
        }
    }

    fn guard(&self, plain: bool) -> Guard {
        Guard { allowed: self.0.allowed.clone(), public: !plain }
    }

    fn client(&self, plain: bool) -> Result<&Client> {
        let made = if plain { &self.0.plain } else { &self.0.tls };
        let made = made.get_or_init(|| {
            let client = Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .https_only(!plain)
                .connect_timeout(CONNECT)
                // A connection that was kept would not be judged again.
                .pool_max_idle_per_host(0)
                .dns_resolver(Looked(self.guard(plain)))
                .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")));
            client.build().inspect_err(|error| tracing::error!(%error, "there is no client for HTTP")).ok()
        });
        made.as_ref().ok_or(OutboundError::Unreachable("no client"))
    }

    /// Asks, and reads the whole answer. Whatever its status, it is an answer.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn send(&self, request: Request) -> Result<Response> {
        self.judge(&request.url)?;
        let client = self.client(request.url.scheme() == "http")?;
        let Request { method, url, headers, body, most, patience } = request;
        let mut asked = client.request(method, url).body(body);
        for (name, value) in headers {
            asked = asked.header(name, value);
        }
        let all = async {
            let mut answer = asked.send().await.map_err(|error| failure(&error))?;
            let status = answer.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error))? {
                if body.len() + chunk.len() > most {
                    return Err(OutboundError::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Response { status, body })
        };
        timeout(patience, all).await.unwrap_or(Err(OutboundError::TooLate))
    }
}

/// Names the failure without what it says of the address.
fn failure(error: &reqwest::Error) -> OutboundError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return (*refused).into();
        }
        next = cause.source();
    }
    match error {
        _ if error.is_timeout() => OutboundError::TooLate,
        _ if error.is_connect() => OutboundError::Unreachable("connection"),
        _ if error.is_body() || error.is_decode() => OutboundError::Unreachable("body"),
        _ => OutboundError::Unreachable("request"),
    }
}

#[cfg(test)]
mod tests;
