//! What the bearer of a token may do, as the tenant's own database says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::db::TenantDb;
use super::error::Result;
use super::token::AccessClaims;
use crate::kernel::opaque::OpaqueToken;
use crate::kernel::{ApiKeyId, OauthClientId, OauthGrantId, TokenIssuerId, UserId};

/// The bearer's rights within the tenant.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names of the roles.
    pub roles: Vec<String>,
    /// Permissions, as `resource:action`.
    pub permissions: BTreeSet<String>,
    /// The password was given by somebody else and must be changed before rights over others are used.
    pub password_change_required: bool,
}

impl Access {
    /// Whether a permission is held.
    #[must_use]
    pub fn allows(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

/// Decides, after the signature was verified, whether the session behind a token still stands, and what it may do.
///
/// The server's implementation reads the tenant's `sessions` and roles; what it answers is at most two seconds old.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Admits the bearer, or refuses.
    ///
    /// # Errors
    /// [`super::Error::TokenRevoked`] if the session has ended; otherwise what reading the database may give.
    async fn admit(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Arc<Access>>;

    /// Admits a program with an API key, from an address, or refuses. Nobody has keys, unless this says otherwise. Asked by
    /// [`Router::authenticate_key`](super::Router::authenticate_key) alone: [`TenantDb`] in a handler's signature takes access
    /// tokens and no keys.
    ///
    /// # Errors
    /// [`super::Error::TokenInvalid`], `TokenExpired` or `TokenRevoked` for a key that is not good (any more),
    /// [`super::Error::RateLimited`] if it comes too often; otherwise what reading the database may give.
    async fn admit_key(
        &self,
        _db: &TenantDb,
        _key: &OpaqueToken,
        _from: Option<IpAddr>,
    ) -> Result<(KeyHolder, Arc<Access>)> {
        Err(super::Error::TokenInvalid("API keys are not taken here"))
    }

    /// Admits an app with a token that it was given here, or refuses. None is taken, unless this says otherwise.
    ///
    /// # Errors
    /// [`super::Error::TokenRevoked`] if what the app was given has ended; otherwise what reading the database may give.
    async fn admit_app(&self, _db: &TenantDb, _claims: &AccessClaims) -> Result<(AppBearer, Arc<Access>)> {
        Err(super::Error::TokenInvalid("apps' tokens are not taken here"))
    }

    /// Admits whoever brings a token that was not made here, or refuses. None is taken, unless this says otherwise. Asked by
    /// [`Router::authenticate_foreign`](super::Router::authenticate_foreign) alone: [`TenantDb`] in a handler's signature takes
    /// access tokens made here.
    ///
    /// # Errors
    /// [`super::Error::TokenInvalid`], `TokenExpired` or `TokenRevoked` for a token that is not good (any more); otherwise
    /// what reading the database may give.
    async fn admit_foreign(&self, _db: &TenantDb, _token: &str) -> Result<(ForeignBearer, Arc<Access>)> {
        Err(super::Error::TokenInvalid("foreign tokens are not taken here"))
    }
}

/// Whoever bears a token of an issuer that the tenant has registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignBearer {
    /// The issuer.
    pub issuer: TokenIssuerId,
    /// Who they are here.
    pub user: UserId,
}

/// An app, which works in one person's name with what it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppBearer {
    /// The app.
    pub client: OauthClientId,
    /// What it was given.
    pub grant: OauthGrantId,
    /// The person; of an app that came in its own name, its owner.
    pub user: UserId,
}

/// How somebody stands against a limit of their requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many,
    pub quota: u32,
    /// in so many seconds.
    pub window: u64,
    /// How many are left.
    pub left: u32,
    /// Seconds until all are.
    pub reset: u64,
}

/// A program with an API key, which works in one person's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub id: ApiKeyId,
    /// The person.
    pub owner: UserId,
    /// How it stands, where its requests are limited.
    pub rate: Option<Rate>,
}

/// Admits every verified token with the roles it claims and no permissions: for embedders without sessions of their
/// own. A token then lives until it expires.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimsOnly;

#[async_trait]
impl Admission for ClaimsOnly {
    async fn admit(&self, _db: &TenantDb, claims: &AccessClaims) -> Result<Arc<Access>> {
        Ok(Arc::new(Access { roles: claims.roles.clone(), ..Access::default() }))
    }
}
