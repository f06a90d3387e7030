//! Identity providers: two honest ones, and one that does what it is told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};
use tokio::sync::OnceCell;
use url::Url;

use super::peers::node;

/// Where providers send people back to.
pub(crate) const REDIRECT: &str = "https://app.example.com/callback";

/// A script that says where it listens, and ends with this process.
pub(crate) fn start(name: &str, text: &str) -> (Child, Value) {
    listening(node(name, text), name)
}

/// The same for any program.
pub(crate) fn listening(mut program: Command, name: &str) -> (Child, Value) {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut said).expect("a line");
    // Whatever else it says is listened to, or it would not be said.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{name} does not start: {said}"));
    (child, said)
}

/// The issuers of two certified providers.
pub(crate) fn honest() -> [&'static str; 2] {
    static RUNNING: OnceLock<(Child, Value)> = OnceLock::new();
    let (_, issuers) = RUNNING.get_or_init(|| start("oidc.js", include_str!("../../peers/oidc.js")));
    [0, 1].map(|at| issuers[at].as_str().expect("an issuer"))
}

/// The address of the provider that does what it is told.
pub(crate) fn evil() -> &'static str {
    static RUNNING: OnceLock<(Child, Value)> = OnceLock::new();
    let (_, address) = RUNNING.get_or_init(|| start("evil.js", include_str!("../../peers/evil.js")));
    address.as_str().expect("an address")
}

/// Asks it something.
pub(crate) async fn evil_post(path: &str, body: Value) -> Value {
    let client = client();
    let asked = client.post(format!("{}{path}", evil())).body(body.to_string());
    let text = asked.send().await.expect("an answer").text().await.expect("a text");
    serde_json::from_str(&text).expect("JSON")
}

/// A client that follows nobody.
pub(crate) fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.build().expect("a client")
}

/// A node that may reach providers on this machine, and whose clock these tests may move by seconds.
pub(crate) async fn app() -> &'static TestApp {
    static APP: OnceCell<TestApp> = OnceCell::const_new();
    let start = async || {
        let home = TestApp::shared().await;
        TestApp::builder().beside(home).set("TENANTRY_OUTBOUND__ALLOW", "127.0.0.0/8").start().await
    };
    APP.get_or_init(start).await
}

/// A provider of the tenant's, with further members over the usual ones.
pub(crate) async fn provider(tenant: &Tenant, slug: &str, issuer: &str, more: Value) -> Value {
    let mut body = json!({
        "slug": slug, "name": slug, "kind": "oidc", "issuer": issuer, "clientId": "tenantry",
        "clientSecret": "a secret of thirty-two characters", "redirectUris": [REDIRECT],
        "allowedDomains": ["acme.test"], "defaultRole": "user",
    });
    for (name, value) in more.as_object().expect("members") {
        body[name] = value.clone();
    }
    tenant.admin().post("/api/v1/identity-providers", body).await.expect(201).data().clone()
}

/// A sign-in that has begun.
pub(crate) struct Begun {
    pub(crate) url: Url,
    pub(crate) state: String,
}

impl Begun {
    pub(crate) fn of(answer: &Answer) -> Self {
        let url = answer.data()["authorizationUrl"].as_str().expect("an address").parse().expect("an address");
        Self { url, state: answer.data()["state"].as_str().expect("a state").to_owned() }
    }

    pub(crate) fn parameter(&self, name: &str) -> String {
        let found = self.url.query_pairs().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", self.url)).1.into_owned()
    }

    /// A code for the evil provider: an ID token for this sign-in, with what is wished otherwise.
    pub(crate) fn code(&self, wish: &Value) -> String {
        let mut wish = wish.clone();
        if wish["claims"].get("nonce").is_none() {
            wish["claims"]["nonce"] = json!(self.parameter("nonce"));
        }
        BASE64URL.encode(wish.to_string())
    }
}

/// Begins a sign-in.
pub(crate) async fn begin(tenant: &Tenant, provider: &str) -> Begun {
    let body = json!({"tenant": tenant.slug.as_str(), "redirectUri": REDIRECT});
    let path = format!("/api/v1/auth/federation/{provider}/start");
    Begun::of(&tenant.anonymous().post(&path, body).await.expect(200))
}

/// Comes back.
pub(crate) async fn back(who: &Persona, state: &str, code: &str, iss: Option<&str>) -> Answer {
    let mut body = json!({"state": state, "code": code});
    if let Some(iss) = iss {
        body["iss"] = json!(iss);
    }
    who.post("/api/v1/auth/federation/callback", body).await
}

/// Goes where a browser goes, signs in as this person at the provider and consents; gives what comes back.
pub(crate) async fn consent(begun: &Begun, person: &Value) -> BTreeMap<String, String> {
    let (client, mut cookies) = (client(), BTreeMap::<String, String>::new());
    let mut at = begun.url.clone();
    at.query_pairs_mut().append_pair("login_hint", &person.to_string());
    for _ in 0..10 {
        let sent: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = client.get(at.clone()).header("cookie", sent.join("; ")).send().await.expect("an answer");
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text").split(';').next().unwrap_or_default();
            let (name, value) = cookie.split_once('=').expect("a cookie");
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = answer.headers().get("location").map(|to| to.to_str().expect("text").to_owned());
        let Some(location) = location else {
            panic!("{at} leads nowhere: {}", answer.text().await.unwrap_or_default())
        };
        at = at.join(&location).expect("an address");
        if at.as_str().starts_with(REDIRECT) {
            return at.query_pairs().into_owned().collect();
        }
    }
    panic!("no end of redirects at {at}")
}

/// A whole sign-in through an honest provider.
pub(crate) async fn sign_in(tenant: &Tenant, provider: &str, person: &Value) -> Answer {
    let begun = begin(tenant, provider).await;
    let came = consent(&begun, person).await;
    assert_eq!(came["state"], begun.state, "{came:?}");
    back(&tenant.anonymous(), &came["state"], &came["code"], came.get("iss").map(String::as_str)).await
}

/// The claims of an access token.
pub(crate) fn claims(answer: &Answer) -> Value {
    let token = answer.data()["accessToken"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}"));
    let payload = BASE64URL.decode(token.split('.').nth(1).expect("three parts")).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}
