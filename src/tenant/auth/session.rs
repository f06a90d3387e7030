//! Opening and continuing a session: its row, its refresh token, its access tokens.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::settings::{Auth, delta};
use super::store::{self, NewSession};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{SessionId, UserId};
use crate::rest::Client;
use crate::router::token::{ACCESS_TYP, roles_said};
use crate::router::{AccessClaims, TenantConn, TenantDb};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::security::{Claims, SessionRules, session_rules};
use crate::tenant::users::api::User;
use crate::tenant::users::store::UserRow;

/// What somebody gets who has signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// For `Authorization: Bearer …`.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9…")]
    pub access_token: SecretString,
    /// To be exchanged for the next pair, once.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "trf_AZq…")]
    pub refresh_token: SecretString,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Life of the access token in seconds.
    #[schema(example = 900)]
    pub expires_in: i64,
    /// Who has signed in.
    pub user: User,
    /// What was opened or continued.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) session: SessionId,
}

/// Writes a secret into an answer for its owner.
pub(crate) fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// The same for one that may be missing.
pub(crate) fn expose_some<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => expose(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// What every token of a session says alike.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub session: SessionId,
    /// Names of all roles, those by teams included.
    pub roles: Vec<String>,
    /// When it ends, unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
    pub amr: Vec<String>,
    pub auth_time: DateTime<Utc>,
    /// What the organisation has the token say besides.
    pub extra: Claims,
}

/// Opens a session for somebody with these roles who has just proved who they are, in these ways (RFC 8176).
pub(super) async fn open(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    (user, roles): (UserRow, Vec<String>),
    client: &Client,
    amr: &[&str],
) -> ApiResult<SignIn> {
    let at = auth.clock.now();
    open_proved(conn, auth, db, (user, roles), client, &Proved { amr, at }).await
}

/// How somebody has proved who they are, and when.
#[derive(Debug)]
pub(super) struct Proved<'a> {
    pub amr: &'a [&'a str],
    pub at: DateTime<Utc>,
}

/// The same for somebody who has proved it earlier, elsewhere.
pub(super) async fn open_proved(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    (user, roles): (UserRow, Vec<String>),
    client: &Client,
    proved: &Proved<'_>,
) -> ApiResult<SignIn> {
    let now = auth.clock.now();
    let rules = session_rules(conn, db, auth.settings.session_lifetimes()).await?;
    make_room(conn, db, (user.id, rules.most), client, now).await?;
    let opened = begin(conn, auth, db, (user, roles), client, (proved, rules, now)).await?;
    know_rights(conn, db, opened.session).await?;
    Ok(opened)
}

/// Has a session know its person's rights, for nodes that see the person for the first time.
pub(super) async fn know_rights(conn: &mut TenantConn, db: &TenantDb, session: SessionId) -> ApiResult<()> {
    if db.tenant().schema_version >= store::KNOWN_SINCE {
        store::know_rights(conn, session).await?;
    }
    Ok(())
}

/// As [`open_proved`], by rules that were read, whatever other sessions there are. What a newcomer may do is read ahead instead.
pub(super) async fn begin(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    (user, roles): (UserRow, Vec<String>),
    client: &Client,
    (proved, rules, now): (&Proved<'_>, SessionRules, DateTime<Utc>),
) -> ApiResult<SignIn> {
    let identity = Identity {
        session: SessionId::generate(),
        extra: rules.claims.of(conn, db, (&user, &roles)).await?,
        roles,
        expires_at: rules.lifetimes.end(now, now),
        amr: proved.amr.iter().map(|&method| method.to_owned()).collect(),
        auth_time: proved.at,
    };
    let row = NewSession {
        id: identity.session,
        user_id: user.id,
        created_at: now,
        last_used_at: now,
        expires_at: identity.expires_at,
        ip: client.ip.as_deref(),
        user_agent: client.user_agent.as_deref(),
        amr: &identity.amr,
        auth_time: proved.at,
    };
    store::insert_session(conn, &row).await?;
    let refresh = OpaqueToken::generate(&db.router().installation().mac, TokenKind::Refresh, db.tenant().id);
    store::insert_refresh_token(conn, &refresh.hash(), identity.session, now, identity.expires_at).await?;
    answer(auth, db, user, &identity, &refresh, now)
}

/// Does what the next session of a person does to those before it; of a newcomer there are none.
async fn make_room(
    conn: &mut TenantConn,
    db: &TenantDb,
    (user, most): (UserId, Option<i32>),
    client: &Client,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    if most.is_some() {
        store::hold_person(conn, user).await?;
    }
    let ip = client.ip.as_deref();
    let before = store::before(conn, user, ip).await?;
    if !before.any {
        return Ok(());
    }
    if ip.is_some() && !before.known {
        mail::notify_security(conn, db, user, SecurityNotice::NewSession, Some(client)).await?;
    }
    if let Some(most) = most {
        store::end_sessions_beyond(conn, user, most - 1, now).await?;
    }
    Ok(store::sweep_sessions(conn, user, now).await?)
}

/// The answer with a fresh access token.
pub(super) fn answer(
    auth: &Auth,
    db: &TenantDb,
    user: UserRow,
    identity: &Identity,
    refresh: &OpaqueToken,
    now: DateTime<Utc>,
) -> ApiResult<SignIn> {
    let AccessToken { access_token, token_type, expires_in } = access_token(auth, db, &user, identity, now)?;
    let refresh_token = refresh.text().clone();
    let user = User::new(user, db.tenant().id);
    Ok(SignIn { access_token, refresh_token, token_type, expires_in, user, session: identity.session })
}

/// An access token alone.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessToken {
    /// For `Authorization: Bearer …`.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9…")]
    pub access_token: SecretString,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Its life in seconds.
    #[schema(example = 900)]
    pub expires_in: i64,
}

/// A fresh access token of a session.
pub(super) fn access_token(
    auth: &Auth,
    db: &TenantDb,
    user: &UserRow,
    identity: &Identity,
    now: DateTime<Utc>,
) -> ApiResult<AccessToken> {
    let tenant = db.tenant();
    let key = tenant.signing_key(now).ok_or_else(|| ApiError::new(Code::TenantUnavailable))?;
    let issuer = db.router().issuer(&tenant.slug);
    let expires_at = (now + delta(auth.settings.access_token_ttl)).min(identity.expires_at);
    let claims = AccessClaims {
        aud: issuer.clone(),
        iss: issuer,
        sub: user.id,
        tid: tenant.id.to_string(),
        sid: identity.session,
        jti: Uuid::now_v7(),
        iat: now.timestamp(),
        exp: expires_at.timestamp(),
        roles: roles_said(&identity.roles),
        amr: identity.amr.clone(),
        auth_time: identity.auth_time.timestamp(),
        ver: user.auth_version,
        act: None,
        client_id: None,
        scope: None,
        extra: identity.extra.said(),
    };
    Ok(AccessToken {
        access_token: key.sign(ACCESS_TYP, &claims)?.into(),
        token_type: "Bearer",
        expires_in: claims.exp - claims.iat,
    })
}
