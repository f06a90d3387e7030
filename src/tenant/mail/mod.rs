//! Mail to the people of a tenant: queued in the transaction of what it tells of, sent afterwards by whichever node comes
//! first, again and again until the mail server has it or it is of no use any more.
//!
//! [`queue`] and [`notify_security`] are for every feature; what they write waits in `mail_outbox`, sealed. Before that the
//! tenant is listed in the control plane as one that has mail (`Router::ring`), so that no node ever looks into a database
//! where there is none. Security notices can be reworded, not muted.

mod built_in;
mod device;
mod dispatch;
mod notice;
mod placed;
mod render;
mod settings;
mod store;
mod templates;

pub use dispatch::{Round, deliver};
pub use notice::SecurityNotice;
pub use render::Links;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::kernel::crypto::{Place, SealKey};
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb, Waiting};
use store::NewMail;

/// The built-in schema that has the outbox (`V7__mail.sql`).
pub const SINCE: i32 = 7;

/// Mails that may wait in one tenant where another is queued: one that strangers can cause; any other; and a security notice,
/// which there is room for where nothing else finds any.
const MOST_BY_STRANGERS: i64 = 1_000;
const MOST: i64 = 10_000;
const MOST_WITH_NOTICES: i64 = 20_000;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(templates::list_templates)
        .service(templates::get_template)
        .service(templates::put_template)
        .service(templates::delete_template)
        .service(settings::get_settings)
        .service(settings::patch_settings)
        .service(settings::get_my_language)
        .service(settings::put_my_language);
}

/// What the mail about a lock is remembered as.
const LOCKED: &str = "account-locked";
/// How often somebody is told at most that their account is locked.
const LOCKED_AGAIN: TimeDelta = TimeDelta::days(1);

/// What is sent. Tokens in it stay sealed until it is rendered, and are gone when it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "mail", rename_all = "kebab-case")]
pub enum Mail {
    /// What concerns somebody's account.
    SecurityNotice(Noticed),
    /// The link that verifies an address, of whoever waits for it: who that is, is looked for when it is sent.
    VerifyEmail,
    /// To whoever registers with an address that they have an account with.
    AlreadyRegistered,
    /// The link to a new password, of whoever has the address: who that is, is looked for when it is sent.
    PasswordReset,
    /// To a new address: the link that confirms it.
    ConfirmEmail {
        /// Of the link.
        token: String,
    },
    /// To the address that is to be replaced: the link that agrees.
    ApproveEmail {
        /// Of the link.
        token: String,
        /// The new address.
        other: String,
    },
    /// The link to an account of one's own.
    Invitation {
        /// Of the link.
        token: String,
        /// Who invites; may be empty.
        by: String,
    },
    /// Where somebody has an account with this address, on their own asking.
    Workspaces {
        /// This organisation among them.
        workspaces: Vec<Workspace>,
    },
    /// Nothing to nobody: where somebody is told who exists, as much is done for who does not.
    Nothing,
}

/// An organisation that somebody belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Display name.
    pub name: String,
    /// Public name.
    pub slug: String,
}

/// A notice with when and where it happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Noticed {
    notice: SecurityNotice,
    at: DateTime<Utc>,
    ip: Option<String>,
    user_agent: Option<String>,
}

impl Mail {
    /// The template's name.
    const fn template(&self) -> &'static str {
        match self {
            Self::SecurityNotice(_) => "security-notice",
            Self::VerifyEmail => "verify-email",
            Self::AlreadyRegistered => "already-registered",
            Self::PasswordReset => "password-reset",
            Self::ConfirmEmail { .. } => "confirm-email",
            Self::ApproveEmail { .. } => "approve-email",
            Self::Invitation { .. } => "invitation",
            Self::Workspaces { .. } => "workspaces",
            Self::Nothing => "nothing",
        }
    }

    /// What it is remembered as.
    const fn kind(&self) -> &'static str {
        match self {
            Self::SecurityNotice(Noticed { notice: SecurityNotice::AccountLocked, .. }) => LOCKED,
            other => other.template(),
        }
    }

    /// How long it is of use.
    const fn lifetime(&self) -> TimeDelta {
        match self {
            Self::PasswordReset | Self::Workspaces { .. } => TimeDelta::hours(1),
            Self::VerifyEmail | Self::AlreadyRegistered => TimeDelta::days(1),
            Self::ConfirmEmail { .. } | Self::ApproveEmail { .. } => TimeDelta::days(1),
            Self::SecurityNotice(_) | Self::Nothing => TimeDelta::days(3),
            Self::Invitation { .. } => TimeDelta::days(7),
        }
    }

    /// How many may wait where it is queued.
    const fn room(&self) -> i64 {
        match self {
            _ if self.by_strangers() => MOST_BY_STRANGERS,
            Self::SecurityNotice(_) => MOST_WITH_NOTICES,
            _ => MOST,
        }
    }

    /// Whether somebody without a token can cause it, again and again.
    const fn by_strangers(&self) -> bool {
        match self {
            Self::SecurityNotice(Noticed { notice, .. }) => matches!(notice, SecurityNotice::AccountLocked),
            Self::VerifyEmail | Self::AlreadyRegistered | Self::PasswordReset => true,
            Self::Workspaces { .. } | Self::Nothing => true,
            Self::ConfirmEmail { .. } | Self::ApproveEmail { .. } | Self::Invitation { .. } => false,
        }
    }
}

