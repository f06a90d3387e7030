//! The limits of guessing, alike for right and wrong passwords and for accounts that nobody has: an account slows, then
//! locks; an address that fails over many accounts waits longer each time; in a tenant that is attacked as a whole every
//! try is slowed.
//!
//! All that proves who somebody is counts together: password, second factor, recovery code, step-up. An account has a
//! lane of its own for each address that its person came in from lately, and for each of their trusted devices: a stranger
//! elsewhere locks their own lane, not the person out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::rules::{
    Limits, SPRAYED_FROM_ADDRESS, SPRAYED_IN_TENANT, lockout, login_rate, slowdown, spacing, tenant_slowdown,
};
use super::settings::Auth;
use super::store::{self, Around, Credentials, NewAttempt, Wide};
use crate::error::{ApiError, ApiResult, Code, Limit};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Client;
use crate::router::{Rate, TenantConn, TenantDb};
use crate::tenant::audit;
use crate::tenant::mail;

/// The built-in schema that counts by address and tenant (`V11__throttling.sql`).
pub const SINCE: i32 = 11;
/// Failures of an account after which a CAPTCHA is asked for, where the organisation has one.
const SUSPICIOUS: usize = 3;

/// What somebody tries to prove who they are with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The password of a login.
    Password,
    /// The second factor of a login, or a code of it within a session.
    SecondFactor,
    /// Password and code, within a session.
    StepUp,
    /// The current password, to choose another one.
    PasswordChange,
    /// A passkey alone.
    Passkey,
    /// An identity provider's word.
    Federation,
    /// An app's secret.
    AppSecret,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SecondFactor => "second_factor",
            Self::StepUp => "step_up",
            Self::PasswordChange => "password_change",
            Self::Passkey => "passkey",
            Self::Federation => "federation",
            Self::AppSecret => "app_secret",
        }
    }
}

/// What an account is counted by: keyed, so that the history of strangers' guesses tells no addresses.
fn email_hash(db: &TenantDb, email_key: &str) -> [u8; 32] {
    let tenant = db.tenant().id.uuid();
    db.router().installation().mac.digest("login-email", &[tenant.as_bytes(), email_key.as_bytes()])
}

/// 429 until the account or the address may try again.
pub(super) fn locked(left: Duration, limits: &Limits) -> ApiError {
    let Rate { quota, window, .. } = login_rate(limits.account, limits);
    let limit = Limit { name: "login", quota, window: Duration::from_secs(window) };
    ApiError::new(Code::TooManyAttempts).retry_after(left).limited(limit)
}

/// One try: on which account, by whom, when.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// On which account.
    pub email_key: &'a str,
    email_hash: [u8; 32],
    db: &'a TenantDb,
    client: &'a Client,
    network: Option<String>,
    device: Option<[u8; 32]>,
    kind: Kind,
    limits: Limits,
    wide: bool,
    /// When.
    pub now: DateTime<Utc>,
}

impl<'a> Line<'a> {
    /// A try of now on the account with this address.
    pub(super) fn new(auth: &Auth, db: &'a TenantDb, email_key: &'a str, client: &'a Client, kind: Kind) -> Self {
        Self {
            email_key,
            db,
            email_hash: email_hash(db, email_key),
            client,
            network: client.network(),
            device: None,
            kind,
            limits: auth.settings.limits,
            wide: db.tenant().schema_version >= SINCE,
            now: auth.clock.now(),
        }
    }

    /// The same, by whoever has this token of a trusted device.
    pub(super) fn device(mut self, db: &TenantDb, device: Option<&SecretString>) -> Self {
        let mac = &db.router().installation().mac;
        let token = device.and_then(|text| OpaqueToken::parse(mac, TokenKind::Device, text));
        self.device = token.filter(|token| token.tenant() == db.tenant().id).map(|token| token.hash());
        self
    }

    /// The same, a moment later.
    pub(super) fn again(&self, auth: &Auth) -> Self {
        Self { now: auth.clock.now(), network: self.network.clone(), ..*self }
    }
}

/// How a try stands before it is made.
#[derive(Debug)]
pub(super) struct Standing {
    lane: Option<String>,
    /// Whether it comes from one of the person's trusted devices: nobody else's failures are held against it.
    trusted: bool,
    failures: Vec<DateTime<Utc>>,
    around: Around,
}

impl Standing {
    /// How long it may not be made.
    pub(super) fn locked(&self, line: &Line<'_>) -> Option<Duration> {
        let account = lockout(&self.failures, &line.limits, line.now);
        if self.trusted {
            return account;
        }
        let Around { address_failures, address_last, .. } = self.around;
        account.max(spacing(count(address_failures), address_last, &line.limits, line.now))
    }

    /// How long it is held back.
    pub(super) fn slowdown(&self, line: &Line<'_>) -> Duration {
        let account = slowdown(self.failures.len());
        if self.trusted { account } else { account + tenant_slowdown(count(self.around.tenant_failures), &line.limits) }
    }

    /// Whether somebody came in from here so lately that it need not be noted again, and nothing has failed since.
    pub(super) const fn is_settled(&self) -> bool {
        self.around.renewed && self.failures.is_empty()
    }

