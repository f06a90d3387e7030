//! Between the password and the session: whether a second factor is asked for.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::{SINCE, factor, store};
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::auth::federation;
use crate::tenant::auth::passkeys;
use crate::tenant::auth::session::{self, Proved, SignIn, expose};
use crate::tenant::auth::settings::Auth;
use crate::tenant::identity_providers;
use crate::tenant::security::{self, session_rules};
use crate::tenant::teams;
use crate::tenant::users::store::UserRow;

/// How long a login waits for its second half.
pub(in crate::tenant::auth) const CHALLENGE: TimeDelta = TimeDelta::minutes(5);

/// Of a login's first half (RFC 8176): a password.
const PASSWORD: &str = "pwd";
/// An identity provider. The registry has no word for it.
pub(in crate::tenant) const FEDERATED: &str = "fed";

/// How a login goes on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum LoggedIn {
    /// In.
    In(Box<SignIn>),
    /// The second factor is asked for.
    SecondFactor(SecondFactorRequired),
}

/// A token for the second half of a login, good for five minutes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecondFactorRequired {
    /// `true`.
    #[schema(example = true)]
    pub mfa_required: bool,
    /// For `/api/v1/auth/mfa`, or, where `methods` is `["enrolment"]`, for `/api/v1/auth/mfa/enrolment`.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "tmf_AZq…")]
    pub mfa_token: SecretString,
    /// `otp` and `recovery`; `webauthn`, of who has a passkey; or `enrolment`, where the organisation demands a second factor
    /// and there is none yet.
    #[schema(example = json!(["otp", "recovery"]))]
    pub methods: Vec<&'static str>,
}

/// Lets somebody in who has just proved their password, or asks for the second factor.
pub(in crate::tenant::auth) async fn enter(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    user: UserRow,
    client: &Client,
    device: Option<&SecretString>,
) -> ApiResult<LoggedIn> {
    let first = FirstHalf { how: PASSWORD, device, at: auth.clock.now() };
    enter_by(conn, auth, db, user, client, first).await
}

/// Lets somebody in who was made earlier in the same transaction, with the roles of their row: what nobody can have yet is
/// not looked for.
pub(in crate::tenant::auth) async fn enter_first(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    user: UserRow,
    client: &Client,
) -> ApiResult<LoggedIn> {
    if db.tenant().schema_version < security::SINCE {
        return enter(conn, auth, db, user, client, None).await;
    }
    let (roles, rules) = (user.roles.clone(), session_rules(conn, db, auth.settings.session_lifetimes()).await?);
    if roles.iter().any(|role| rules.factor_of.contains(role)) {
        return challenge(conn, db, &user, (PASSWORD, vec!["enrolment"]), auth.clock.now()).await;
    }
    let now = auth.clock.now();
    let proved = Proved { amr: &[PASSWORD], at: now };
    let opened = session::begin(conn, auth, db, (user, roles), client, (&proved, rules, now)).await;
    opened.map(Box::new).map(LoggedIn::In)
}

/// Lets somebody in whom an identity provider vouches for, or asks for the second factor. What the provider saw of one is
/// its own affair: the organisation's rule holds here. What they show here is fresh; without it, they have proved who they are
/// when they signed in there.
pub(in crate::tenant::auth) async fn enter_federated(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    (user, at): (UserRow, DateTime<Utc>),
    client: &Client,
) -> ApiResult<LoggedIn> {
    enter_by(conn, auth, db, user, client, FirstHalf { how: FEDERATED, device: None, at }).await
}

/// The first half of a login.
struct FirstHalf<'a> {
    how: &'static str,
    device: Option<&'a SecretString>,
    /// When they have proved it.
    at: DateTime<Utc>,
}

async fn enter_by(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    user: UserRow,
    client: &Client,
    FirstHalf { how, device, at }: FirstHalf<'_>,
) -> ApiResult<LoggedIn> {
    let now = auth.clock.now();
    let passkey = has_passkey(conn, auth, db, user.id).await?;
    let roles = teams::all_roles(conn, db, &user).await?;
    let methods = match exists(conn, db).await? {
        false => None,
        true if store::is_enrolled(conn, user.id).await? => {
            let codes = vec!["otp", "recovery"];
            Some(if passkey { [&["webauthn"], &codes[..]].concat() } else { codes })
        }
        true => {
            let demanded = store::is_demanded(conn, &roles).await?;
            demanded.then(|| if passkey { vec!["webauthn"] } else { vec!["enrolment"] })
        }
    };
    let amr = match &methods {
        None => &[how][..],
        Some(methods) if *methods != ["enrolment"] && is_trusted(conn, db, &user, device, now).await? => {
            &[how, "mfa"][..]
        }
        Some(methods) => return challenge(conn, db, &user, (how, methods.clone()), now).await,
    };
    let proved = Proved { amr, at };
    session::open_proved(conn, auth, db, (user, roles), client, &proved).await.map(Box::new).map(LoggedIn::In)
}

