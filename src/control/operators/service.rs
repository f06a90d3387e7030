//! What signing in and checking a token need, built once and passed down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use secrecy::SecretString;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::OperatorRole;
use super::extract::{Known, Reach};
use super::guesses::{self, Subject};
use super::rules::email_key;
use super::store::{self, NewOperator, OperatorRecord};
use super::token::{OPERATOR_TYP, OperatorClaims, SECOND_FACTOR_TYP, SecondFactorClaims};
use crate::control::{ControlPlane, fault, installation, signing_keys};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::MacKey;
use crate::kernel::{OperatorId, SessionId, TenantId};
use crate::rest::Client;
use crate::rest::passwords::{Passwords, Rules};
use crate::router::token::strict_kid;
use crate::router::{MainConn, Rate, SigningKey, VerificationKey};

/// How long a token is good, and with it the session.
pub(super) const LIFETIME: TimeDelta = TimeDelta::hours(1);
/// How long the second factor may take after the password.
const SECOND_FACTOR_WITHIN: TimeDelta = TimeDelta::minutes(5);
/// How long a session is believed to stand without asking.
const SESSION_CACHED: Duration = Duration::from_secs(1);
const SESSIONS_CACHED: u64 = 10_000;

struct Keys {
    mac: MacKey,
    signing: SigningKey,
    verification: VerificationKey,
}

struct Inner {
    control: ControlPlane,
    passwords: Passwords,
    issuer: String,
    leeway: Duration,
    needs_second_factor: bool,
    // Read at first use: a node starts without the control plane.
    keys: OnceCell<Keys>,
    sessions: Cache<SessionId, Arc<Standing>>,
}

/// What stands behind a session.
struct Standing {
    operator: OperatorRecord,
    reach: Reach,
    has_shown_factor: bool,
}

/// How a login goes on.
#[derive(Debug)]
pub(super) enum LoggedIn {
    /// A token, and whose it is.
    Token(String, OperatorRecord),
    /// A token for the second factor alone.
    SecondFactor(String),
}

/// Signs operators in and knows them again. Clones share it.
#[derive(Clone)]
pub struct Operators(Arc<Inner>);

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operators({})", self.0.issuer)
    }
}

impl Operators {
    /// Operators of the installation at `public_url` (without a trailing slash); opens nothing yet. `leeway` is how far
    /// clocks may differ when a token's times are checked.
    #[must_use]
    pub fn new(control: ControlPlane, passwords: Passwords, public_url: &str, leeway: Duration) -> Self {
        let sessions = Cache::builder()
            .max_capacity(SESSIONS_CACHED)
            .time_to_live(SESSION_CACHED)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let issuer = format!("{public_url}/admin");
        let keys = OnceCell::new();
        Self(Arc::new(Inner { control, passwords, issuer, leeway, needs_second_factor: false, keys, sessions }))
    }

    /// The same; who has no second factor may then do nothing but manage their own access.
    #[must_use]
    pub fn demanding_second_factor(self, needs_second_factor: bool) -> Self {
        let Inner { control, passwords, issuer, leeway, .. } = &*self.0;
        let (control, passwords, issuer) = (control.clone(), passwords.clone(), issuer.clone());
        let (keys, sessions) = (OnceCell::new(), self.0.sessions.clone());
        Self(Arc::new(Inner { control, passwords, issuer, leeway: *leeway, needs_second_factor, keys, sessions }))
    }

    /// Adds an operator with a password of at least the usual strength.
    ///
    /// # Errors
    /// 422 for a bad address or password; `already_exists` for a taken address.
    pub async fn create(
        control: &ControlPlane,
        passwords: &Passwords,
        email: &str,
        password: SecretString,
        role: OperatorRole,
        tenants: Vec<TenantId>,
    ) -> ApiResult<OperatorRecord> {
        Self::create_as(control, passwords, (OperatorId::generate(), email), password, role, tenants).await
    }

