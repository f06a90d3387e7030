//! From what a request carries to the database of its tenant.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Router;
use super::access::{Access, AppBearer, ForeignBearer, KeyHolder};
use super::db::TenantDb;
use super::error::{Error, Result};
use super::resolver::{self, TenantHints};
use super::token::{self, AccessClaims, KeyId};
use crate::kernel::TenantId;
use crate::kernel::opaque::OpaqueToken;

/// Who is asking, and of which tenant: made by the verifier alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authenticated {
    /// The tenant's database.
    pub db: TenantDb,
    /// What the token says.
    pub claims: Arc<AccessClaims>,
    /// What the tenant's database says.
    pub access: Arc<Access>,
    /// The app that the token was given to, if it is not the person's own.
    pub app: Option<AppBearer>,
}

impl Router {
    /// Verifies an access token, confirms the hints, then admits the session behind it. A tenant database is opened by
    /// the last step only.
    ///
    /// # Errors
    /// Those of a token, of a tenant that does not serve, and of its database.
    pub async fn authenticate(&self, token: &str, hints: &TenantHints) -> Result<Authenticated> {
        let inner = &self.0;
        let (tenant, claims) =
            inner.resolver.verify(token, hints, &inner.registry, &inner.installation.mac, &inner.config).await?;
        let (db, begun) = (TenantDb::new(self.clone(), tenant), Instant::now());
        let admitted = match claims.client_id {
            None => inner.admission.admit(&db, &claims).await.map(|access| (None, access)),
            Some(_) => inner.admission.admit_app(&db, &claims).await.map(|(app, access)| (Some(app), access)),
        };
        let (app, access) = admitted.inspect_err(|error| {
            // Nobody further on knows whose request it was.
            if error.is_database() {
                inner.rollout.record(db.tenant(), true, begun.elapsed());
            }
        })?;
        Ok(Authenticated { db, claims, access, app })
    }

    /// Finds the tenant of an API key, confirms the hints, then admits the key. A tenant database is opened by the last step
    /// only.
    ///
    /// # Errors
    /// As [`Self::authenticate`]; [`Error::RateLimited`].
    pub async fn authenticate_key(
        &self,
        key: &OpaqueToken,
        from: Option<IpAddr>,
        hints: &TenantHints,
    ) -> Result<(TenantDb, KeyHolder, Arc<Access>)> {
        let db = self.routed(key, hints).await?;
        let (holder, access) = self.0.admission.admit_key(&db, key, from).await?;
        Ok((db, holder, access))
    }

    /// Admits whoever brings a token that was not made here, for the tenant that the request names by header or host: such a
    /// token names none that could be believed.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the token was made here, if no tenant is named, or one that does not serve; else as
    /// [`Self::authenticate`].
    pub async fn authenticate_foreign(
        &self,
        token: &str,
        hints: &TenantHints,
    ) -> Result<(TenantDb, ForeignBearer, Arc<Access>)> {
        let ours =
            token::strict_kid(token, None).is_ok_and(|kid| KeyId::decode(&self.0.installation.mac, &kid).is_some());
        if ours || (hints.header.is_none() && hints.host.is_none()) {
            return Err(Error::TokenInvalid("nobody's"));
        }
        let db = self.named(None, hints).await.map_err(|error| match error {
            Error::TenantUnknown => Error::TokenInvalid("tenant"),
            other => other,
        })?;
        let (bearer, access) = self.0.admission.admit_foreign(&db, token).await?;
        Ok((db, bearer, access))
    }

    /// The tenant named on a route without a token: by the body, `X-Tenant-ID` or the subdomain.
    ///
    /// # Errors
    /// [`Error::TenantRequired`] if none is named, [`Error::TenantUnknown`] alike for unknown tenants and for those that do
    /// not serve, [`Error::TenantUnavailable`] for one that is still being made, and [`Error::TenantMismatch`] if two names
    /// differ.
    pub async fn named(&self, body: Option<&str>, hints: &TenantHints) -> Result<TenantDb> {
        let tenant = resolver::named(body, hints, &self.0.registry).await?;
        Ok(TenantDb::new(self.clone(), tenant))
    }

    /// The database of a tenant that serves, for work that no request brings: by id, since a slug may be another tenant's
    /// by the time that the work is done. While the tenant is held, it waits no longer than
    /// [`hold_timeout`](super::RouterConfig::hold_timeout).
    ///
    /// # Errors
    /// [`Error::TenantUnknown`] also if the tenant is archived, [`Error::TenantSuspended`], [`Error::TenantUnavailable`]
    /// while it is being made; else as [`Self::tenant`].
    pub async fn of_tenant(&self, id: TenantId) -> Result<TenantDb> {
        let tenant = self.tenant(id).await?;
        resolver::serving(&tenant).map_err(|error| match error {
            // There is no token that it could be wrong with.
            Error::TokenInvalid(_) => Error::TenantUnknown,
            other => other,
        })?;
        Ok(TenantDb::new(self.clone(), tenant).in_background())
    }

    /// The tenant of an opaque token (its routing part has been checked).
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the tenant is gone, [`Error::TenantSuspended`], [`Error::TenantMismatch`].
    pub async fn routed(&self, token: &OpaqueToken, hints: &TenantHints) -> Result<TenantDb> {
        let tenant = self.0.registry.get(token.tenant()).await.map_err(|error| match error {
            Error::TenantUnknown => Error::TokenInvalid("tenant"),
            other => other,
        })?;
        resolver::serving(&tenant)?;
        hints.confirm(&tenant)?;
        Ok(TenantDb::new(self.clone(), tenant))
    }
}
