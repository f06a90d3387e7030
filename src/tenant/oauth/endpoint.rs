//! What an app brings to the endpoints of RFC 6749: a form, and who it is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use secrecy::SecretString;
use tokio::time::timeout;
use url::form_urlencoded;

use super::SINCE;
use super::clients::store::{self, ClientRow};
use super::refusal::{Outcome, Refusal};
use crate::error::{ApiError, ApiResult};
use crate::kernel::OauthClientId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Client;
use crate::router::{self, Router, TenantConn, TenantDb, extractor};
use crate::tenant::auth::{Auth, Program};

/// Bytes of a form.
const LONGEST: usize = 16 * 1024;
/// How long an app may take to send it.
const ARRIVAL: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });

/// Parameters, each once. One without a value is none (RFC 6749, section 3.1).
pub(super) struct Form(BTreeMap<String, String>);

// It carries secrets.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(…)")
    }
}

impl Form {
    /// Reads parameters.
    ///
    /// # Errors
    /// If there is one twice, or one that no database could keep.
    pub(super) fn read(bytes: &[u8]) -> Outcome<Self> {
        if bytes.len() > LONGEST {
            return Err(Refusal::request("The request is too long."));
        }
        let mut read = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes).filter(|(_, value)| !value.is_empty()) {
            if value.contains('\0') {
                return Err(Refusal::request("A parameter has a character that is none."));
            }
            if read.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Refusal::request("A parameter is there twice."));
            }
        }
        Ok(Self(read))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One that has to be there.
    pub(super) fn need(&self, name: &'static str) -> Outcome<&str> {
        self.get(name).ok_or_else(|| Refusal::request(format!("The parameter {name} is missing.")))
    }

    /// An opaque token of this tenant's. None if it is another's, another kind's, or none.
    pub(super) fn token(&self, name: &str, kind: TokenKind, db: &TenantDb) -> Option<OpaqueToken> {
        opaque(&SecretString::from(self.get(name)?), kind, db)
    }
}

/// What a body has.
impl FromRequest for Form {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Outcome<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        let request = request.clone();
        async move {
            let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                return Err(Refusal::request("Send the parameters as application/x-www-form-urlencoded."));
            }
            let arrived = timeout(ARRIVAL, bytes).await.map_err(|_| Refusal::request("The request took too long."))?;
            let bytes = arrived.map_err(|_| Refusal::request("The request broke off, or is too long."))?;
            Self::read(&bytes)
        }
        .boxed_local()
    }
}

fn opaque(text: &SecretString, kind: TokenKind, db: &TenantDb) -> Option<OpaqueToken> {
    let token = OpaqueToken::parse(&db.router().installation().mac, kind, text)?;
    (token.tenant() == db.tenant().id).then_some(token)
}

/// The tenant that an address of OAuth names.
///
/// # Errors
/// The same for one that there is not and one that does not serve, as for an unknown client.
pub(super) async fn tenant(request: &HttpRequest) -> Outcome<TenantDb> {
    let router = request.app_data::<web::Data<Router>>().ok_or_else(missing)?;
    let slug = request.match_info().get("slug").unwrap_or_default();
    match router.named(Some(slug), &extractor::hints(request, router)).await {
        Ok(db) => Ok(router.at_schema(db, SINCE).await?),
        Err(router::Error::TenantUnknown | router::Error::TenantMismatch) => Err(Refusal::client()),
        Err(error) => Err(error.into()),
    }
}

fn missing() -> ApiError {
    ApiError::internal("the application was built without what OAuth needs")
}

/// A form, by an app that says who it is.
#[derive(Debug)]
pub(super) struct Asked {
    pub auth: web::Data<Auth>,
    pub db: TenantDb,
    pub form: Form,
    from: Client,
    /// `client_id` and `client_secret` of `Authorization: Basic`.
    basic: Option<(String, SecretString)>,
}

impl FromRequest for Asked {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Outcome<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (form, from) = (Form::from_request(request, payload), Client::from_request(request, payload));
        let request = request.clone();
        async move {
            let auth = request.app_data::<web::Data<Auth>>().ok_or_else(missing)?.clone();
            let (form, basic, from) = (form.await?, basic(&request)?, from.await?);
            Ok(Self { auth, db: tenant(&request).await?, form, from, basic })
        }
        .boxed_local()
    }
}

