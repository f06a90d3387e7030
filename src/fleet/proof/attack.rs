//! One canary against the other, over the server's own door.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hyper::Method;
use hyper::header::{HeaderName, WWW_AUTHENTICATE};
use serde_json::json;
use uuid::Uuid;

use super::attacks::rows;
use super::canary::{Canary, login};
use super::report::Fault;
use crate::control::operators::OPERATOR_TYP;
use crate::control::{installation, signing_keys};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::web::{Ask, Client, Line};
use crate::kernel::crypto::sha256;
use crate::router::{MainConn, SigningKey};

const HINT: HeaderName = HeaderName::from_static("x-tenant-id");
/// What a forged token may get: the server's refusal, or that of a proxy or parser before it.
const REFUSED: &[u16] = &[401, 400, 431];

/// A question, and the answers that break nothing.
struct Attack {
    name: String,
    ask: Ask,
    right: &'static [u16],
}

fn attack(name: impl Into<String>, ask: Ask, right: &'static [u16]) -> Attack {
    Attack { name: name.into(), ask, right }
}

/// Tries all of it. Gives how many were tried, and what came through.
pub(super) async fn run(fleet: &Fleet, client: &Client, a: &Canary, b: &Canary) -> ApiResult<(usize, Vec<Fault>)> {
    let operator = operator(fleet).await?;
    let mut attacks = forged(a, b);
    attacks.extend(hints(a, b));
    attacks.extend(objects(a, b));
    attacks.extend(other_doors(a, b, &operator));
    // Without these, a server that refuses everything would pass.
    let me = "/api/v1/users/me";
    let own = format!("/api/v1/contacts/{}", b.contact);
    attacks.push(attack("its own token", a.ask(Method::GET, me), &[200]));
    attacks.push(attack(
        "its own token, well signed",
        Ask::get(me).bearing(&a.forge.claiming(&a.forge.claims())),
        &[200],
    ));
    attacks.push(attack("its own contact", b.ask(Method::GET, own), &[200]));
    let mut line = client.line();
    let mut faults = Vec::new();
    for one in &attacks {
        faults.extend(answer(&mut line, one).await);
    }
    Ok((attacks.len(), faults))
}

async fn answer(line: &mut Line, attack: &Attack) -> Option<Fault> {
    let heard = match line.ask(&attack.ask).await {
        Ok(heard) => heard,
        // A server may hang up on what it does not want to read; it has let nobody in.
        Err(_) if attack.right.contains(&431) => return None,
        Err(error) => {
            return Some(Fault::new("not_proven", "attacks", format!("{}: {error}", attack.name)));
        }
    };
    let challenged = heard.status != 401
        || heard.headers.get(WWW_AUTHENTICATE).is_some_and(|value| value.as_bytes().starts_with(b"Bearer"));
    if attack.right.contains(&heard.status) && challenged {
        return None;
    }
    let code = heard.body["error"]["code"].as_str().unwrap_or("no code");
    let said = format!("{}: answered {} {code}, not {:?}", attack.name, heard.status, attack.right);
    Some(Fault::new("attack_succeeded", "canaries", said))
}

/// The table of forged tokens.
fn forged(a: &Canary, b: &Canary) -> Vec<Attack> {
    let mut attacks: Vec<_> = rows(&a.forge, &b.forge)
        .into_iter()
        .map(|(name, token)| attack(name, Ask::get("/api/v1/users/me").bearing(&token), REFUSED))
        .collect();
    for claim in ["sid", "sub"] {
        let claims = a.forge.claims_with(claim, b.forge.claims()[claim].clone());
        let ask = Ask::get("/api/v1/users/me").bearing(&a.forge.claiming(&claims));
        attacks.push(attack(format!("the other's {claim}, well signed"), ask, REFUSED));
    }
    attacks
}

