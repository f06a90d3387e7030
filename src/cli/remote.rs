//! The API of a running server, as an operator uses it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use hyper::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};

use super::healthcheck::reachable;
use super::{Context, Refused, Usage};
use crate::config::secret_file;
use crate::fleet::web::{Ask, Client};

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
    /// File that holds the authenticator's code of now, or a recovery code [default: it is asked for, on a terminal].
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// PEM of the CAs to trust for an https address [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A running server that an operator has logged in to.
pub(super) struct Remote {
    client: Client,
    login: Login,
    code_file: Option<PathBuf>,
    /// Somebody is there to be asked for a code; once, for later there may be a screen in between.
    may_ask: bool,
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
        let (url, ready) = server(context, self.url.as_ref())?;
        let login = match (&self.email, &self.password_file) {
            (Some(email), Some(file)) => {
                Login { email: email.clone(), password: secret_file("--password-file", file)? }
            }
            // What the directory knows is told to nobody but this machine.
            _ => ready.map(|ready| ready.operator).filter(|_| is_loopback(&url)).ok_or_else(|| {
                Refused::new("no operator to log in as", "give --email and --password-file, or --data-dir")
            })?,
        };
        Ok(Remote {
            client: Client::new(url, self.ca_file.as_deref())?,
            login,
            code_file: self.code_file.clone(),
            may_ask: io::stdin().is_terminal() && io::stderr().is_terminal(),
            token: None,
        })
    }
}

impl Remote {
    /// `data` of the answer to a GET. Logs in where that has not happened yet, or does not hold any more.
    ///
    /// # Errors
    /// If the server does not answer, or refuses.
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// `data` of the answer to any request; null where it has none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) async fn ask(&mut self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        for again in [true, false] {
            if self.token.is_none() {
                self.log_in().await?;
            }
            match self.call(method.clone(), path, body.clone()).await? {
                (status, mut answer) if status.is_success() => return Ok(answer["data"].take()),
                (StatusCode::UNAUTHORIZED, _) if again => self.token = None,
                (status, answer) => return Err(refusal(self.client.url(), status, &answer, remedy(status))),
            }
        }
        bail!("{} does not take the token that it gave", self.client.url())
    }

    /// Logs in: before anything else is asked, where a person may have to be asked for a code.
    ///
    /// # Errors
    /// As [`Self::get`]; and if the operator has a second factor, and there is no code.
    pub(super) async fn log_in(&mut self) -> anyhow::Result<()> {
        let body = json!({"email": self.login.email, "password": self.login.password.expose_secret()});
        let (mut status, mut answer) = self.call(Method::POST, "/api/v1/admin/auth/login", Some(body)).await?;
        let mut otherwise = remedy(status);
        if let Some(half) = answer["data"]["mfaToken"].as_str() {
            let body = json!({"mfaToken": half, "code": self.code()?.expose_secret()});
            (status, answer) = self.call(Method::POST, "/api/v1/admin/auth/mfa", Some(body)).await?;
            otherwise = "give the authenticator's code of now; each is good once";
        }
        match answer["data"]["accessToken"].as_str() {
            Some(token) if status == StatusCode::OK => self.token = Some(token.into()),
            _ => return Err(refusal(self.client.url(), status, &answer, otherwise)),
        }
        Ok(())
    }

    /// The code of the second factor: from its file, or whoever sits at the terminal.
    fn code(&mut self) -> anyhow::Result<SecretString> {
        if let Some(file) = &self.code_file {
            return Ok(secret_file("--code-file", file)?);
        }
        if !std::mem::take(&mut self.may_ask) {
            let what = format!("{} has a second factor, and there is no code", self.login.email);
            return Err(Refused::new(what, "give --code-file, or run it on a terminal, where it asks").into());
        }
        write!(io::stderr().lock(), "Code of {}'s second factor: ", self.login.email)?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().into())
    }

    /// Ends the session. A server that does not answer any more ends it when its time is over.
    pub(super) async fn log_out(&mut self) {
        if self.token.is_some() {
            let _ = self.call(Method::POST, "/api/v1/admin/auth/logout", None).await;
            self.token = None;
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut ask = match body {
            Some(body) => Ask::post(path, body),
            None => Ask::new(method, path),
        };
        if let Some(token) = &self.token {
            ask = ask.bearing(token.expose_secret());
        }
        let heard = self.client.ask(&ask).await.with_context(|| format!("cannot ask {}", self.client.url()))?;
        Ok((StatusCode::from_u16(heard.status)?, heard.body))
    }
}