/// To whom.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Whom it is about, if it is a person of the tenant.
    pub user: Option<UserId>,
    /// Address.
    pub address: String,
    /// First name; may be empty.
    pub name: String,
}

/// A mail as it waits.
#[derive(Serialize, Deserialize)]
struct Parcel {
    to: String,
    name: String,
    mail: Mail,
}

const fn place(id: Uuid) -> Place {
    Place::new("mail_outbox", "parcel_sealed", id)
}

/// What parcels are sealed with: of the installation, so that a restored or moved database keeps its mails.
fn seal_key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-mail")
}

/// Queues a mail in the transaction under way, and tells the control plane that this tenant has one. What is rolled back is
/// not sent; what is committed is, even if this process ends at once.
///
/// A tenant whose schema has no outbox yet has nobody to tell: then nothing is queued, and the log says so. Nor is anything
/// where too many mails wait already.
///
/// # Errors
/// What the tenant's database answers. Never because the control plane or the mail server is away.
pub async fn queue(conn: &mut TenantConn, db: &TenantDb, to: &Recipient, mail: Mail) -> ApiResult<()> {
    let (tenant, template, kind) = (db.tenant().id, mail.template(), mail.kind());
    if !exists(conn, db).await? {
        tracing::warn!(%tenant, mail = template, "a mail is not sent: the tenant's schema has no outbox yet");
        return Ok(());
    }
    db.router().ring(tenant, Waiting::Mail).await;
    let (id, now) = (Uuid::now_v7(), db.router().config().clock.now());
    let most = mail.room();
    let expires_at = now + mail.lifetime();
    let parcel = Parcel { to: to.address.clone(), name: to.name.clone(), mail };
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(&parcel).map_err(ApiError::internal)?);
    let sealed = seal_key(db).seal(place(id), &plain);
    let new = NewMail { id, kind, user: to.user, parcel: sealed.as_bytes(), now, expires_at };
    if !store::insert(conn, &new, most).await? {
        metrics::counter!("tenantry_mails_refused_total").increment(1);
        tracing::error!(%tenant, mail = template, "a mail is not sent: too many wait already");
    }
    Ok(())
}

/// Tells a person what happened to their account, at the address they have at this moment: to be called before that
/// changes. `client` is where it was done from.
///
/// # Errors
/// As [`queue`].
pub async fn notify_security(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    notice: SecurityNotice,
    client: Option<&Client>,
) -> ApiResult<()> {
    let Some(to) = store::recipient(conn, user).await? else { return Ok(()) };
    let noticed = Noticed {
        notice,
        at: db.router().config().clock.now(),
        ip: client.and_then(|client| client.ip.clone()),
        user_agent: client.and_then(|client| client.user_agent.clone()),
    };
    queue(conn, db, &to, Mail::SecurityNotice(noticed)).await
}

/// Tells whoever has an address that too many guesses were made at it, if anybody has it; as much is done if nobody has.
///
/// # Errors
/// As [`queue`].
pub async fn notify_locked(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: Option<UserId>,
    client: &Client,
) -> ApiResult<()> {
    if !exists(conn, db).await? {
        return Ok(());
    }
    let at = db.router().config().clock.now();
    let id = user.unwrap_or_else(|| UserId::from(Uuid::nil()));
    let told = store::was_sent(conn, id, LOCKED, at - LOCKED_AGAIN).await?;
    let Some(to) = store::recipient(conn, id).await? else {
        let nobody = Recipient { user: None, address: String::new(), name: String::new() };
        return queue(conn, db, &nobody, Mail::Nothing).await;
    };
    let notice = SecurityNotice::AccountLocked;
    let noticed = Noticed { notice, at, ip: client.ip.clone(), user_agent: client.user_agent.clone() };
    queue(conn, db, &to, if told { Mail::Nothing } else { Mail::SecurityNotice(noticed) }).await
}

/// Whether a person was sent such a mail since then, or is about to be.
///
/// # Errors
/// What the database answers.
pub async fn was_sent(conn: &mut TenantConn, user: UserId, mail: &Mail, since: DateTime<Utc>) -> ApiResult<bool> {
    Ok(store::was_sent(conn, user, mail.kind(), since).await?)
}

/// When a person was sent such mails since then, or is about to be, the latest first: `most` of them.
///
/// # Errors
/// What the database answers.
pub async fn sent_since(
    conn: &mut TenantConn,
    user: UserId,
    mail: &Mail,
    since: DateTime<Utc>,
    most: i64,
) -> ApiResult<Vec<DateTime<Utc>>> {
    Ok(store::sent_since(conn, user, mail.kind(), since, most).await?)
}

/// Whether the database has an outbox: the registry may not have heard of it yet.
async fn exists(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<bool> {
    Ok(db.tenant().schema_version >= SINCE || store::exists(conn).await?)
}

/// The database with an outbox in it.
async fn at_schema(db: &TenantDb) -> ApiResult<TenantDb> {
    Ok(db.router().at_schema(db.clone(), SINCE).await?)
}
