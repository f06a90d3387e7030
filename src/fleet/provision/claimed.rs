//! The short way to a tenant: a ready one was taken from the stock, in the transaction that made its registry entry.
//! What is left is its first administrator, one look at the database, and the transaction that makes it routable.

use std::time::Instant;

use super::admin::AdminToBe;
use super::again::Asked;
use super::create::Reserved;
use super::trail::Trail;
use super::welcome::{Expected, Welcome};
use super::{CreateTenant, Provisioned, verify};
use crate::control::operations::{self, Operation, OperationKind};
use crate::control::ready::ReadyTenant;
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, Silent, admin};
use crate::router::{MainConn, Target};

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

/// Whether a worker will drive it.
fn is_left(open: &Operation) -> bool {
    open.background && !open.state.is_final()
}

impl Fleet {
    /// Takes in a tenant that nobody waits for. Of the stock it is routable at once, else a worker makes it.
    pub(super) async fn begin_later(&self, wanted: &CreateTenant) -> ApiResult<TenantRecord> {
        self.begin_later_for(wanted, Asked::default()).await
    }

    /// The same, for a request.
    pub(super) async fn begin_later_for(&self, wanted: &CreateTenant, asked: Asked) -> ApiResult<TenantRecord> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let begun = Instant::now();
        let reserved = self.reserve(wanted, asked, None, true, &migrations.head()).await?;
        let Reserved { tenant, operation, _lock, ready } = reserved;
        let Some(ready) = ready else { return Ok(tenant) };
        let trail = Trail::new(begun, None, &Silent);
        match self.open_claimed((&tenant, &operation), ready, (None, None), trail).await {
            Ok(made) => Ok(made.tenant),
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, %error, cause = ?error.cause(),
                    "a ready tenant was not what it should be; a worker goes through its making");
                Ok(tenant)
            }
        }
    }

    /// Leaves a making that was begun before to a worker, unless one has it already, or somebody is at it now.
    pub(super) async fn leave_to_worker(&self, begun: TenantRecord) -> ApiResult<TenantRecord> {
        let (id, db) = (begun.id, &self.control.db);
        let open = db.read(async move |conn: &mut MainConn| operations::find_open(conn, id).await).await?;
        if open.is_some_and(|open| is_left(&open)) {
            return Ok(begun);
        }
        let lock = match Lock::tenant(&self.control, id).await {
            Ok(lock) => lock,
            Err(error) if lock::is_busy(&error) => return Ok(begun),
            Err(error) => return Err(error),
        };
        let left = async move |conn: &mut MainConn| {
            let tenant = tenants::get(conn, id).await?;
            // Whoever held the lock until now may have finished it.
            let open = operations::find_open(conn, id).await?;
            if let Some(open) = open.filter(|open| open.kind == OperationKind::Create && !is_left(open)) {
                operations::requeue(conn, open.id).await?;
            }
            Ok::<_, ApiError>(tenant)
        };
        let left = db.transaction(left).await;
        // A worker finds it free.
        lock.release().await;
        left
    }

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
                let mut own = admin::open(&ready.address).await?;
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
