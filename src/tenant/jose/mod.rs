//! Tokens that others signed: ID tokens of identity providers, access tokens of issuers that a tenant registered.
//!
//! A key decides which algorithms it is for; a token only says which of those it used. Keys come from the address that the
//! tenant's administrator or the issuer's own description names, and never from the token.

mod claims;
mod description;
mod documents;
mod keys;

pub(in crate::tenant) use claims::{Claims, Rules, is_true};
pub(in crate::tenant) use description::{Description, Endpoints};
pub(in crate::tenant) use documents::{Document, Documents};
pub(in crate::tenant) use keys::{Head, Key, Keys, SECRET_BYTES};

use url::Url;

use crate::kernel::{Clock, TenantId};
use crate::outbound::{Outbound, OutboundError};

/// Why a token is not taken: a word for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a foreign token was refused: {0}")]
pub(in crate::tenant) struct Fault(pub &'static str);

/// What goes wrong on the way to a key.
#[derive(Debug, thiserror::Error)]
pub(in crate::tenant) enum NoKey {
    /// The token cannot be taken.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The keys cannot be had.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
}

/// What is known of issuers, and the way to ask them.
#[derive(Debug)]
pub(in crate::tenant) struct Foreign {
    outbound: Outbound,
    keys: Documents<Keys>,
    descriptions: Documents<Description>,
}

impl Foreign {
    pub(in crate::tenant) fn new(outbound: Outbound, clock: &Clock) -> Self {
        let (keys, descriptions) =
            (Documents::new(outbound.clone(), clock.clone()), Documents::new(outbound.clone(), clock.clone()));
        Self { outbound, keys, descriptions }
    }

    /// The client that reaches them.
    pub(in crate::tenant) const fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The endpoints of an OpenID provider.
    ///
    /// # Errors
    /// If its description cannot be had, or is another's.
    pub(in crate::tenant) async fn endpoints(&self, tenant: TenantId, issuer: &str) -> Result<Endpoints, NoKey> {
        let address = Description::address(issuer).ok_or(NoKey::Fault(Fault("issuer")))?;
        let description = self.descriptions.get(tenant, &address).await?;
        Ok(description.endpoints(issuer, &self.outbound)?)
    }

    /// The key that a token names, of those at an address. Where it is none of those known, they are asked for again, though
    /// not more often than [`Documents`] allows: a rotation is followed at once, and made-up names cost the issuer nothing.
    ///
    /// # Errors
    /// If there is no such key, or they cannot be had.
    pub(in crate::tenant) async fn key(&self, tenant: TenantId, address: &Url, head: &Head) -> Result<Key, NoKey> {
        let known = self.keys.get(tenant, address).await?;
        if let Some(key) = known.find(head) {
            return Ok(key.clone());
        }
        let newer = self.keys.newer(tenant, address, &known).await?;
        newer.and_then(|newer| newer.find(head).cloned()).ok_or(NoKey::Fault(Fault("kid")))
    }
}