/// What the server refuses, in its own words, field by field.
fn refusal(url: &Url, status: StatusCode, answer: &Value, remedy: &str) -> anyhow::Error {
    let error = &answer["error"];
    let detail = error["detail"].as_str().unwrap_or("this is no server of Tenantry's, or another release");
    let fields = error["errors"].as_array().into_iter().flatten();
    let fields = fields.filter_map(|field| Some((field["field"].as_str()?, field["message"].as_str()?)));
    let fields = fields.map(|(field, message)| (field, message.trim_end_matches('.')));
    let fields = fields.filter(|(_, message)| !detail.contains(*message));
    let fields: String = fields.map(|(field, message)| format!(" ({field}: {message})")).collect();
    let said = format!("{url} answered {}: {}{fields}", status.as_u16(), detail.trim_end_matches('.'));
    if status.is_client_error() { Refused::new(said, remedy).into() } else { anyhow!(said) }
}

/// What an operator does about a refusal.
fn remedy(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "check --url, --email and --password-file",
        StatusCode::FORBIDDEN => "log in as an operator who may do this",
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => "correct what is named, and run it again",
        StatusCode::TOO_MANY_REQUESTS => "wait some minutes",
        _ => "check --url, and what is named",
    }
}

/// The address of the server: the one that is named, else that of the data directory, else the configured listener on
/// this machine.
///
/// # Errors
/// `Usage` unless it is an http or https address.
pub(super) fn server_url(context: &Context, named: Option<&Url>) -> anyhow::Result<Url> {
    server(context, named).map(|(url, _)| url)
}

fn server(context: &Context, named: Option<&Url>) -> anyhow::Result<(Url, Option<Ready>)> {
    let ready = match context.sources.data_dir()? {
        Some(dir) => read_ready(&dir.join("ready.json"))?,
        None => None,
    };
    let url = match (named, &ready) {
        (Some(url), _) => url.clone(),
        (None, Some(ready)) => Url::parse(&ready.url)?,
        (None, None) => Url::parse(&format!("http://{}", reachable(context.config.listen())))?,
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Usage(format!("--url {url} is not an http or https address")).into());
    }
    Ok((url, ready))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_each_field_and_what_to_do() {
        let url: Url = "https://api.example.com".parse().unwrap();
        let said = |status: u16, answer: Value| {
            let status = StatusCode::from_u16(status).unwrap();
            refusal(&url, status, &answer, remedy(status)).to_string()
        };
        let errors = json!([{"field": "jwksUrl", "code": "invalid", "message": "Write it as https://…."}]);
        assert_eq!(
            said(422, json!({"error": {"detail": "Some fields are not valid.", "errors": errors}})),
            "https://api.example.com/ answered 422: Some fields are not valid (jwksUrl: Write it as https://…); correct what \
             is named, and run it again"
        );
        let taken = json!([{"field": "name", "code": "already_exists", "message": "The name is taken."}]);
        assert_eq!(
            said(409, json!({"error": {"detail": "The name is taken.", "errors": taken}})),
            "https://api.example.com/ answered 409: The name is taken; correct what is named, and run it again"
        );
        let refused = said(403, json!({"error": {"detail": "This needs the role 'admin'.", "errors": []}}));
        assert!(refused.ends_with("'admin'; log in as an operator who may do this"), "{refused}");
        assert!(said(404, Value::Null).contains("no server of Tenantry's"));
    }

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
