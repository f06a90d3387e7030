//! OpenID Connect: a code for an ID token, by the provider's own description.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::TimeDelta;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::flow::{External, Flow, Returned, refused, unavailable};
use crate::error::{ApiError, ApiResult};
use crate::outbound::{Request, Response};
use crate::tenant::jose::{Claims, Endpoints, Fault, Head, Rules, is_true};

/// How old an ID token may be that was asked for a moment ago, in seconds.
const OLDEST: i64 = 600;
/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 60;

async fn endpoints(flow: &Flow<'_>) -> ApiResult<Endpoints> {
    Ok(flow.foreign.endpoints(flow.db.tenant().id, &flow.provider.issuer).await?)
}

/// Where the person is sent.
pub(super) async fn authorization(flow: &Flow<'_>) -> ApiResult<Url> {
    Ok(endpoints(flow).await?.authorization)
}

/// What the token endpoint gives.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<SecretString>,
}

/// Exchanges the code, and reads who has come.
pub(super) async fn identify(flow: &Flow<'_>, returned: &Returned<'_>) -> ApiResult<External> {
    let endpoints = endpoints(flow).await?;
    // Before the code is shown to anybody: another provider's code is none of this one's business (RFC 9207).
    match returned.iss {
        Some(iss) if iss != flow.provider.issuer => return Err(refused(Fault("answer of another issuer"))),
        None if endpoints.names_itself => return Err(refused(Fault("answer without its issuer"))),
        _ => {}
    }
    let tokens = exchange(flow, &endpoints, returned).await?;
    let token = tokens.id_token.ok_or_else(|| refused(Fault("no ID token")))?;
    let claims = verify(flow, &endpoints, &token).await?;
    let mut said = claims.rest;
    let lacks = |said: &Map<String, Value>| !said.get("email").is_some_and(Value::is_string);
    if let (true, Some(address), Some(access)) = (lacks(&said), &endpoints.userinfo, &tokens.access_token) {
        said.extend(userinfo(flow, address, access, &claims.sub).await?);
    }
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let (first, last) = match (text("given_name"), text("family_name"), text("name")) {
        (None, None, Some(name)) => name.rsplit_once(' ').unwrap_or((name, "")),
        (first, last, _) => (first.unwrap_or_default(), last.unwrap_or_default()),
    };
    Ok(External {
        issuer: claims.iss,
        subject: claims.sub,
        email: text("email").map(str::to_owned),
        email_verified: is_true(said.get("email_verified")),
        first_name: first.to_owned(),
        last_name: last.to_owned(),
        signed_in_ago: claims.auth_time.and_then(|at| ago(flow.now, at)),
    })
}

/// How long ago a moment was, both in Unix seconds: nothing of one to come, ten years at most.
#[expect(clippy::cast_precision_loss, reason = "seconds of our era are exact in a double")]
fn ago(now: i64, at: f64) -> Option<TimeDelta> {
    let longest = TimeDelta::days(3650);
    let ago = (now as f64 - at).clamp(0.0, longest.num_seconds() as f64);
    Duration::try_from_secs_f64(ago).ok().and_then(|ago| TimeDelta::from_std(ago).ok())
}

async fn exchange(flow: &Flow<'_>, endpoints: &Endpoints, returned: &Returned<'_>) -> ApiResult<Tokens> {
    let secret = flow.secret()?;
    let client = &flow.provider.client_id;
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", returned.code.expose_secret())
        .append_pair("redirect_uri", flow.redirect_uri)
        .append_pair("code_verifier", &flow.verifier());
    let mut basic = None;
    match &secret {
        Some(secret) if endpoints.secret_in_body => {
            form.append_pair("client_id", client).append_pair("client_secret", secret.expose_secret());
        }
        Some(secret) => {
            let part = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            basic = Some(format!("{}:{}", part(client), part(secret.expose_secret())));
        }
        None => {
            form.append_pair("client_id", client);
        }
    }
    let mut request =
        Request::post(endpoints.token.clone(), "application/x-www-form-urlencoded", form.finish().into_bytes())
            .header(ACCEPT, "application/json");
    if let Some(basic) = basic {
        request = request.header(AUTHORIZATION, &format!("Basic {}", BASE64.encode(basic)));
    }
    read(&flow.foreign.outbound().send(request).await.map_err(unavailable)?, "the code was refused")
}

/// Reads an answer's JSON. What the other side is to blame for is no refusal of what was brought.
pub(super) fn read<T: serde::de::DeserializeOwned>(answer: &Response, refusal: &'static str) -> ApiResult<T> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|_| refused(Fault("not the JSON that was asked for"))),
        429 | 500.. => Err(unavailable(crate::outbound::OutboundError::Unreachable("status"))),
        _ => Err(refused(Fault(refusal))),
    }
}

/// Verifies an ID token: signed by a key of this issuer, for this client, for this sign-in, now.
async fn verify(flow: &Flow<'_>, endpoints: &Endpoints, token: &str) -> ApiResult<Claims> {
    let head = Head::read(token).map_err(refused)?;
    let key = flow.foreign.key(flow.db.tenant().id, &endpoints.keys, &head).await?;
    let claims = key.verify(&head, token).map_err(refused)?;
    let provider = flow.provider;
    let rules = Rules { issuer: &provider.issuer, audience: &provider.client_id, now: flow.now, leeway: LEEWAY };
    claims.check(rules).map_err(refused)?;
    // A token for others, too, has to say that it was made for this client (OpenID Connect Core, section 3.1.3.7).
    let ours = claims.azp.as_ref().map_or(!claims.aud.is_several(), |azp| *azp == provider.client_id);
    if !ours {
        return Err(refused(Fault("azp")));
    }
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(flow.nonce().as_bytes())) {
        return Err(refused(Fault("nonce")));
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of our era are exact in a double")]
    if claims.iat.is_none_or(|iat| iat < (flow.now - OLDEST) as f64) {
        return Err(refused(Fault("iat")));
    }
    Ok(claims)
}

/// What the provider says of the person beside the ID token: only of the same person.
async fn userinfo(
    flow: &Flow<'_>,
    address: &Url,
    access: &SecretString,
    subject: &str,
) -> Result<Map<String, Value>, ApiError> {
    let request = Request::get(address.clone())
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, &format!("Bearer {}", access.expose_secret()));
    let answer = flow.foreign.outbound().send(request).await.map_err(unavailable)?;
    let said: Map<String, Value> = read(&answer, "the access token was refused")?;
    if said.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(refused(Fault("userinfo of somebody else")));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_to_come_is_now_and_no_moment_is_too_long_ago() {
        for (at, seconds) in [(1000.0, 0), (940.5, 59), (1e300, 0), (-1e300, 3650 * 86400), (f64::NAN, -1)] {
            assert_eq!(ago(1000, at).map_or(-1, |ago| ago.num_seconds()), seconds, "{at}");
        }
    }
}
