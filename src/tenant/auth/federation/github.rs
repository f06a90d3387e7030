//! GitHub: OAuth 2 without ID tokens. Who somebody is, its API says to the bearer of the access token.

use reqwest::header::{ACCEPT, AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::flow::{External, Flow, Returned, refused, unavailable};
use super::oidc::read;
use crate::error::ApiResult;
use crate::outbound::Request;
use crate::tenant::identity_providers::rules::GITHUB;
use crate::tenant::jose::Fault;

fn address(flow: &Flow<'_>, text: &str) -> ApiResult<Url> {
    flow.foreign.outbound().read(text).map_err(unavailable)
}

fn site(flow: &Flow<'_>, path: &str) -> ApiResult<Url> {
    address(flow, &format!("{}{path}", flow.provider.issuer.trim_end_matches('/')))
}

/// GitHub's API has a host of its own, that of an Enterprise Server a path.
fn api(flow: &Flow<'_>, path: &str) -> ApiResult<Url> {
    match flow.provider.issuer.trim_end_matches('/') {
        GITHUB => address(flow, &format!("https://api.github.com{path}")),
        server => address(flow, &format!("{server}/api/v3{path}")),
    }
}

/// Where the person is sent.
pub(super) fn authorization(flow: &Flow<'_>) -> ApiResult<Url> {
    site(flow, "/login/oauth/authorize")
}

#[derive(Deserialize)]
struct Token {
    access_token: Option<SecretString>,
}

#[derive(Deserialize)]
struct Person {
    id: u64,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

/// Exchanges the code, and asks who has come.
pub(super) async fn identify(flow: &Flow<'_>, returned: &Returned<'_>) -> ApiResult<External> {
    if returned.iss.is_some_and(|iss| iss != flow.provider.issuer) {
        return Err(refused(Fault("answer of another issuer")));
    }
    let secret = flow.secret()?;
    let mut form = Serializer::new(String::new());
    form.append_pair("client_id", &flow.provider.client_id)
        .append_pair("client_secret", secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default())
        .append_pair("code", returned.code.expose_secret())
        .append_pair("redirect_uri", flow.redirect_uri)
        .append_pair("code_verifier", &flow.verifier());
    let address = site(flow, "/login/oauth/access_token")?;
    let request = Request::post(address, "application/x-www-form-urlencoded", form.finish().into_bytes())
        .header(ACCEPT, "application/json");
    let answer = flow.foreign.outbound().send(request).await.map_err(unavailable)?;
    // A code that it refuses is answered 200, too, without a token.
    let token: Token = read(&answer, "the code was refused")?;
    let token = token.access_token.ok_or_else(|| refused(Fault("the code was refused")))?;
    let person: Person = ask(flow, "/user", &token).await?;
    let emails: Vec<Email> = ask(flow, "/user/emails", &token).await?;
    let email = emails.into_iter().find(|email| email.primary && email.verified);
    let name = person.name.unwrap_or_default();
    let (first, last) = name.trim().rsplit_once(' ').unwrap_or((name.trim(), ""));
    Ok(External {
        issuer: flow.provider.issuer.clone(),
        subject: person.id.to_string(),
        email_verified: email.is_some(),
        email: email.map(|email| email.email),
        first_name: first.to_owned(),
        last_name: last.to_owned(),
        // It says nothing of it.
        signed_in_ago: None,
    })
}

async fn ask<T: serde::de::DeserializeOwned>(flow: &Flow<'_>, path: &str, token: &SecretString) -> ApiResult<T> {
    let request = Request::get(api(flow, path)?)
        .header(ACCEPT, "application/vnd.github+json")
        .header(AUTHORIZATION, &format!("Bearer {}", token.expose_secret()));
    read(&flow.foreign.outbound().send(request).await.map_err(unavailable)?, "the access token was refused")
}
