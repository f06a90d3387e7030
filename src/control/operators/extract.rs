//! The proof of who is asking, as a handler's argument.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::audit::{self, Entry};
use super::rules::{Power, Rule};
use super::{OperatorRole, Operators};
use crate::error::{ApiError, Code};
use crate::kernel::{OperatorId, SessionId, TenantId};
use crate::rest::{ClientIp, Gate, RequestId, nameable};
use crate::router::extractor::bearer;

/// The operator who is asking, with the power that the endpoint needs: can only be had from a token that was verified,
/// whose session stands and whose role has that power. An endpoint that names no power is for administrators. What
/// changes something is in the audit before the handler runs, and so is what carries data away ([`Fetch`](super::Fetch)).
#[derive(Debug)]
#[non_exhaustive]
pub struct Operator<P: Power = Rule> {
    /// Identity.
    pub id: OperatorId,
    /// Address.
    pub email: String,
    /// The session.
    pub session: SessionId,
    /// What they may do.
    pub role: OperatorRole,
    reach: Reach,
    power: PhantomData<P>,
}

/// Which tenants an operator knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// All.
    All,
    /// These; any other is not there.
    Only(Arc<BTreeSet<TenantId>>),
}

impl Reach {
    /// Whether a tenant is within it.
    #[must_use]
    pub fn has(&self, tenant: TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Only(tenants) => tenants.contains(&tenant),
        }
    }

    /// The tenants, unless it is all of them.
    #[must_use]
    pub fn only(&self) -> Option<Vec<TenantId>> {
        match self {
            Self::All => None,
            Self::Only(tenants) => Some(tenants.iter().copied().collect()),
        }
    }
}

/// Who a token is of, whatever they may do.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: OperatorId,
    pub(super) email: String,
    pub(super) session: SessionId,
    pub(super) role: OperatorRole,
    pub(super) reach: Reach,
    /// The installation demands a second factor, and they have none.
    pub(super) lacks_factor: bool,
}

impl<P: Power> Operator<P> {
    /// Which tenants they know of.
    #[must_use]
    pub const fn reach(&self) -> &Reach {
        &self.reach
    }

    fn new(known: Known) -> Result<Self, ApiError> {
        if !P::ROLES.contains(&known.role) {
            let said = format!("This takes an operator who is {}.", words(P::ROLES));
            return Err(ApiError::new(Code::PermissionDenied).detail(said));
        }
        if known.lacks_factor && !P::WITHOUT_FACTOR {
            let said = "A second factor is demanded of operators: enrol one with POST /api/v1/admin/auth/mfa/totp.";
            return Err(ApiError::new(Code::PermissionDenied).detail(said));
        }
        let Known { id, email, session, role, reach, .. } = known;
        Ok(Self { id, email, session, role, reach, power: PhantomData })
    }
}

fn words(roles: &[OperatorRole]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ")
}

impl<P: Power> FromRequest for Operator<P> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let operators = request.app_data::<web::Data<Operators>>().cloned();
        let token = bearer(request).map(str::to_owned).map_err(ApiError::from);
        let request = request.clone();
        async move {
            let operators =
                operators.ok_or_else(|| ApiError::internal("the application was built without operators"))?;
            let known = operators.verify(&token?).await?;
            nameable(&request)?;
            let entry = (P::AUDITED || !request.method().is_safe()).then(|| entry(&request, &known));
            if let Some(entry) = entry {
                let begun = audit::begin(operators.control(), entry).await?;
                request.extensions_mut().insert(begun);
            }
            let operator = Self::new(known)?;
            gate.open();
            Ok(operator)
        }
        .boxed_local()
    }
}

fn entry(request: &HttpRequest, known: &Known) -> Entry {
    let route = request.match_pattern().unwrap_or_default();
    let target = request.match_info().iter().map(|(_, value)| value.to_owned()).collect::<Vec<_>>().join(" ");
    Entry {
        operator: Some(known.id),
        actor: known.email.clone(),
        action: format!("{} {route}", request.method()),
        target: (!target.is_empty()).then_some(target),
        address: ClientIp::of(request).0.map(|ip| ip.to_string()),
        request_id: Some(RequestId::of(request)),
    }
}
