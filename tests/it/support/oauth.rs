//! Apps, and people who let them in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::kernel::crypto::sha256;
use tenantry::testing::{Answer, Persona, Tenant};
use url::Url;
use url::form_urlencoded::Serializer;

use super::unique;

/// Where people are sent back to.
pub(crate) const REDIRECT: &str = "https://app.example.com/callback";
const PAGE: &str = "https://front.example.com/consent";
/// What the challenge of these tests is made of.
pub(crate) const VERIFIER: &str = "a-verifier-of-more-than-forty-three-characters";

/// The challenge of a verifier.
pub(crate) fn challenge(verifier: &str) -> String {
    BASE64URL.encode(sha256(verifier.as_bytes()))
}

/// A form.
pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// An app of a tenant's.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) tenant: Tenant,
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
}

impl App {
    /// A new one of the administrator's: confidential with all grants, unless `more` says otherwise.
    pub(crate) async fn new(tenant: &Tenant, scopes: &[&str], more: Value) -> Self {
        let mut body = json!({
            "name": unique("app"), "confidential": true, "scopes": scopes, "redirectUris": [REDIRECT],
            "grants": ["authorization_code", "refresh_token", "client_credentials"],
        });
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        let made = tenant.admin().post("/api/v1/oauth/clients", body).await.expect(201);
        let secret = made.data()["secret"].as_str().map(str::to_owned);
        tenant.admin().patch("/api/v1/oauth/settings", json!({"consentUrl": PAGE})).await.expect(200);
        Self { tenant: tenant.clone(), id: made.id(), secret }
    }

    /// Asks an endpoint of its tenant's, or of another's, proving itself.
    pub(crate) async fn ask_at(&self, tenant: &Tenant, endpoint: &str, parameters: &[(&str, &str)]) -> Answer {
        let mut who = tenant.anonymous();
        let mut all = parameters.to_vec();
        match &self.secret {
            Some(secret) => {
                who = who.with("authorization", &format!("Basic {}", BASE64.encode(format!("{}:{secret}", self.id))))
            }
            None => all.push(("client_id", &self.id)),
        }
        send(&who, tenant, endpoint, &all).await
    }

    /// The same, of its own tenant.
    pub(crate) async fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Answer {
        self.ask_at(&self.tenant, endpoint, parameters).await
    }

    /// What it asks for, with further parameters over the usual ones; one that is empty is left out.
    pub(crate) async fn authorize(&self, over: &[(&str, &str)]) -> Answer {
        let challenge = challenge(VERIFIER);
        let usual = [
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", REDIRECT),
            ("state", "a state"),
            ("nonce", "a nonce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let mut all: BTreeMap<&str, &str> = usual.into();
        all.extend(over.iter().copied());
        all.retain(|_, value| !value.is_empty());
        let query = form(&all.into_iter().collect::<Vec<_>>());
        self.tenant.anonymous().get(&format!("/t/{}/oauth/authorize?{query}", self.tenant.slug)).await
    }

    /// The word under which a question waits.
    pub(crate) async fn request(&self, over: &[(&str, &str)]) -> String {
        let sent = self.authorize(over).await.expect(303);
        let page = sent.header("location").expect("an address");
        assert!(page.starts_with(&format!("{PAGE}?request=tor_")), "{page}");
        parameters(page)["request"].clone()
    }

    /// A code, with the consent of this person.
    pub(crate) async fn code(&self, person: &Persona, over: &[(&str, &str)]) -> String {
        let request = self.request(over).await;
        let path = format!("/api/v1/oauth/requests/{request}/accept");
        let answer = person.post(&path, json!({})).await.expect(200);
        parameters(answer.data()["redirectTo"].as_str().expect("an address"))["code"].clone()
    }

    /// Exchanges a code.
    pub(crate) async fn exchange(&self, code: &str) -> Answer {
        self.ask("token", &exchange(code)).await
    }

    /// Exchanges a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.ask("token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Its tokens, with the consent of this person.
    pub(crate) async fn tokens(&self, person: &Persona, scope: &str) -> Tokens {
        let code = self.code(person, &[("scope", scope)]).await;
        Tokens::of(&self.exchange(&code).await.expect(200))
    }

    /// Whether a token is good, as it is told itself.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        let said = self.ask("introspect", &[("token", token)]).await.expect(200);
        said.body["active"].as_bool().expect("a word")
    }

    /// Whoever bears this token.
    pub(crate) fn bearing(&self, token: &str) -> Persona {
        self.tenant.anonymous().bearing(token)
    }
}

/// What exchanges a code.
pub(crate) fn exchange(code: &str) -> [(&str, &str); 4] {
    [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)]
}

/// A form to an endpoint of a tenant's.
pub(crate) async fn send(who: &Persona, tenant: &Tenant, endpoint: &str, parameters: &[(&str, &str)]) -> Answer {
    let path = format!("/t/{}/oauth/{endpoint}", tenant.slug);
    who.send(Method::POST, &path, Some(("application/x-www-form-urlencoded", form(parameters)))).await
}

/// The parameters of an address.
pub(crate) fn parameters(address: &str) -> BTreeMap<String, String> {
    let url: Url = address.parse().unwrap_or_else(|_| panic!("no address: {address}"));
    url.query_pairs().into_owned().collect()
}

/// An app's tokens.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Tokens {
    pub(crate) fn of(answer: &Answer) -> Self {
        let word = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        Self { access: word("access_token"), refresh: word("refresh_token") }
    }
}

/// Asserts a refusal as RFC 6749 has it.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{answer:?}");
    assert!(answer.body.get("success").is_none() && answer.body["error_description"].is_string(), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
}

/// Has an app ask, and gives the word under which its question waits.
pub(crate) async fn ask(tenant: &Tenant, client: &str, redirect: &str) -> String {
    let challenge = challenge(VERIFIER);
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", redirect),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let sent = tenant.anonymous().get(&format!("/t/{}/oauth/authorize?{query}", tenant.slug)).await.expect(303);
    parameters(sent.header("location").expect("an address"))["request"].clone()
}
