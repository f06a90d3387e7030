//! Judging what an app asks, once it is known whom to tell.

use chrono::{DateTime, Utc};

use super::back::Back;
use super::demands::Demands;
use super::store::RequestRow;
use crate::kernel::OauthClientId;
use crate::rest::Client;
use crate::tenant::oauth::clients::rules::OauthGrantType;
use crate::tenant::oauth::clients::store::ClientRow;
use crate::tenant::oauth::endpoint::Form;
use crate::tenant::oauth::refusal::{Outcome, Refusal};
use crate::tenant::oauth::scopes;

const LONGEST_STATE: usize = 1024;
const LONGEST_NONCE: usize = 255;
/// SHA-256 as base64url.
const CHALLENGE: usize = 43;

/// Whether a state can be given back.
pub(super) fn is_state(state: &str) -> bool {
    state.len() <= LONGEST_STATE && state.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    client: OauthClientId,
    scopes: Vec<String>,
    code_challenge: &'a str,
    nonce: Option<&'a str>,
    pub(super) demands: Demands,
}

impl<'a> Wanted<'a> {
    /// Reads it. Without a challenge by `S256` nobody gets a code, whatever the kind of app.
    pub(super) fn read(form: &'a Form, client: &ClientRow) -> Outcome<Self> {
        if !client.may(OauthGrantType::AuthorizationCode) {
            return Err(Refusal::new("unauthorized_client", "The client was not registered for this grant."));
        }
        if form.get("request").is_some() {
            return Err(Refusal::new("request_not_supported", "Give the parameters one by one."));
        }
        if form.get("request_uri").is_some() {
            return Err(Refusal::new("request_uri_not_supported", "Give the parameters one by one."));
        }
        if form.need("response_type")? != "code" {
            return Err(Refusal::new("unsupported_response_type", "There is the response_type code alone."));
        }
        if form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(Refusal::request("There is the response_mode query alone."));
        }
        if form.get("state").is_some_and(|state| !is_state(state)) {
            return Err(Refusal::request("The state is too long, or has characters that cannot be given back."));
        }
        let code_challenge = form.need("code_challenge")?;
        if form.get("code_challenge_method") != Some("S256") {
            return Err(Refusal::request("There is the code_challenge_method S256 alone."));
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if code_challenge.len() != CHALLENGE || !code_challenge.bytes().all(word) {
            return Err(Refusal::request("The code_challenge is none by S256."));
        }
        let nonce = form.get("nonce");
        if nonce.is_some_and(|nonce| nonce.len() > LONGEST_NONCE) {
            return Err(Refusal::request("The nonce is too long."));
        }
        let demands = Demands::read(form)?;
        let scopes = scopes::within(form.get("scope"), &client.scopes);
        let scopes = scopes.ok_or_else(|| Refusal::new("invalid_scope", "The client may not ask for this."))?;
        Ok(Self { client: client.id, scopes, code_challenge, nonce, demands })
    }

    /// As it is kept.
    pub(super) fn row(self, back: &Back<'_>, from: &Client, now: DateTime<Utc>, until: DateTime<Utc>) -> RequestRow {
        RequestRow {
            client_id: self.client,
            redirect_uri: back.redirect_uri.to_owned(),
            scopes: self.scopes,
            state: back.state.map(str::to_owned),
            nonce: self.nonce.map(str::to_owned),
            code_challenge: self.code_challenge.to_owned(),
            network: from.network(),
            created_at: now,
            expires_at: until,
        }
    }
}