/// Reads `Authorization: Basic`: both halves are encoded as in a form (RFC 6749, section 2.3.1).
fn basic(request: &HttpRequest) -> Outcome<Option<(String, SecretString)>> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    let read = || {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let bytes = BASE64.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let (id, secret) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        Some((decoded(id)?, SecretString::from(decoded(secret)?)))
    };
    match (read(), values.next()) {
        (Some(read), None) => Ok(Some(read)),
        _ => Err(Refusal::client()),
    }
}

fn decoded(text: &str) -> Option<String> {
    let pair = format!("x={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

impl Asked {
    /// The app, which proved who it is if it has a secret. Wrong secrets count like wrong passwords, and lock their lane; but
    /// nobody locks an app that has none to guess by sending it one.
    ///
    /// # Errors
    /// `invalid_client`, alike for one that is unknown, has another secret, or is closed.
    pub(super) async fn client(&self) -> Outcome<ClientRow> {
        let (said, secret) = match (&self.basic, self.form.get("client_id"), self.form.get("client_secret")) {
            (Some(_), _, Some(_)) => return Err(Refusal::request("The client proves itself in two ways.")),
            (Some((id, _)), Some(other), None) if id != other => {
                return Err(Refusal::request("The client has two names."));
            }
            (Some((id, secret)), _, None) => (id.as_str(), Some(secret.clone())),
            (None, Some(id), secret) => (id, secret.map(SecretString::from)),
            (None, None, _) => return Err(Refusal::client()),
        };
        let id = said.parse::<OauthClientId>().ok().filter(|_| said.len() == 36);
        let name = format!("oauth-client:{}", said.chars().take(64).collect::<String>());
        let program = Program::new(&self.auth, &self.db, &name, &self.from);
        let read = async |conn: &mut TenantConn| -> ApiResult<_> {
            let found = match id {
                Some(id) => store::find(conn, id).await?,
                None => None,
            };
            let is_public = found.as_ref().is_some_and(|(row, _)| !row.is_confidential());
            let settled = is_public || program.look(conn).await?;
            Ok((settled, is_public, found))
        };
        let (settled, is_public, found) = self.db.read(read).await?;
        let now = self.auth.clock.now();
        let proved = match (&found, &secret) {
            (None, _) => false,
            (Some(_), None) => is_public,
            (Some((_, hashes)), Some(secret)) => {
                let presented = opaque(secret, TokenKind::OauthSecret, &self.db);
                presented.is_some_and(|token| hashes.know(&token.hash(), now))
            }
        };
        let Some((row, _)) = found.filter(|_| proved) else {
            if !is_public {
                program.fail().await?;
            }
            return Err(Refusal::client());
        };
        if secret.is_some() && !settled {
            program.succeed().await?;
        }
        if row.enabled { Ok(row) } else { Err(Refusal::client()) }
    }

    /// The same, of those that keep a secret alone.
    ///
    /// # Errors
    /// `invalid_client`.
    pub(super) async fn confidential(&self) -> Outcome<ClientRow> {
        let row = self.client().await?;
        if row.is_confidential() { Ok(row) } else { Err(Refusal::client()) }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures_util::stream::{self, StreamExt as _};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn each_parameter_is_there_once() {
        let form = Form::read(b"a=1&b=&c=x+y%26").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1"), None, Some("x y&")));
        assert!(form.need("b").is_err());
        assert!(Form::read(b"a=1&a=1").is_err() && Form::read(b"a=%00").is_err());
        assert!(Form::read(&vec![b'a'; LONGEST + 1]).is_err());
    }

    /// Whoever begins one and never ends it is not waited for.
    #[actix_web::test]
    async fn a_form_that_does_not_arrive_is_given_up() {
        let kind = (CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = TestRequest::default().insert_header(kind).to_http_request();
        let mut never: Payload = stream::pending::<Result<web::Bytes, PayloadError>>().boxed_local().into();
        let given_up = timeout(Duration::from_secs(10), Form::from_request(&request, &mut never)).await;
        assert!(given_up.expect("it is given up").is_err());
    }

    #[test]
    fn both_halves_of_a_name_and_secret_are_encoded() {
        let with = |value: String| TestRequest::default().insert_header((AUTHORIZATION, value)).to_http_request();
        let read = |pair: &str| basic(&with(format!("Basic {}", BASE64.encode(pair))));
        let (id, secret) = read("a%3Ab:c%26d+e&f").unwrap().unwrap();
        assert_eq!((&*id, secret.expose_secret()), ("a:b", "c&d e&f"));
        assert!(basic(&TestRequest::default().to_http_request()).unwrap().is_none());
        assert!(read("nothing").is_err() && basic(&with("Bearer x".into())).is_err());
    }
}
