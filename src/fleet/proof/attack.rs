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
use crate::fleet::web::{Ask, Client, Heard, Line, WebError};
use crate::kernel::crypto::sha256;
use crate::router::{MainConn, SigningKey};

const HINT: HeaderName = HeaderName::from_static("x-tenant-id");
/// What a forged token may get: the server's refusal, or that of a proxy or parser before it.
const REFUSED: &[u16] = &[401, 400, 431];
/// What belongs to whoever asks, and has to be given.
const GIVEN: &[u16] = &[200];
/// A header beyond this is one that some server will not read, in bytes.
const LONG: usize = 4096;
/// After so many questions in a row that nothing came of, nobody is there to be asked.
const SILENT: usize = 3;

/// A question, and the answers that break nothing.
struct Attack {
    name: String,
    ask: Ask,
    right: &'static [u16],
    /// Hanging up on it is an answer too.
    may_break: bool,
}

fn attack(name: impl Into<String>, ask: Ask, right: &'static [u16]) -> Attack {
    Attack { name: name.into(), ask, right, may_break: false }
}

/// Whether a proxy or a parser may hang up on a token before anybody judges it: it is long, or none by its characters.
fn is_misshapen(token: &str) -> bool {
    token.len() > LONG || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
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
    attacks.push(attack("its own token", a.ask(Method::GET, me), GIVEN));
    attacks.push(attack(
        "its own token, well signed",
        Ask::get(me).bearing(&a.forge.claiming(&a.forge.claims())),
        GIVEN,
    ));
    attacks.push(attack("its own contact", b.ask(Method::GET, own), GIVEN));
    Ok(all(&mut client.line(), &attacks).await)
}

/// Asks one after the other, as long as somebody is there: how many, and what came through.
async fn all(line: &mut Line, attacks: &[Attack]) -> (usize, Vec<Fault>) {
    let (mut faults, mut silent) = (Vec::new(), 0);
    for (at, one) in attacks.iter().enumerate() {
        let heard = answer(line, one).await;
        faults.extend(judge(one, heard.as_ref()));
        silent = match heard {
            Ok(_) => 0,
            Err(_) => silent + usize::from(!one.may_break),
        };
        let left = attacks.len() - at - 1;
        if silent == SILENT && left > 0 {
            let said = format!("the server does not answer any more: {left} attacks were not tried");
            faults.push(Fault::new("not_proven", "attacks", said));
            return (at + 1, faults);
        }
    }
    (attacks.len(), faults)
}

/// The answer, at the second try if the first had none: a connection that is kept may break for any reason.
async fn answer(line: &mut Line, attack: &Attack) -> Result<Heard, WebError> {
    match line.ask(&attack.ask).await {
        Ok(heard) => Ok(heard),
        Err(_) => line.ask(&attack.ask).await,
    }
}

fn judge(attack: &Attack, heard: Result<&Heard, &WebError>) -> Option<Fault> {
    let not_proven = |said: &str| Some(Fault::new("not_proven", "attacks", format!("{}: {said}", attack.name)));
    let heard = match heard {
        Ok(heard) => heard,
        // The connection stood, and the server hung up on what it does not want to read: it has let nobody in.
        Err(WebError::Http(error)) if attack.may_break && !error.is_parse() => return None,
        Err(error) => return not_proven(&error.to_string()),
    };
    let challenged = heard.status != 401
        || heard.headers.get(WWW_AUTHENTICATE).is_some_and(|value| value.as_bytes().starts_with(b"Bearer"));
    if attack.right.contains(&heard.status) && challenged {
        return None;
    }
    let code = heard.body["error"]["code"].as_str().unwrap_or("no code");
    let said = format!("answered {} {code}, not {:?}", heard.status, attack.right);
    // A server that is busy or broken has judged nothing; one that refuses its own people proves nothing.
    if heard.status == 429 || heard.status >= 500 || attack.right == GIVEN {
        return not_proven(&said);
    }
    Some(Fault::new("attack_succeeded", "canaries", format!("{}: {said}", attack.name)))
}

/// The table of forged tokens.
fn forged(a: &Canary, b: &Canary) -> Vec<Attack> {
    let mut attacks: Vec<_> = rows(&a.forge, &b.forge)
        .into_iter()
        .map(|(name, token)| {
            let ask = Ask::get("/api/v1/users/me").bearing(&token);
            Attack { may_break: is_misshapen(&token), ..attack(name, ask, REFUSED) }
        })
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

#[cfg(test)]
mod tests {
    use std::io;

    use hyper::header::{HeaderMap, HeaderValue};
    use serde_json::Value;
    use tokio::net::TcpListener;
    use url::Url;

    use super::*;

    fn forged(token: &str) -> Attack {
        Attack { may_break: is_misshapen(token), ..attack("forged", Ask::get("/").bearing(token), REFUSED) }
    }

    fn code(fault: Option<Fault>) -> &'static str {
        fault.map_or("nothing", |fault| fault.code)
    }

    #[test]
    fn silence_and_a_busy_server_prove_nothing() {
        let (plain, long) = (forged("a.b.c"), forged(&"a".repeat(LONG + 1)));
        assert!(!plain.may_break && long.may_break && forged("a.b.c a.b.c").may_break);
        let silence = [WebError::Late, WebError::Io(io::Error::other("refused")), WebError::Tls("no".to_owned())];
        for error in &silence {
            assert_eq!((code(judge(&plain, Err(error))), code(judge(&long, Err(error)))), ("not_proven", "not_proven"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        let said = |attack: &Attack, status| {
            code(judge(attack, Ok(&Heard { status, headers: headers.clone(), body: Value::Null })))
        };
        assert_eq!([401, 400, 431].map(|status| said(&plain, status)), ["nothing"; 3]);
        assert_eq!([429, 500, 502, 503, 504].map(|status| said(&plain, status)), ["not_proven"; 5]);
        assert_eq!([200, 204, 404].map(|status| said(&plain, status)), ["attack_succeeded"; 3]);
        let own = attack("own", Ask::get("/"), GIVEN);
        assert_eq!([200, 401, 503].map(|status| said(&own, status)), ["nothing", "not_proven", "not_proven"]);
        let unasked = Heard { status: 401, headers: HeaderMap::new(), body: Value::Null };
        assert_eq!(code(judge(&plain, Ok(&unasked))), "attack_succeeded");
    }

    #[tokio::test]
    async fn hanging_up_refuses_only_what_is_misshapen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(socket);
            }
        });
        let client = Client::new(url, None).unwrap();
        let long = || forged(&"a".repeat(LONG + 1));
        assert_eq!(all(&mut client.line(), &[long(), long(), long(), long()]).await, (4, Vec::new()));
        let plain: Vec<_> = (0..5).map(|_| forged("a.b.c")).collect();
        let (tried, faults) = all(&mut client.line(), &plain).await;
        assert_eq!((tried, faults.len()), (SILENT, SILENT + 1));
        server.abort();
        assert!(server.await.is_err());
        // Nobody listens any more.
        let (tried, faults) = all(&mut client.line(), &[long()]).await;
        assert_eq!((tried, faults.len(), faults[0].code), (1, 1, "not_proven"));
    }
}
