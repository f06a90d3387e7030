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

use super::rules::{email_key, locked_for};
use super::store::{self, NewOperator, OperatorRecord};
use super::token::{OPERATOR_TYP, OperatorClaims};
use super::{OperatorRole, extract::Operator};
use crate::control::{ControlPlane, fault, installation, signing_keys};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::SessionId;
use crate::kernel::crypto::MacKey;
use crate::rest::passwords::Passwords;
use crate::router::token::strict_kid;
use crate::router::{SigningKey, VerificationKey};

/// How long a token is good, and with it the session.
pub(super) const LIFETIME: TimeDelta = TimeDelta::hours(1);
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
    // Read at first use: a node starts without the control plane.
    keys: OnceCell<Keys>,
    sessions: Cache<SessionId, Arc<OperatorRecord>>,
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
        Self(Arc::new(Inner { control, passwords, issuer, leeway, keys: OnceCell::new(), sessions }))
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
    ) -> ApiResult<OperatorRecord> {
        let Some(email) = email_key(email) else {
            return Err(ApiError::invalid_field("email", "invalid", "Not an e-mail address."));
        };
        if let Some(error) = crate::rest::passwords::fault("password", &password, &email) {
            return Err(ApiError::invalid(vec![error]));
        }
        let new = NewOperator { email, password_hash: passwords.hash(password).await?, role };
        control.db.read(async move |conn| store::insert(conn, &new).await).await.map_err(fault)
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

    /// Signs in. Unknown and disabled operators cost the same work and get the same answer as a wrong password.
    ///
    /// # Errors
    /// `invalid_credentials`; `too_many_attempts` from the sixth attempt within 15 minutes, right password or not.
    pub(super) async fn log_in(&self, email: &str, password: SecretString) -> ApiResult<(String, OperatorRecord)> {
        let inner = &*self.0;
        let keys = self.keys().await?;
        let email = email.trim().to_lowercase();
        let subject = keys.mac.digest("operator-login", &[email.as_bytes()]);
        let now = inner.control.clock.now();
        let ((attempts, since), found) = inner
            .control
            .db
            .read(async move |conn| -> ApiResult<_> {
                let counted = store::count_attempt(conn, &subject, now).await?;
                Ok((counted, store::credentials(conn, &email).await?))
            })
            .await
            .map_err(fault)?;
        if let Some(left) = locked_for(attempts, since, now) {
            return Err(ApiError::new(Code::TooManyAttempts).retry_after(left));
        }
        let (operator, hash) = found.unzip();
        let matches = inner.passwords.verify(password, hash).await?;
        let Some(operator) = operator.filter(|_| matches) else {
            return Err(ApiError::new(Code::InvalidCredentials));
        };
        let now = inner.control.clock.now();
        let id = operator.id;
        let session = inner
            .control
            .db
            .transaction(async move |conn| -> ApiResult<SessionId> {
                store::forget_attempts(conn, &subject).await?;
                store::open_session(conn, id, now, now + LIFETIME).await
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
        Ok((keys.signing.sign(OPERATOR_TYP, &claims)?, operator))
    }

    /// Who a token is of, if its session stands.
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`, `token_revoked`; `control_plane_unavailable` if the session cannot be asked for.
    pub async fn verify(&self, token: &str) -> ApiResult<Operator> {
        let inner = &*self.0;
        // Before anything is asked of the control plane: a token that is not even shaped like one of ours.
        let kid = strict_kid(token, OPERATOR_TYP)?;
        let keys = self.keys().await?;
        if kid != keys.signing.kid() {
            return Err(ApiError::new(Code::TokenInvalid));
        }
        let claims: OperatorClaims =
            keys.verification.verify(token, &inner.issuer, &inner.issuer, inner.leeway.as_secs())?;
        let operator = match inner.sessions.get(&claims.sid).await {
            Some(operator) => operator,
            None => {
                let (session, now) = (claims.sid, inner.control.clock.now());
                let found = inner
                    .control
                    .db
                    .read(async move |conn| store::operator_of(conn, session, now).await)
                    .await
                    .map_err(fault)?;
                let operator = Arc::new(found.ok_or_else(|| ApiError::new(Code::TokenRevoked))?);
                inner.sessions.insert(claims.sid, operator.clone()).await;
                operator
            }
        };
        if operator.id != claims.sub {
            return Err(ApiError::new(Code::TokenInvalid));
        }
        Ok(Operator { id: operator.id, email: operator.email.clone(), session: claims.sid, role: operator.role })
    }

    /// Ends a session; on this node at once, on the others within a second.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(super) async fn log_out(&self, session: SessionId) -> ApiResult<()> {
        let now = self.0.control.clock.now();
        let ended = self.0.control.db.read(async move |conn| store::end_session(conn, session, now).await).await;
        self.0.sessions.invalidate(&session).await;
        ended.map_err(fault)
    }
}
