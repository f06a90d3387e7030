//! A plain client of a running server: one request on a connection of its own, or several on one that is kept.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::router::system_authorities;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Nothing came in time.
    #[error("no answer within {PATIENCE:?}")]
    Late,
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No TLS.
    #[error("no TLS: {0}")]
    Tls(String),
    /// This cannot be asked.
    #[error("this cannot be sent")]
    Unsendable,
    /// The server speaks something else.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long, or broke off.
    #[error("the answer cannot be read: {0}")]
    Body(String),
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Value>,
    unsendable: bool,
}

impl Ask {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: None, unsendable: false }
    }

    /// For something.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// With a body.
    #[must_use]
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    /// With a token.
    #[must_use]
    pub fn bearing(self, token: &str) -> Self {
        self.with(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => drop(self.headers.insert(name, value)),
            Err(_) => self.unsendable = true,
        }
        self
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON; else null.
    pub body: Value,
}

/// A client of one server. Clones share nothing but its settings.
#[derive(Clone)]
pub struct Client {
    url: Url,
    tls: Option<SslConnector>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    /// For a server at an http or https address; of an https one, the CAs in `ca_file` are trusted, else the system's.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn new(url: Url, ca_file: Option<&Path>) -> Result<Self, WebError> {
        let tls = if url.scheme() == "https" { Some(connector(ca_file)?) } else { None };
        Ok(Self { url, tls })
    }

    /// The server's address.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// If there is no answer within ten seconds.
    pub async fn ask(&self, ask: &Ask) -> Result<Heard, WebError> {
        timeout(PATIENCE, async { self.connect().await?.exchange(self, ask).await })
            .await
            .map_err(|_| WebError::Late)?
    }

    /// A connection that is kept: it opens with the first request, and again after one that failed.
    #[must_use]
    pub fn line(&self) -> Line {
        Line { client: self.clone(), wire: None }
    }

    async fn connect(&self) -> Result<Wire, WebError> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let socket = TcpStream::connect((host, self.url.port_or_known_default().unwrap_or(80))).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Wire::open(TokioIo::new(socket)).await };
        let session = tls.configure().and_then(|tls| tls.into_ssl(host));
        let session = session.map_err(|error| WebError::Tls(error.to_string()))?;
        let stream = tokio_openssl::SslStream::new(session, socket);
        let mut stream = stream.map_err(|error| WebError::Tls(error.to_string()))?;
        // Its text is that of its cause: said once.
        std::pin::Pin::new(&mut stream).connect().await.map_err(|error| WebError::Tls(error.to_string()))?;
        Wire::open(TokioIo::new(stream)).await
    }
}

/// See [`Client::line`].
#[derive(Debug)]
pub struct Line {
    client: Client,
    wire: Option<Wire>,
}

impl Line {
    /// One request after the other.
    ///
    /// # Errors
    /// If there is no answer within ten seconds.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Heard, WebError> {
        let exchange = async {
            let mut wire = match self.wire.take() {
                Some(wire) if !wire.sender.is_closed() => wire,
                _ => self.client.connect().await?,
            };
            let heard = wire.exchange(&self.client, ask).await?;
            self.wire = Some(wire);
            Ok(heard)
        };
        timeout(PATIENCE, exchange).await.map_err(|_| WebError::Late)?
    }
}

/// An open connection, and what drives it.
#[derive(Debug)]
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Wire {
    async fn open<S>(stream: S) -> Result<Self, WebError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        // What ends it is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    async fn exchange(&mut self, client: &Client, ask: &Ask) -> Result<Heard, WebError> {
        if ask.unsendable {
            return Err(WebError::Unsendable);
        }
        let url = &client.url;
        let uri = format!("{}{}", url.path().trim_end_matches('/'), ask.path);
        let body = ask.body.as_ref().map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(uri)
            .body(Full::new(body))
            .map_err(|_| WebError::Unsendable)?;
        let headers = request.headers_mut();
        headers.extend(ask.headers.clone());
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        headers.entry(HOST).or_insert(HeaderValue::from_str(host).map_err(|_| WebError::Unsendable)?);
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        if ask.body.is_some() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let bytes = bytes.map_err(|error| WebError::Body(error.to_string()))?.to_bytes();
        Ok(Heard { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }
}

fn connector(ca_file: Option<&Path>) -> Result<SslConnector, WebError> {
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(|error| WebError::Tls(error.to_string()))?;
    if let Some(path) = ca_file.or(system_authorities()) {
        let used = builder.set_ca_file(path);
        used.map_err(|error| WebError::Tls(format!("cannot use {}: {error}", path.display())))?;
    }
    Ok(builder.build())
}