    /// As [`Self::create`], with an id that nobody has.
    pub(super) async fn create_as(
        control: &ControlPlane,
        passwords: &Passwords,
        (id, email): (OperatorId, &str),
        password: SecretString,
        role: OperatorRole,
        tenants: Vec<TenantId>,
    ) -> ApiResult<OperatorRecord> {
        let Some(email) = email_key(email) else {
            return Err(ApiError::invalid_field("email", "invalid", "Not an e-mail address."));
        };
        let hasher = passwords.of_nobody();
        if let Some(fault) = hasher.judge("password", &password, Rules::of_operators(&email)).await? {
            return Err(ApiError::invalid(vec![fault]));
        }
        let new = NewOperator { id, email, password_hash: hasher.hash(password).await?, role, tenants };
        control.db.transaction(async move |conn| store::insert(conn, &new).await).await.map_err(fault)
    }

    async fn keys(&self) -> ApiResult<&Keys> {
        let read = async || {
            let master = self.0.control.keys.clone();
            self.0
                .control
                .db
                .read(async move |conn| -> ApiResult<Keys> {
                    let installation = installation::find(conn, &master)
                        .await?
                        .ok_or_else(|| ApiError::internal("the installation is not set up"))?;
                    let mac = installation.mac;
                    let (signing, verification) = signing_keys::operator_key(conn, &master, &mac).await?;
                    Ok(Keys { mac, signing, verification })
                })
                .await
                .map_err(fault)
        };
        self.0.keys.get_or_try_init(read).await
    }

    /// The control plane.
    pub(super) fn control(&self) -> &ControlPlane {
        &self.0.control
    }

    /// Hashes passwords, a few at a time.
    pub(super) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// Signs in. Unknown and disabled operators cost the same work and get the same answer as a wrong password. `stands` is
    /// told how the caller stands against the limit, once the password was judged.
    ///
    /// # Errors
    /// `invalid_credentials`; `too_many_attempts` after five of them within 15 minutes, right password or not: of those
    /// from a network from which this operator came in lately, or of all those from elsewhere.
    pub(super) async fn log_in(
        &self,
        email: &str,
        password: SecretString,
        from: Client,
        stands: &impl Fn(Rate),
    ) -> ApiResult<LoggedIn> {
        let inner = &*self.0;
        let keys = self.keys().await?;
        let email = email.trim().to_lowercase();
        let now = inner.control.clock.now();
        let asked = email.clone();
        let networks = async move |conn: &mut MainConn| store::networks_of(conn, &asked, now).await;
        let networks = inner.control.db.read(networks).await.map_err(fault)?;
        // Strangers lock strangers out, not the operator at their desk.
        let subject = match from.network().filter(|network| networks.contains(network)) {
            Some(network) => keys.mac.digest("operator-login-known", &[email.as_bytes(), network.as_bytes()]),
            None => keys.mac.digest("operator-login", &[email.as_bytes()]),
        };
        let found = inner
            .control
            .db
            .read(async move |conn| -> ApiResult<_> {
                guesses::look(conn, &subject, now).await?;
                store::credentials(conn, &email).await
            })
            .await
            .map_err(fault)?;
        let (operator, hash) = found.unzip();
        let matches = inner.passwords.of_nobody().verify(password, hash).await?;
        let operator = operator.filter(|_| matches);
        stands(self.judge(subject, operator.is_some()).await?);
        let operator = operator.ok_or_else(|| ApiError::new(Code::InvalidCredentials))?;
        if !operator.second_factor {
            return self.admit(operator, false, from).await;
        }
        let now = inner.control.clock.now();
        let claims = SecondFactorClaims {
            iss: inner.issuer.clone(),
            aud: inner.issuer.clone(),
            sub: operator.id,
            jti: Uuid::now_v7(),
            iat: now.timestamp(),
            exp: (now + SECOND_FACTOR_WITHIN).timestamp(),
        };
        Ok(LoggedIn::SecondFactor(keys.signing.sign(SECOND_FACTOR_TYP, &claims)?))
    }

