//! Who is asking, and whether they may: the permission is the extractor's type.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use chrono::TimeDelta;
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use secrecy::SecretString;

use super::ClientIp;
use super::browser::CookiesIgnored;
use super::gate::Gate;
use super::principal::Principal;
use super::rate::RateStanding;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{TenantId, UserId};
use crate::router::{self, Access, AccessClaims, Router, TenantDb, extractor};

/// A right of a role, named in the signature of the handlers that need it.
pub trait Permission: 'static {
    /// `resource:action`.
    const NAME: &'static str;
    /// Whether it is a right over others: who comes in, and what they may do. Whoever has yet to replace a password that
    /// another person gave them cannot use it, nor can whoever acts in somebody's name: nothing stays behind of them.
    const OVER_OTHERS: bool = false;
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
    /// Who it is.
    pub principal: Principal,
    /// What they may do.
    pub access: Arc<Access>,
    permission: PhantomData<P>,
}

impl<P: Permission> Authorized<P> {
    /// The caller; of an API key, its owner.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.principal.user()
    }

    /// The caller, for what nobody and no program does in their name.
    ///
    /// # Errors
    /// 403 for an API key, an app, a foreign token, and for whoever acts as a person.
    pub fn in_person(&self) -> ApiResult<UserId> {
        match &self.principal {
            Principal::Person(claims) if claims.act.is_some() => Err(in_their_name()),
            Principal::Person(claims) => Ok(claims.sub),
            Principal::Key(_) => Err(no_key()),
            Principal::Foreign(_) | Principal::App(_) => Err(no_session()),
        }
    }

    /// The caller, for what changes how people come in: they themselves, who proved a moment ago who they are.
    ///
    /// # Errors
    /// As [`Self::in_person`]; 403 `step_up_required`.
    pub fn recently(&self) -> ApiResult<UserId> {
        let user = self.in_person()?;
        match &self.principal {
            Principal::Person(claims) if is_recent(claims, &self.db) => Ok(user),
            _ => Err(ApiError::new(Code::StepUpRequired)),
        }
    }

    /// Refuses what somebody else does to the caller's own account in the caller's name.
    ///
    /// # Errors
    /// 403 for an API key, and for whoever acts as this person.
    pub fn in_person_on(&self, id: UserId) -> ApiResult<()> {
        if id == self.user() { self.in_person().map(drop) } else { Ok(()) }
    }

    /// Whose requests with an `Idempotency-Key` these are: a program's are not its owner's.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.principal {
            Principal::Person(claims) => claims.sub.to_string(),
            Principal::Key(key) => format!("key:{}", key.id),
            Principal::Foreign(bearer) => format!("issuer:{}:{}", bearer.issuer, bearer.user),
            Principal::App(app) => format!("app:{}:{}", app.client, app.user),
        }
    }
}

fn in_their_name() -> ApiError {
    ApiError::new(Code::PermissionDenied).detail("Only the person themselves may do this, nobody in their name.")
}

fn no_key() -> ApiError {
    ApiError::new(Code::PermissionDenied).detail("Only a person may do this, not an API key.")
}

fn no_session() -> ApiError {
    ApiError::new(Code::PermissionDenied).detail("Only a person who signed in here may do this.")
}

impl<P: Permission> fmt::Debug for Authorized<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized<{}>({:?}, {})", P::NAME, self.db, self.user())
    }
}

/// Any caller, person or program, and their tenant's database.
#[derive(Debug, Clone)]
pub struct AnyCaller {
    /// The tenant's database.
    pub db: TenantDb,
    /// Who it is.
    pub principal: Principal,
    /// What they may do.
    pub access: Arc<Access>,
}

/// Any signed-in person, and their tenant's database.
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

fn is_recent(claims: &AccessClaims, db: &TenantDb) -> bool {
    let now = db.router().config().clock.now();
    claims.auth_time >= (now - RECENT).timestamp()
}

const API_KEY: &str = "x-api-key";

