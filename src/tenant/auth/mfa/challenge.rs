//! The second half of a login.

use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use super::{factor, gate, store};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::totp::Enrolment;
use crate::rest::{Client, Hints};
use crate::router::{Router, TenantConn, TenantDb, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::attempts::{self, Kind, Line, locked};
use crate::tenant::auth::end_sessions;
use crate::tenant::auth::passkeys::{self, PasskeyOptions};
use crate::tenant::auth::session::{self, SignIn};
use crate::tenant::auth::settings::{Auth, delta};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::teams;
use crate::tenant::users::rules::{UserStatus, email_key};
use crate::tenant::users::store::{self as users, UserRow};

/// A login that waits for its second half.
pub(super) struct Waiting {
    pub db: TenantDb,
    token: OpaqueToken,
}

impl Waiting {
    /// Finds the tenant behind a token; the login itself is found in the tenant's database.
    pub(super) async fn find(router: &Router, hints: &Hints, token: &SecretString) -> ApiResult<Self> {
        let invalid = || ApiError::new(Code::TokenInvalid);
        let mac = &router.installation().mac;
        let token = OpaqueToken::parse(mac, TokenKind::SecondFactor, token).ok_or_else(invalid)?;
        let db = router.routed(&token, hints).await?;
        Ok(Self { db: router.at_schema(db, super::SINCE).await?, token })
    }

    /// The person, if the login still waits and they may come in.
    async fn person(&self, conn: &mut TenantConn, auth: &Auth) -> ApiResult<UserRow> {
        let found = store::challenge(conn, &self.token.hash()).await?;
        let (user, auth_version, expires_at) = found.ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
        if auth.clock.now() >= expires_at {
            return Err(ApiError::new(Code::TokenExpired));
        }
        let person = users::find(conn, user).await?;
        let same = |person: &UserRow| person.status == UserStatus::Active && person.auth_version == auth_version;
        person.filter(same).ok_or_else(|| ApiError::new(Code::TokenInvalid))
    }

    /// What an authenticator is told, where a second factor is demanded of somebody who has none.
    pub(super) async fn enrol(&self, auth: &Auth) -> ApiResult<Enrolment> {
        let db = &self.db.router().at_schema(self.db.clone(), passkeys::SINCE).await?;
        db.transaction(async |conn: &mut TenantTx| -> ApiResult<Enrolment> {
            let person = self.person(conn, auth).await?;
            expect_no_passkey(conn, person.id).await?;
            factor::enrol(conn, db, (person.id, &person.email), auth.clock.now()).await
        })
        .await
    }

    /// What a passkey of the person is asked with.
    pub(super) async fn ask_passkey(&self, auth: &Auth) -> ApiResult<PasskeyOptions> {
        let db = self.db.router().at_schema(self.db.clone(), passkeys::SINCE).await?;
        db.transaction(async |conn: &mut TenantTx| -> ApiResult<PasskeyOptions> {
            let person = self.person(conn, auth).await?;
            passkeys::challenge(conn, auth, person.id).await
        })
        .await
    }

    /// Opens the session, for a right code or passkey. A wrong one counts like a wrong password.
    pub(super) async fn pass(&self, auth: &Auth, client: &Client, with: With<'_>) -> ApiResult<Passed> {
        let db = match with {
            With::Passkey { .. } | With::FirstCode(_) => {
                &self.db.router().at_schema(self.db.clone(), passkeys::SINCE).await?
            }
            With::Code { .. } => &self.db,
        };
        let is_new = matches!(with, With::FirstCode(_));
        // A refusal is an outcome, not an error: what was counted has to stay.
        let passed = db
            .transaction(async |conn: &mut TenantTx| -> ApiResult<ApiResult<Passed>> {
                let now = auth.clock.now();
                let person = self.person(conn, auth).await?;
                let email = email_key(&person.email);
                let line = Line::new(auth, db, &email, client, Kind::SecondFactor);
                if let Some(left) = attempts::hold(conn, &line).await? {
                    return Ok(Err(locked(left, &auth.settings.limits)));
                }
                let person = hold_same(conn, &person).await?;
                if is_new {
                    expect_no_passkey(conn, person.id).await?;
                }
                let recovery_codes = match with {
                    With::FirstCode(code) => factor::confirm(conn, db, person.id, code, now).await?,
                    With::Code { code, .. } => factor::take_any(conn, db, person.id, code, now).await?.then(Vec::new),
                    With::Passkey { answer, .. } => {
                        passkeys::prove(conn, auth, person.id, answer).await?.then(Vec::new)
                    }
                };
                let Some(recovery_codes) = recovery_codes else {
                    attempts::fail(conn, &line, Some(person.id)).await?;
                    return Ok(Err(ApiError::new(Code::InvalidCredentials)));
                };
                let first = gate::first_half(conn, db, &self.token.hash()).await?;
                if !store::take_challenge(conn, &self.token.hash()).await? {
                    return Err(ApiError::new(Code::TokenInvalid));
                }
                attempts::succeed(conn, &line, person.id).await?;
                if is_new {
                    // Whoever is signed in elsewhere has shown no second factor.
                    end_sessions(conn, person.id, None, "second_factor_added", now).await?;
                    let by = format!("user:{}", person.id);
                    audit::note_person(conn, (&by, person.id), "second_factor.added", None, now).await?;
                    let notice = SecurityNotice::SecondFactorAdded;
                    mail::notify_security(conn, db, person.id, notice, Some(client)).await?;
                }
                let mut device = None;
                if matches!(with, With::Code { trust: true, .. } | With::Passkey { trust: true, .. }) {
                    let mac = &db.router().installation().mac;
                    let token = OpaqueToken::generate(mac, TokenKind::Device, db.tenant().id);
                    let kept = delta(auth.settings.trusted_device_ttl);
                    store::insert_device(conn, &token.hash(), person.id, client, now, kept).await?;
                    device = Some(token.text().clone());
                }
                let roles = teams::all_roles(conn, db, &person).await?;
                let person = (person, roles);
                let sign_in = session::open(conn, auth, db, person, client, &[&[first], with.amr()].concat()).await?;
                Ok(Ok(Passed { sign_in, device, recovery_codes }))
            })
            .await??;
        if is_new {
            auth.admission.forget_user(db.tenant().id, passed.sign_in.user.id).await;
        }
        Ok(passed)
    }
}

/// The person again, held until the transaction ends: a new password or a deactivation that came meanwhile ends what waits.
/// The person comes after the account's tries and before factors, challenges and sessions, as in a login.
async fn hold_same(conn: &mut TenantConn, seen: &UserRow) -> ApiResult<UserRow> {
    let held = users::hold(conn, seen.id).await.map_err(|error| match error.code() {
        Code::NotFound => ApiError::new(Code::TokenInvalid),
        _ => error,
    })?;
    let same = held.status == UserStatus::Active && held.auth_version == seen.auth_version;
    if same { Ok(held) } else { Err(ApiError::new(Code::TokenInvalid)) }
}

/// A password alone adds no factor beside one that there is: not beside a passkey either, even one that nobody can be asked
/// for at the moment.
async fn expect_no_passkey(conn: &mut TenantConn, user: UserId) -> ApiResult<()> {
    if passkeys::store::any(conn, user).await? {
        let said = "There is a passkey, which is asked for. Whoever lost it is helped by an administrator.";
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    Ok(())
}

/// What the second half is proved with.
#[derive(Debug, Clone, Copy)]
pub(super) enum With<'a> {
    /// A code of the second factor; the device may be trusted from here on.
    Code { code: &'a SecretString, trust: bool },
    /// The first code of one just enrolled.
    FirstCode(&'a SecretString),
    /// What a passkey answered to which challenge.
    Passkey { answer: (Uuid, &'a Value), trust: bool },
}

impl With<'_> {
    /// What a session says of how its person proved who they are, beside the first half (RFC 8176).
    const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Passkey { .. } => &["pop", "mfa"],
            Self::Code { .. } | Self::FirstCode(_) => &["otp"],
        }
    }
}

/// A login that is complete.
pub(super) struct Passed {
    pub sign_in: SignIn,
    pub device: Option<SecretString>,
    /// Of a factor just confirmed.
    pub recovery_codes: Vec<SecretString>,
}
