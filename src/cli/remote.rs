//! The API of a running server, as an operator uses it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use super::healthcheck::reachable;
use super::{Context, Refused, Usage};
use crate::config::secret_file;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where systems keep the CAs that they trust; the OpenSSL inside of us knows of none of them.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Which server, and who asks it.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Address of the server [default: that of the data directory, or the configured listener on this machine].
    #[arg(long)]
    url: Option<Url>,
    /// Operator to log in as [default: that of the data directory, for a server on this machine].
    #[arg(long, requires = "password_file")]
    email: Option<String>,
    /// File that holds the operator's password.
    #[arg(long, value_name = "FILE", requires = "email")]
    password_file: Option<PathBuf>,
    /// PEM of the CAs to trust for an https address [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A running server that an operator has logged in to.
pub(super) struct Remote {
    url: Url,
    tls: Option<SslConnector>,
    login: Login,
    token: Option<SecretString>,
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: SecretString,
}

/// What `tenantry dev` tells: `ready.json`.
#[derive(Deserialize)]
struct Ready {
    url: String,
    operator: Login,
}

impl RemoteArgs {
    /// Finds the server and the operator; asks nothing yet.
    ///
    /// # Errors
    /// If there is no operator to log in as, or a file cannot be used.
    pub(super) fn open(&self, context: &Context) -> anyhow::Result<Remote> {
        let ready = match context.sources.data_dir()? {
            Some(dir) => read_ready(&dir.join("ready.json"))?,
            None => None,
        };
        let url = match (&self.url, &ready) {
            (Some(url), _) => url.clone(),
            (None, Some(ready)) => Url::parse(&ready.url)?,
            (None, None) => Url::parse(&format!("http://{}", reachable(context.config.listen())))?,
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Usage(format!("--url {url} is not an http or https address")).into());
        }
        let login = match (&self.email, &self.password_file) {
            (Some(email), Some(file)) => {
                Login { email: email.clone(), password: secret_file("--password-file", file)? }
            }
            // What the directory knows is told to nobody but this machine.
            _ => ready.map(|ready| ready.operator).filter(|_| is_loopback(&url)).ok_or_else(|| {
                Refused::new("no operator to log in as", "give --email and --password-file, or --data-dir")
            })?,
        };
        let tls = if url.scheme() == "https" { Some(connector(self.ca_file.as_deref())?) } else { None };
        Ok(Remote { url, tls, login, token: None })
    }
}

impl Remote {
    /// `data` of the answer to a GET. Logs in where that has not happened yet, or does not hold any more.
    ///
    /// # Errors
    /// If the server does not answer, or refuses.
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        for again in [true, false] {
            if self.token.is_none() {
                self.log_in().await?;
            }
            match self.call(Method::GET, path, None).await? {
                (StatusCode::OK, mut answer) => return Ok(answer["data"].take()),
                (StatusCode::UNAUTHORIZED, _) if again => self.token = None,
                (status, answer) => return Err(refusal(&self.url, status, &answer)),
            }
        }
        bail!("{} does not take the token that it gave", self.url)
    }

    async fn log_in(&mut self) -> anyhow::Result<()> {
        let body = json!({"email": self.login.email, "password": self.login.password.expose_secret()});
        let (status, answer) = self.call(Method::POST, "/api/v1/admin/auth/login", Some(body)).await?;
        match answer["data"]["accessToken"].as_str() {
            Some(token) if status == StatusCode::OK => self.token = Some(token.into()),
            _ => return Err(refusal(&self.url, status, &answer)),
        }
        Ok(())
    }

    /// Ends the session. A server that does not answer any more ends it when its time is over.
    pub(super) async fn log_out(&mut self) {
        if self.token.is_some() {
            let _ = self.call(Method::POST, "/api/v1/admin/auth/logout", None).await;
            self.token = None;
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let exchange = self.exchange(method, path, body);
        let answered = timeout(PATIENCE, exchange).await.map_err(|_| anyhow!("no answer within {PATIENCE:?}"));
        answered.and_then(|answer| answer).with_context(|| format!("cannot ask {}", self.url))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(80));
        let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let Some(tls) = &self.tls else { return self.over(socket, method, path, body).await };
        let session = tls.configure()?.into_ssl(host.trim_matches(['[', ']']))?;
        let mut stream = tokio_openssl::SslStream::new(session, socket)?;
        // Its text is that of its cause: said once.
        std::pin::Pin::new(&mut stream).connect().await.map_err(|error| anyhow!("no TLS: {error}"))?;
        self.over(stream, method, path, body).await
    }

    /// One exchange on a connection of its own.
    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path().trim_end_matches('/')))
            .header(HOST, &self.url[url::Position::BeforeHost..url::Position::AfterPort])
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request.body(Full::new(bytes))?).await?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|error| anyhow!(error))?;
        driver.abort();
        Ok((status, serde_json::from_slice(&bytes.to_bytes()).unwrap_or_default()))
    }
}

/// What the server refuses, in its own words.
fn refusal(url: &Url, status: StatusCode, answer: &Value) -> anyhow::Error {
    let detail = answer["error"]["detail"].as_str().unwrap_or("this is no server of Tenantry's, or another release");
    let said = format!("{url} answered {}: {detail}", status.as_u16());
    if status.is_client_error() {
        Refused::new(said, "check --url, --email and --password-file").into()
    } else {
        anyhow!(said)
    }
}

fn read_ready(path: &Path) -> anyhow::Result<Option<Ready>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn connector(ca_file: Option<&Path>) -> anyhow::Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(path) = ca_file.or_else(|| BUNDLES.iter().map(Path::new).find(|path| path.exists())) {
        builder.set_ca_file(path).with_context(|| format!("cannot use {}", path.display()))?;
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_directory_knows_stays_on_this_machine() {
        for (url, here) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost/", true),
            ("https://[::1]:8443", true),
            ("https://api.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), here, "{url}");
        }
    }
}