/// The key of `X-API-Key`, if there is one and no token beside it.
fn api_key(request: &HttpRequest) -> ApiResult<Option<SecretString>> {
    let mut values = request.headers().get_all(API_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let several = values.next().is_some() || request.headers().contains_key(AUTHORIZATION);
    match value.to_str() {
        Ok(text) if !several => Ok(Some(text.into())),
        _ => Err(ApiError::new(Code::TokenInvalid)),
    }
}

/// Whoever brings a token that is none of ours: perhaps one of an issuer that the tenant has registered.
async fn foreign(request: &HttpRequest, why: &'static str) -> ApiResult<AnyCaller> {
    let Some(router) = request.app_data::<web::Data<Router>>() else {
        return Err(router::Error::TokenInvalid(why).into());
    };
    let token = extractor::bearer(request)?;
    let (db, bearer, access) = router.authenticate_foreign(token, &extractor::hints(request, router)).await?;
    Ok(AnyCaller { db, principal: Principal::Foreign(bearer), access })
}

async fn authenticate(request: &HttpRequest) -> ApiResult<AnyCaller> {
    let caller = match api_key(request)? {
        None => match extractor::authenticate(request).await {
            Ok(who) => {
                let principal = who.app.map_or(Principal::Person(who.claims), Principal::App);
                AnyCaller { db: who.db, principal, access: who.access }
            }
            Err(router::Error::TokenInvalid(why)) => foreign(request, why).await?,
            Err(router::Error::Unauthenticated) if request.extensions().contains::<CookiesIgnored>() => {
                return Err(ApiError::new(Code::CsrfRefused));
            }
            Err(error) => return Err(error.into()),
        },
        Some(text) => {
            let router = request.app_data::<web::Data<Router>>();
            let router = router.ok_or_else(|| ApiError::internal("no Router in the application's data"))?;
            let key = OpaqueToken::parse(&router.installation().mac, TokenKind::ApiKey, &text);
            let key = key.ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
            let hints = extractor::hints(request, router);
            let note = |rate| request.extensions_mut().insert(RateStanding { name: "api-key", rate });
            let admitted = router.authenticate_key(&key, ClientIp::of(request).0, &hints).await;
            let (db, holder, access) = admitted.inspect_err(|error| {
                if let router::Error::RateLimited { rate, .. } = error {
                    note(*rate);
                }
            })?;
            if let Some(rate) = holder.rate {
                note(rate);
            }
            AnyCaller { db, principal: Principal::Key(holder), access }
        }
    };
    let tenant = caller.db.tenant();
    let who = Caller { tenant: tenant.id, slug: tenant.slug.to_string(), user: caller.principal.user() };
    request.extensions_mut().insert(who);
    Ok(caller)
}

/// `acted_for`: somebody else acts in the caller's name.
fn permit<P: Permission>(access: &Access, acted_for: bool) -> ApiResult<()> {
    if !access.allows(P::NAME) {
        return Err(ApiError::permission_denied(P::NAME));
    }
    match P::OVER_OTHERS {
        true if access.password_change_required => Err(ApiError::new(Code::PasswordChangeRequired)),
        true if acted_for => Err(in_their_name()),
        _ => Ok(()),
    }
}

impl<P: Permission> FromRequest for Authorized<P> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let request = request.clone();
        async move {
            let mut who = authenticate(&request).await?;
            let router = who.db.router().clone();
            if !who.access.allows(P::NAME) && who.db.tenant().schema_version < P::SCHEMA {
                // The right may come with the schema that has what it is a right to.
                router.at_schema(who.db, P::SCHEMA).await?;
                who = authenticate(&request).await?;
            }
            permit::<P>(&who.access, who.principal.is_acted_for())?;
            let db = router.at_schema(who.db, P::SCHEMA).await?;
            gate.open();
            Ok(Self { db, principal: who.principal, access: who.access, permission: PhantomData })
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
            let AnyCaller { db, principal, access } = authenticate(&request).await?;
            let claims = match principal {
                Principal::Person(claims) => claims,
                Principal::Key(_) => return Err(no_key()),
                Principal::Foreign(_) | Principal::App(_) => return Err(no_session()),
            };
            gate.open();
            Ok(Self { db, claims, access })
        }
        .boxed_local()
    }
}

impl FromRequest for AnyCaller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let request = request.clone();
        async move {
            let caller = authenticate(&request).await?;
            gate.open();
            Ok(caller)
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
                return Err(in_their_name());
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
            if !is_recent(&caller.claims, &caller.db) {
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
        struct OwnWork;
        impl Permission for OwnWork {
            const NAME: &'static str = "contacts:read";
        }
        struct People;
        impl Permission for People {
            const NAME: &'static str = "users:write";
            const OVER_OTHERS: bool = true;
        }
        struct Others;
        impl Permission for Others {
            const NAME: &'static str = "roles:write";
        }
        let permissions = ["contacts:read", "users:write"].map(str::to_owned).into();
        let access = Access { permissions, password_change_required: true, ..Access::default() };
        assert!(permit::<OwnWork>(&access, false).is_ok());
        assert_eq!(permit::<People>(&access, false).unwrap_err().code(), Code::PasswordChangeRequired);
        assert_eq!(permit::<Others>(&access, false).unwrap_err().code(), Code::PermissionDenied);
        let settled = Access { password_change_required: false, ..access };
        assert!(permit::<People>(&settled, false).is_ok() && permit::<OwnWork>(&settled, true).is_ok());
        assert_eq!(permit::<People>(&settled, true).unwrap_err().code(), Code::PermissionDenied);
    }
}