    /// The second half of a login.
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`; `invalid_credentials` for a wrong or used code; `too_many_attempts`.
    pub(super) async fn log_in_further(&self, token: &str, code: SecretString, from: Client) -> ApiResult<LoggedIn> {
        let inner = &*self.0;
        let kid = strict_kid(token, SECOND_FACTOR_TYP)?;
        let keys = self.keys().await?;
        if kid != keys.signing.kid() {
            return Err(ApiError::new(Code::TokenInvalid));
        }
        let claims: SecondFactorClaims =
            keys.verification.verify(token, &inner.issuer, &inner.issuer, inner.leeway.as_secs())?;
        if !self.check_code(claims.sub, code).await? {
            return Err(ApiError::new(Code::InvalidCredentials));
        }
        let id = claims.sub;
        let operator = inner.control.db.read(async move |conn| store::find(conn, id).await).await.map_err(fault)?;
        if operator.disabled_at.is_some() {
            return Err(ApiError::new(Code::InvalidCredentials));
        }
        self.admit(operator, true, from).await
    }

    /// What tries at something of an operator's are counted as.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(super) async fn guessed(&self, what: &'static str, id: OperatorId) -> ApiResult<Subject> {
        Ok(self.keys().await?.mac.digest(what, &[id.uuid().as_bytes()]))
    }

    async fn admit(&self, operator: OperatorRecord, second_factor: bool, from: Client) -> ApiResult<LoggedIn> {
        let inner = &*self.0;
        let now = inner.control.clock.now();
        let id = operator.id;
        let session = inner
            .control
            .db
            .transaction(async move |conn| -> ApiResult<SessionId> {
                store::open_session(conn, id, &from, second_factor, now, now + LIFETIME).await
            })
            .await
            .map_err(fault)?;
        let claims = OperatorClaims {
            iss: inner.issuer.clone(),
            aud: inner.issuer.clone(),
            sub: operator.id,
            sid: session,
            jti: Uuid::now_v7(),
            iat: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
            role: operator.role,
        };
        Ok(LoggedIn::Token(self.keys().await?.signing.sign(OPERATOR_TYP, &claims)?, operator))
    }

    /// Who a token is of, if its session stands.
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`, `token_revoked`; `control_plane_unavailable` if the session cannot be asked for.
    pub(super) async fn verify(&self, token: &str) -> ApiResult<Known> {
        let inner = &*self.0;
        // Before anything is asked of the control plane: a token that is not even shaped like one of ours.
        let kid = strict_kid(token, OPERATOR_TYP)?;
        let keys = self.keys().await?;
        if kid != keys.signing.kid() {
            return Err(ApiError::new(Code::TokenInvalid));
        }
        let claims: OperatorClaims =
            keys.verification.verify(token, &inner.issuer, &inner.issuer, inner.leeway.as_secs())?;
        let known = match inner.sessions.get(&claims.sid).await {
            Some(known) => known,
            None => {
                let (session, now) = (claims.sid, inner.control.clock.now());
                let found = inner
                    .control
                    .db
                    .read(async move |conn| -> ApiResult<_> {
                        let found = store::operator_of(conn, session, now).await?;
                        let Some((operator, has_shown_factor)) = found else { return Ok(None) };
                        let reach = store::reach(conn, &operator).await?;
                        Ok(Some(Standing { operator, reach, has_shown_factor }))
                    })
                    .await
                    .map_err(fault)?;
                let known = Arc::new(found.ok_or_else(|| ApiError::new(Code::TokenRevoked))?);
                inner.sessions.insert(claims.sid, known.clone()).await;
                known
            }
        };
        let Standing { operator, reach, has_shown_factor } = &*known;
        if operator.id != claims.sub {
            return Err(ApiError::new(Code::TokenInvalid));
        }
        let (id, email, role, reach) = (operator.id, operator.email.clone(), operator.role, reach.clone());
        let lacks_factor = inner.needs_second_factor && !has_shown_factor;
        Ok(Known { id, email, session: claims.sid, role, reach, lacks_factor })
    }

    /// Ends a session; on this node at once, on the others within a second. False if there is no such open one.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(super) async fn end_session(&self, operator: OperatorId, session: SessionId) -> ApiResult<bool> {
        let now = self.0.control.clock.now();
        let end = async move |conn: &mut MainConn| store::end_session(conn, operator, session, now).await;
        let ended = self.0.control.db.read(end).await;
        self.0.sessions.invalidate(&session).await;
        ended.map_err(fault)
    }
}
