//! Somebody who speaks to the application over HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::Answer;

/// No request of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a persona proves who they are.
#[derive(Clone)]
pub(super) enum Proof {
    /// Not at all.
    Nothing,
    /// With a token they have.
    Token(String),
    /// By logging in when they first speak.
    Login(Arc<Login>),
}

/// A login that happens once, when it is first needed.
pub(super) struct Login {
    /// Where.
    pub(super) path: &'static str,
    /// With what.
    pub(super) body: Value,
    /// For somebody who does not exist yet: who makes them, and with which body of `POST /api/v1/users`.
    pub(super) made_by: Option<(Persona, Value)>,
    /// `data` of the answer.
    pub(super) answer: OnceCell<Value>,
}

/// Somebody who speaks to the application. "As whom" is the receiver: `acme.admin().get("/api/v1/users")`.
#[derive(Clone)]
pub struct Persona {
    base: String,
    client: reqwest::Client,
    proof: Proof,
    headers: HeaderMap,
}

impl fmt::Debug for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match &self.proof {
            Proof::Nothing => "nobody",
            Proof::Token(_) => "the bearer of a token",
            Proof::Login(login) => login.body["email"].as_str().unwrap_or_default(),
        };
        write!(f, "Persona({who})")
    }
}

impl Persona {
    pub(super) fn new(base: &str, proof: Proof) -> Self {
        // A client of its own: its connections belong to the runtime of this one test.
        let client = reqwest::Client::builder()
            .no_proxy()
            // The machine's own take longer to read than many a test.
            .tls_certs_only([])
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without TLS needs nothing");
        Self { base: base.to_owned(), client, proof, headers: HeaderMap::new() }
    }

    pub(super) fn proving(&self, proof: Proof) -> Self {
        Self { proof, ..self.clone() }
    }

    /// The same person, with a further header on every request.
    ///
    /// # Panics
    /// If it is no header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut with = self.clone();
        with.headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header's name"),
            HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"),
        );
        with
    }

    /// Whoever bears this token, at the same application.
    #[must_use]
    pub fn bearing(&self, token: &str) -> Self {
        self.proving(Proof::Token(token.to_owned()))
    }

    /// The same connection without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        self.proving(Proof::Nothing)
    }

    /// The same person, at another node of the same installation.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { base: url.to_owned(), ..self.clone() }
    }

    /// What the login answered: tokens and the person. Logs in if that has not happened yet.
    ///
    /// # Panics
    /// If the person does not log in.
    pub async fn signed_in(&self) -> Value {
        let Proof::Login(login) = &self.proof else { panic!("{self:?} does not log in") };
        let answer = login.answer.get_or_init(async || {
            if let Some((maker, body)) = &login.made_by {
                Box::pin(maker.post("/api/v1/users", body.clone())).await.expect(201);
            }
            let anyone = self.anonymous();
            Box::pin(anyone.post(login.path, login.body.clone())).await.expect(200).data().clone()
        });
        answer.await.clone()
    }

    /// The access token; empty for nobody's.
    pub async fn token(&self) -> String {
        match &self.proof {
            Proof::Nothing => String::new(),
            Proof::Token(token) => token.clone(),
            Proof::Login(_) => self.signed_in().await["accessToken"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The refresh token.
    pub async fn refresh_token(&self) -> String {
        self.signed_in().await["refreshToken"].as_str().unwrap_or_default().to_owned()
    }

    /// The person's id.
    pub async fn user_id(&self) -> String {
        self.signed_in().await["user"]["id"].as_str().unwrap_or_default().to_owned()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(("application/json", body.to_string()))).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(("application/json", body.to_string()))).await
    }

    /// PATCH by a JSON Merge Patch.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(("application/merge-patch+json", body.to_string()))).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Any request: the body with its `Content-Type`.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Answer {
        self.try_send(method, path, body).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Any request, where there may be no answer.
    ///
    /// # Errors
    /// If the connection fails or the answer breaks off.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Result<Answer, reqwest::Error> {
        let asked = format!("{method} {path}");
        let mut request = self.client.request(method, format!("{}{path}", self.base)).headers(self.headers.clone());
        let token = self.token().await;
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((content_type, body)) = body {
            if !self.headers.contains_key(CONTENT_TYPE) {
                request = request.header(CONTENT_TYPE, content_type);
            }
            request = request.body(body);
        }
        Ok(Answer::read(asked, request.send().await?).await)
    }

    /// Makes a contact with this family name and gives its id.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn contact(&self, last_name: &str) -> String {
        self.post("/api/v1/contacts", json!({"firstName": "Ada", "lastName": last_name})).await.expect(201).id()
    }
}