/// Whether a person has a passkey that they can be asked for.
pub(super) async fn has_passkey(conn: &mut TenantConn, auth: &Auth, db: &TenantDb, user: UserId) -> ApiResult<bool> {
    let here = db.tenant().schema_version >= passkeys::SINCE && auth.passkeys.is_there();
    Ok(here && passkeys::store::any(conn, user).await?)
}

async fn exists(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<bool> {
    Ok(db.tenant().schema_version >= SINCE || store::exists(conn).await?)
}

/// Whether the organisation demands a second factor of people with these roles.
pub(in crate::tenant) async fn is_demanded(conn: &mut TenantConn, db: &TenantDb, roles: &[String]) -> ApiResult<bool> {
    Ok(exists(conn, db).await? && store::is_demanded(conn, roles).await?)
}

/// Whether a person has an authenticator that counts.
pub(in crate::tenant::auth) async fn has_authenticator(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
) -> ApiResult<bool> {
    Ok(exists(conn, db).await? && store::is_enrolled(conn, user).await?)
}

/// How the first half of a login was done that waits under this token.
pub(super) async fn first_half(conn: &mut TenantConn, db: &TenantDb, hash: &[u8; 32]) -> ApiResult<&'static str> {
    // Before that schema nobody came through a provider.
    let federated =
        db.tenant().schema_version >= identity_providers::SINCE && federation::is_noted_challenge(conn, hash).await?;
    Ok(if federated { FEDERATED } else { PASSWORD })
}

/// Whether a session with these methods has seen a second factor.
pub(in crate::tenant) fn is_satisfied(amr: &[String]) -> bool {
    amr.iter().any(|method| method == "otp" || method == "mfa")
}

/// Whether somebody has shown the password or a passkey: by themselves, not by a provider's word alone. A code is no such
/// proof, since it may be that of an authenticator that was enrolled in the same session.
pub(in crate::tenant::auth) fn is_by_themselves(amr: &[String]) -> bool {
    is_by_password(amr) || amr.iter().any(|method| method == "pop")
}

/// Whether somebody has shown the password, whatever else.
pub(in crate::tenant::auth) fn is_by_password(amr: &[String]) -> bool {
    amr.iter().any(|method| method == PASSWORD)
}

async fn is_trusted(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: &UserRow,
    device: Option<&SecretString>,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    let Some(device) = device else { return Ok(false) };
    match OpaqueToken::parse(&db.router().installation().mac, TokenKind::Device, device) {
        Some(token) if token.tenant() == db.tenant().id => {
            Ok(store::use_device(conn, &token.hash(), user.id, now).await?)
        }
        _ => Ok(false),
    }
}

async fn challenge(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: &UserRow,
    (how, methods): (&'static str, Vec<&'static str>),
    now: DateTime<Utc>,
) -> ApiResult<LoggedIn> {
    let token = OpaqueToken::generate(&db.router().installation().mac, TokenKind::SecondFactor, db.tenant().id);
    store::insert_challenge(conn, &token.hash(), (user.id, user.auth_version), now, now + CHALLENGE).await?;
    if how == FEDERATED {
        federation::note_challenge(conn, &token.hash()).await?;
    }
    Ok(LoggedIn::SecondFactor(SecondFactorRequired { mfa_required: true, mfa_token: token.text().clone(), methods }))
}

/// Ends a person's logins that wait for their second half.
pub(in crate::tenant) async fn forget_challenges(conn: &mut TenantConn, db: &TenantDb, user: UserId) -> ApiResult<()> {
    if exists(conn, db).await? {
        store::forget_challenges(conn, user).await?;
    }
    Ok(())
}

/// Asks for the second factor again, wherever a person logs in.
pub(in crate::tenant::auth) async fn forget_devices(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
) -> ApiResult<()> {
    if exists(conn, db).await? {
        store::remove_devices(conn, user).await?;
    }
    Ok(())
}

/// What a code that came with a password is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tenant::auth) enum Proof {
    /// There is no second factor.
    None,
    /// It is one of the factor's, and was taken.
    Right,
    /// None came.
    Missing,
    /// It is none of the factor's.
    Wrong,
}

/// Takes the code of a person, if they have a second factor.
pub(in crate::tenant::auth) async fn prove(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    code: Option<&SecretString>,
    now: DateTime<Utc>,
) -> ApiResult<Proof> {
    if !has_authenticator(conn, db, user).await? {
        return Ok(Proof::None);
    }
    let Some(code) = code else { return Ok(Proof::Missing) };
    Ok(if factor::take_any(conn, db, user, code, now).await? { Proof::Right } else { Proof::Wrong })
}