    /// How often the account has failed.
    pub(super) const fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Whether it looks like guessing.
    pub(super) fn is_suspicious(&self) -> bool {
        self.failures.len() >= SUSPICIOUS || (self.around.suspected && !self.trusted)
    }
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// How a try stands, as far as can be told before it.
pub(super) async fn look(conn: &mut TenantConn, line: &Line<'_>) -> ApiResult<Standing> {
    let Line { email_hash, limits, now, .. } = line;
    if !line.wide {
        let failures = store::failures(conn, email_hash, None, limits, *now).await?;
        return Ok(Standing { lane: None, trusted: false, failures, around: Around::default() });
    }
    let device = match &line.device {
        None => None,
        Some(hash) => store::device_of(conn, hash, line.email_key, *now).await?,
    };
    let around = store::around(conn, email_hash, line.network.as_deref(), limits, *now).await?;
    let lane = match (device, &line.network) {
        (Some(device), _) => Some(format!("device:{device}")),
        (None, Some(network)) if around.known => Some(format!("network:{network}")),
        _ => None,
    };
    let failures = store::failures(conn, email_hash, Some(lane.as_deref()), limits, *now).await?;
    Ok(Standing { lane, trusted: device.is_some(), failures, around })
}

/// Judges tries on one account one after the other, so that a hundred at once get no more guesses than one by one: held
/// until the transaction ends. Gives how long no try may be made.
pub(super) async fn hold(conn: &mut TenantConn, line: &Line<'_>) -> ApiResult<Option<Duration>> {
    store::hold_attempts(conn, &line.email_hash).await?;
    Ok(look(conn, line).await?.locked(line))
}

/// One try of a password, after the hashing and before anything comes of it.
#[derive(Debug)]
pub(super) struct Try<'a> {
    pub line: &'a Line<'a>,
    /// Whose account it is.
    pub known: Option<UserId>,
    /// The credentials that the password matched.
    pub matched: Option<&'a Credentials>,
}

/// What comes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It may go on. Nothing is counted yet: there may be a second factor to come.
    Passed(UserId),
    /// Wrong; counted.
    Refused,
    /// Too many were wrong, meanwhile perhaps; not counted.
    Locked(Duration),
}

/// Judges a try of a password. The credentials have to be what they were when it was compared: it may have been changed
/// meanwhile.
pub(super) async fn judge(conn: &mut TenantConn, attempt: &Try<'_>) -> ApiResult<Outcome> {
    if let Some(left) = hold(conn, attempt.line).await? {
        return Ok(Outcome::Locked(left));
    }
    if let Some(matched) = attempt.matched {
        let current = store::hold_credentials(conn, matched.user).await?;
        if let Some(current) = current.filter(|c| c.usable_hash() == matched.password_hash) {
            return Ok(Outcome::Passed(current.user));
        }
    }
    fail(conn, attempt.line, attempt.known).await?;
    Ok(Outcome::Refused)
}

/// Counts a failure, and sees whether many accounts are tried.
pub(super) async fn fail(conn: &mut TenantConn, line: &Line<'_>, user: Option<UserId>) -> ApiResult<()> {
    note(conn, line, user, false).await?;
    if !line.wide {
        return Ok(());
    }
    if lockout(&look(conn, line).await?.failures, &line.limits, line.now).is_some() {
        mail::notify_locked(conn, line.db, user, line.client).await?;
    }
    let network = line.network.as_deref();
    let (from_address, in_tenant) = store::accounts_tried(conn, network, line.now - line.limits.window).await?;
    if let Some(network) = network.filter(|_| from_address >= SPRAYED_FROM_ADDRESS) {
        suspect(conn, line, &format!("network:{network}"), from_address).await?;
    }
    if in_tenant >= SPRAYED_IN_TENANT {
        suspect(conn, line, "tenant", in_tenant).await?;
    }
    Ok(())
}

async fn suspect(conn: &mut TenantConn, line: &Line<'_>, subject: &str, accounts: i64) -> ApiResult<()> {
    if store::suspect(conn, subject, accounts, line.now, line.now + line.limits.window).await? {
        let said = format!("{accounts} accounts were tried in vain ({subject})");
        let tenant = line.db.tenant().id;
        tracing::warn!(
            target: "tenantry::security",
            event = "login.spray",
            %tenant,
            subject,
            accounts,
            "many accounts are tried"
        );
        audit::note_tenant::<TenantConn>(conn, "system", "login.spray", &said, line.now).await?;
    }
    Ok(())
}

/// Notes that somebody came in, which forgives the failures before it in the same lane.
pub(super) async fn succeed(conn: &mut TenantConn, line: &Line<'_>, user: UserId) -> ApiResult<()> {
    note(conn, line, Some(user), true).await
}

/// Writes a line of the history.
pub(super) async fn note(
    conn: &mut TenantConn,
    line: &Line<'_>,
    user: Option<UserId>,
    succeeded: bool,
) -> ApiResult<()> {
    let lane = if line.wide { look(conn, line).await?.lane } else { None };
    let wide = Wide { kind: line.kind.as_str(), network: line.network.as_deref(), lane: lane.as_deref() };
    let attempt = NewAttempt {
        email_hash: &line.email_hash,
        user,
        succeeded,
        client: line.client,
        at: line.now,
        wide: line.wide.then_some(wide),
    };
    Ok(store::insert_attempt(conn, &attempt).await?)
}