/// A good token together with the other's name.
fn hints(a: &Canary, b: &Canary) -> Vec<Attack> {
    let me = "/api/v1/users/me";
    let (id, slug) = (b.id.to_string(), b.slug.to_string());
    vec![
        attack("the other's id as X-Tenant-ID", a.ask(Method::GET, me).with(HINT, &id), &[404]),
        attack("the other's slug as X-Tenant-ID", a.ask(Method::GET, me).with(HINT, &slug), &[404]),
        attack("the other's slug as ?tenant=", a.ask(Method::GET, format!("{me}?tenant={slug}")), &[404]),
        attack("the other's id as ?tenant=", a.ask(Method::GET, format!("{me}?tenant={id}")), &[404]),
    ]
}

/// The other's objects, by their ids.
fn objects(a: &Canary, b: &Canary) -> Vec<Attack> {
    let (contact, user) = (format!("/api/v1/contacts/{}", b.contact), format!("/api/v1/users/{}", b.user));
    let change = |path: &str| Ask::new(Method::DELETE, path).bearing(&a.forge.token);
    vec![
        attack("the other's contact", a.ask(Method::GET, &*contact), &[404]),
        attack("the other's person", a.ask(Method::GET, &*user), &[404]),
        attack("removing the other's contact", change(&contact), &[404]),
        attack("removing the other's person", change(&user), &[404]),
    ]
}

/// Tokens of one kind where another is asked for.
fn other_doors(a: &Canary, b: &Canary, operator: &str) -> Vec<Attack> {
    let me = "/api/v1/users/me";
    let refresh = |token: &str| Ask::post("/api/v1/auth/refresh", json!({"refreshToken": token}));
    let hinted = refresh(&a.refresh).with(HINT, b.slug.as_str());
    vec![
        attack("an operator's token on a tenant's route", Ask::get(me).bearing(operator), &[401]),
        attack("a tenant's token on an operators' route", a.ask(Method::GET, "/api/v1/admin/tenants"), &[401]),
        attack("a refresh token as an access token", Ask::get(me).bearing(&a.refresh), &[401]),
        attack("an access token as a refresh token", refresh(&a.forge.token), &[401, 422]),
        attack("a refresh token at the other", hinted, &[404]),
        attack(
            "a refresh token with the other's routing part",
            refresh(&rerouted(&a.refresh, &b.refresh, true)),
            &[401],
        ),
        attack("the same with a wrong checksum", refresh(&rerouted(&a.refresh, &b.refresh, false)), &[401]),
        attack("the other's password", login(&a.slug, &b.password), &[401]),
    ]
}

/// The secret of one refresh token under the routing part of another.
fn rerouted(token: &str, other: &str, checked: bool) -> String {
    const ROUTING: usize = 24;
    const CHECKSUM: usize = 4;
    let bytes = |text: &str| text.split_once('_').and_then(|(_, body)| BASE64URL.decode(body).ok()).unwrap_or_default();
    let (mine, theirs) = (bytes(token), bytes(other));
    if mine.len() != theirs.len() || mine.len() < ROUTING + CHECKSUM {
        return token.chars().rev().collect();
    }
    let mut spliced = [&theirs[..ROUTING], &mine[ROUTING..]].concat();
    if checked {
        let content = spliced.len() - CHECKSUM;
        let check = sha256(&spliced[..content]);
        spliced[content..].copy_from_slice(&check[..CHECKSUM]);
    }
    let prefix = token.split('_').next().unwrap_or_default();
    format!("{prefix}_{}", BASE64URL.encode(spliced))
}

/// A token signed with the operators' own key, of nobody's session.
async fn operator(fleet: &Fleet) -> ApiResult<String> {
    let keys = fleet.control.keys.clone();
    let signing: SigningKey = fleet
        .control
        .db
        .read(async move |conn: &mut MainConn| -> ApiResult<SigningKey> {
            let found = installation::find(conn, &keys).await?;
            let installation = found.ok_or_else(|| ApiError::internal("the installation is not set up"))?;
            Ok(signing_keys::operator_key(conn, &keys, &installation.mac).await?.0)
        })
        .await?;
    let now = fleet.control.clock.now().timestamp();
    let claims = json!({
        "iss": "admin", "aud": "admin", "sub": Uuid::now_v7(), "sid": Uuid::now_v7(), "jti": Uuid::now_v7(),
        "iat": now, "exp": now + 600, "role": "admin",
    });
    Ok(signing.sign(OPERATOR_TYP, &claims)?)
}
