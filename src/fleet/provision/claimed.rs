//! The short way to a tenant: a ready one was taken from the stock, in the transaction that made its registry entry.
//! What is left is its first administrator, one look at the database, and the transaction that makes it routable.
//!
//! Nothing of this is journaled before it is all done. A crash leaves a tenant that is being made, as on the long way,
//! and the same command goes that way over what is there.

use std::time::Instant;

use diesel_async::AsyncConnection as _;

use super::steps::AdminRow;
use super::{Provisioned, verify};
use crate::control::operations::{self, Operation, OperationState};
use crate::control::ready::ReadyTenant;
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::{Fleet, Halt, OperationOptions, Progress, StepTime, admin};
use crate::router::{AdminConn, MainConn, Target};

/// The registry entry, made of a ready tenant.
const CLAIM: &str = "claim";
/// Its stamp, seen as its own role; and its first administrator, where one was asked for.
const FIRST_ADMIN: &str = "first_admin";
/// Routable.
const ACTIVATE: &str = "activate";

/// How a tenant is made of a ready one.
pub const CLAIMED: &[&str] = &[CLAIM, FIRST_ADMIN, ACTIVATE];

/// A ready tenant that was taken.
pub(super) struct Ready {
    pub(super) made: ReadyTenant,
    /// Its database, as its own role.
    pub(super) address: Target,
}

/// What the transaction that took it has left.
pub(super) struct Claimed<'a> {
    pub(super) tenant: &'a TenantRecord,
    pub(super) operation: &'a Operation,
    pub(super) ready: &'a Ready,
    /// When the taking began.
    pub(super) begun: Instant,
}

/// The steps so far, as they are shown and journaled.
struct Steps<'a> {
    done: Vec<StepTime>,
    since: Instant,
    halt: Option<&'a Halt>,
    progress: &'a dyn Progress,
}

impl Steps<'_> {
    fn done(&mut self, name: &'static str) {
        let ms = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.since = Instant::now();
        let step = StepTime { name: name.to_owned(), ms };
        self.progress.done(&step);
        self.done.push(step);
        if self.halt.is_some_and(|halt| halt.after == name) {
            std::process::abort();
        }
    }
}

impl Fleet {
    /// Makes a tenant of a ready one routable; the caller holds its lock.
    pub(super) async fn open_claimed(
        &self,
        claimed: &Claimed<'_>,
        admin: Option<AdminRow>,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        let Claimed { tenant, operation, ready, begun } = *claimed;
        let mut steps = Steps { done: Vec::new(), since: begun, halt: options.halt.as_ref(), progress };
        steps.done(CLAIM);

        let installation = self.installation().await?;
        let mut own = admin::open(&ready.address).await?;
        // It was looked at from all sides when it was made. That it is still there, and whose it is, is seen again.
        verify::stamp((tenant.id, installation.id), &mut own).await?;
        let (row, admin_password) = admin.unzip();
        if let Some(row) = &row {
            own.transaction(async |conn: &mut AdminConn| crate::tenant::seed_admin(conn, row).await)
                .await
                .map_err(ApiError::internal)?;
        }
        steps.done(FIRST_ADMIN);

        let (id, job, head) = (tenant.id, operation.id, ready.made.head());
        let journal: Vec<_> = steps.done.iter().map(|step| (step.name.clone(), step.ms)).collect();
        let tenant = self
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let journal: Vec<_> = journal.iter().map(|(name, ms)| (&**name, *ms)).chain([(ACTIVATE, 0)]).collect();
                operations::steps_done(conn, job, &journal).await?;
                operations::finish(conn, job, OperationState::Done, None).await?;
                tenants::activate(conn, id, &head).await
            })
            .await?;
        steps.done(ACTIVATE);
        tracing::info!(tenant = %tenant.id, slug = %tenant.slug, "provisioned from the stock");
        Ok(Provisioned { tenant, steps: steps.done, admin_password: admin_password.flatten() })
    }
}
