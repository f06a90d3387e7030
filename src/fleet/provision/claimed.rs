//! The short way to a tenant: a ready one was taken from the stock, in the transaction that made its registry entry.
//! What is left is its first administrator, one look at the database, and the transaction that makes it routable.

use super::admin::AdminToBe;
use super::trail::Trail;
use super::welcome::{Expected, Welcome};
use super::{Provisioned, verify};
use crate::control::operations::Operation;
use crate::control::ready::ReadyTenant;
use crate::control::tenants::TenantRecord;
use crate::error::ApiResult;
use crate::fleet::{Fleet, admin};
use crate::router::Target;

/// The registry entry, made of a ready tenant.
const CLAIM: &str = "claim";
/// Its stamp, seen as its own role; and its first administrator, where one was asked for.
const FIRST_ADMIN: &str = "first_admin";

/// How a tenant is made of a ready one.
pub const CLAIMED: &[&str] = &[CLAIM, FIRST_ADMIN, "activate"];

/// A ready tenant that was taken.
pub(super) struct Ready {
    pub(super) made: ReadyTenant,
    /// Its database, as its own role.
    pub(super) address: Target,
    /// The same as requests will see it, where somebody is welcomed.
    pub(super) expected: Option<Expected>,
}

impl Fleet {
    /// Makes a tenant of a ready one routable; the caller holds its lock.
    pub(super) async fn open_claimed(
        &self,
        (tenant, operation): (&TenantRecord, &Operation),
        ready: Ready,
        people: (Option<AdminToBe>, Option<&Welcome>),
        mut trail: Trail<'_>,
    ) -> ApiResult<Provisioned> {
        trail.done(0, CLAIM);
        let (mut generated, mut first_session) = (None, None);
        // It was looked at from all sides when it was made. That it is still there, and whose it is, is seen again.
        match (people, ready.expected) {
            ((Some(admin), Some(welcome)), Some(expected)) => {
                first_session = Some(welcome.sign_in(&expected.ready().await?, admin).await?);
            }
            ((admin, _), _) => {
                let mut own = admin::open_own(&ready.address).await?;
                verify::stamp((tenant.id, self.installation().await?.id), &mut own).await?;
                if let Some(admin) = admin {
                    generated = admin.make(&mut own).await?;
                }
            }
        }
        trail.done(1, FIRST_ADMIN);
        let made = self.activate(operation, tenant.id, ready.made.head(), trail).await?;
        tracing::info!(tenant = %tenant.id, slug = %tenant.slug, "provisioned from the stock");
        Ok(Provisioned { admin_password: generated, first_session, ..made })
    }
}
