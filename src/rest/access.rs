//! Who is asking, and whether they may: the permission is the extractor's type.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use chrono::TimeDelta;
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::gate::Gate;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{TenantId, UserId};
use crate::router::{Access, AccessClaims, Authenticated, TenantDb, extractor};

/// A right of a role, named in the signature of the handlers that need it.
pub trait Permission: 'static {
    /// `resource:action`.
    const NAME: &'static str;
    /// Whether it may be used by somebody who has yet to replace a password that another person gave them. False for
    /// rights over others.
    const BEFORE_PASSWORD_CHANGE: bool = true;
    /// The version of the built-in schema that the handlers need which ask for it. A tenant that is behind is migrated at
    /// once, and the request waits for that.
    const SCHEMA: i32 = 1;
}

/// Who a request came from, in its extensions for the access log. Ids and the tenant's slug, nothing personal.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: String,
    /// The person.
    pub user: UserId,
}

/// A caller that holds the permission `P`, and their tenant's database.
pub struct Authorized<P: Permission> {
    /// The tenant's database.
    pub db: TenantDb,
    /// What the token says.
    pub claims: Arc<AccessClaims>,
    /// What the tenant's database says.
    pub access: Arc<Access>,
    permission: PhantomData<P>,
}

impl<P: Permission> Authorized<P> {
    /// The caller.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.claims.sub
    }
}

impl<P: Permission> fmt::Debug for Authorized<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized<{}>({:?}, {})", P::NAME, self.db, self.claims.sub)
    }
}

/// Any signed-in caller, and their tenant's database.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The tenant's database.
    pub db: TenantDb,
    /// What the token says.
    pub claims: Arc<AccessClaims>,
    /// What the tenant's database says.
    pub access: Arc<Access>,
}

impl SignedIn {
    /// The caller.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.claims.sub
    }
}

/// A signed-in caller who is the person themselves: nobody acts in their name.
#[derive(Debug, Clone)]
pub struct InPerson(pub SignedIn);

/// A person who has proved who they are a moment ago: nothing less changes how they prove it.
#[derive(Debug, Clone)]
pub struct Recent(pub SignedIn);

/// How old the proof may be.
pub const RECENT: TimeDelta = TimeDelta::minutes(10);

async fn authenticate(request: HttpRequest, permission: Option<(&'static str, bool)>) -> ApiResult<Authenticated> {
    let who = extractor::authenticate(&request).await?;
    let tenant = who.db.tenant();
    request.extensions_mut().insert(Caller { tenant: tenant.id, slug: tenant.slug.to_string(), user: who.claims.sub });
    if let Some((name, before_password_change)) = permission {
        permit(&who.access, name, before_password_change)?;
    }
    Ok(who)
}

fn permit(access: &Access, name: &str, before_password_change: bool) -> ApiResult<()> {
    if !access.allows(name) {
        return Err(ApiError::permission_denied(name));
    }
    if access.password_change_required && !before_password_change {
        return Err(ApiError::new(Code::PasswordChangeRequired));
    }
    Ok(())
}

impl<P: Permission> FromRequest for Authorized<P> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let request = request.clone();
        async move {
            let who = authenticate(request, Some((P::NAME, P::BEFORE_PASSWORD_CHANGE))).await?;
            let router = who.db.router().clone();
            let db = router.at_schema(who.db, P::SCHEMA).await?;
            gate.open();
            Ok(Self { db, claims: who.claims, access: who.access, permission: PhantomData })
        }
        .boxed_local()
    }
}

impl FromRequest for SignedIn {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let request = request.clone();
        async move {
            let who = authenticate(request, None).await?;
            gate.open();
            Ok(Self { db: who.db, claims: who.claims, access: who.access })
        }
        .boxed_local()
    }
}

impl FromRequest for InPerson {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = SignedIn::from_request(request, payload);
        async move {
            let caller = caller.await?;
            if caller.claims.act.is_some() {
                let said = "Only the person themselves may do this, nobody in their name.";
                return Err(ApiError::new(Code::PermissionDenied).detail(said));
            }
            Ok(Self(caller))
        }
        .boxed_local()
    }
}

impl FromRequest for Recent {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = InPerson::from_request(request, payload);
        async move {
            let InPerson(caller) = caller.await?;
            let now = caller.db.router().config().clock.now();
            if caller.claims.auth_time < (now - RECENT).timestamp() {
                return Err(ApiError::new(Code::StepUpRequired));
            }
            Ok(Self(caller))
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_over_others_wait_for_the_own_password() {
        let permissions = ["contacts:read", "users:write"].map(str::to_owned).into();
        let access = Access { permissions, password_change_required: true, ..Access::default() };
        assert!(permit(&access, "contacts:read", true).is_ok());
        assert_eq!(permit(&access, "users:write", false).unwrap_err().code(), Code::PasswordChangeRequired);
        assert_eq!(permit(&access, "roles:write", false).unwrap_err().code(), Code::PermissionDenied);
    }
}
