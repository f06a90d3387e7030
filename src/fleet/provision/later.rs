//! A tenant that nobody waits for: its making is left to a worker.

use std::time::Instant;

use super::again::Asked;
use super::create::{Reserved, unfinished};
use super::same::Wish;
use super::trail::Trail;
use super::{CreateTenant, Provisioned};
use crate::control::operations::{self, Operation, OperationFilter, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, OperationOptions, Silent, check_name, refused};
use crate::router::MainConn;
use uuid::Uuid;

const ADMIN_IS_LOST: &str = "Its making was begun with a first administrator, whose password is kept nowhere: go on with \
    it, and wait (without `--no-wait` or `noWait`).";

const NEEDS_WAIT: &str = "The first administrator's password is kept nowhere for a worker to set, and the stock of its \
    cluster has no tenant ready; wait (without `--no-wait` or `noWait`), or leave the administrator out.";

const STOCK_IS_NARROW: &str = "The first administrator's password is kept nowhere for a worker to set, and no tenant of \
    the stock is made for so many connections; wait (without `--no-wait` or `noWait`), or ask for the usual ceiling, which \
    can be raised afterwards.";

/// The refusal of a tenant with an administrator that nobody would wait for.
pub(super) fn needs_wait() -> ApiError {
    ApiError::invalid_field("noWait", "needs_wait", NEEDS_WAIT).detail(NEEDS_WAIT)
}

/// That of one with a ceiling of connections which the stock is not made for, however many are in it.
pub(super) fn stock_is_narrow() -> ApiError {
    ApiError::invalid_field("noWait", "needs_wait", STOCK_IS_NARROW).detail(STOCK_IS_NARROW)
}

/// Whether a worker will drive it.
fn is_left(open: &Operation) -> bool {
    open.background && !open.state.is_final()
}

impl Fleet {
    /// Takes a tenant in and leaves its making to a worker ([`Fleet::work`]), also one that was interrupted, failed or was
    /// cancelled; one of the stock serves at once. It cannot have a first administrator, whose password is kept nowhere: see
    /// [`Fleet::create_from_stock`].
    ///
    /// # Errors
    /// As [`Fleet::create`]; 422 for a first administrator, 409 where one, or something else, was asked for when it was begun.
    pub async fn create_later(&self, wanted: &CreateTenant) -> ApiResult<TenantRecord> {
        self.create_later_for(wanted, Asked::default()).await
    }

    /// Makes a tenant of the stock, with its first administrator: what is left to do is done at once. One that was begun
    /// before is gone on with, as by [`Fleet::create`].
    ///
    /// # Errors
    /// As [`Fleet::create`]; 422 where the stock of its cluster has none, or none for its ceiling of connections. Nothing is
    /// begun then.
    pub async fn create_from_stock(&self, wanted: &CreateTenant) -> ApiResult<Provisioned> {
        let asked = Asked { from_stock: true, ..Asked::default() };
        self.create_for(wanted, asked, None, &OperationOptions::default(), &Silent).await
    }

    /// As [`Fleet::create_later`], for a request.
    async fn create_later_for(&self, wanted: &CreateTenant, asked: Asked) -> ApiResult<TenantRecord> {
        check_name(wanted.name.as_deref())?;
        if wanted.admin.is_some() {
            return Err(needs_wait());
        }
        if let Some(begun) = unfinished(&self.control, &wanted.slug, OperationKind::Create, None).await? {
            let (keys, wish, record) = (self.control.keys.clone(), Wish::from(wanted), begun.clone());
            let check = async move |conn: &mut MainConn| wish.check_settings(conn, &keys, &record).await;
            self.control.db.read(check).await?;
            return self.hand_to_worker(begun, asked.request).await;
        }
        Box::pin(self.begin_later(wanted, asked)).await
    }

    /// As [`Fleet::create_later`], for the request of this id, if it has one: the job that makes the tenant. One that the
    /// request has begun before is given again, whatever became of it.
    ///
    /// # Errors
    /// As [`Fleet::create_later`].
    pub(in crate::fleet) async fn create_later_once(
        &self,
        wanted: &CreateTenant,
        request: Option<Uuid>,
    ) -> ApiResult<Operation> {
        let db = &self.control.db;
        if let Some(request) = request {
            let begun =
                db.read(async move |conn: &mut MainConn| operations::find_requested(conn, request).await).await?;
            if let Some(begun) = begun {
                return Ok(begun);
            }
        }
        let tenant = self.create_later_for(wanted, Asked { request, ..Asked::default() }).await?;
        let its = OperationFilter {
            kind: Some(OperationKind::Create),
            tenant: Some(tenant.id),
            limit: Some(1),
            ..OperationFilter::default()
        };
        let found = db.read(async move |conn: &mut MainConn| operations::list(conn, &its).await).await?;
        found.into_iter().next().ok_or_else(|| ApiError::not_found("job"))
    }

    /// Takes in a tenant that nobody waits for. Of the stock it is routable at once, else a worker makes it.
    async fn begin_later(&self, wanted: &CreateTenant, asked: Asked) -> ApiResult<TenantRecord> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let begun = Instant::now();
        let reserved = self.reserve(wanted, asked, None, true, &migrations.head()).await?;
        let Reserved { tenant, operation, _lock, ready, .. } = reserved;
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
    ///
    /// # Errors
    /// 409 if it was to have a first administrator.
    async fn hand_to_worker(&self, begun: TenantRecord, request: Option<Uuid>) -> ApiResult<TenantRecord> {
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
                if open.input["firstAdmin"] == true {
                    return Err(refused(ADMIN_IS_LOST));
                }
                operations::requeue(conn, open.id).await?;
                if let Some(request) = request {
                    operations::note_request(conn, open.id, request).await?;
                }
            }
            Ok::<_, ApiError>(tenant)
        };
        let left = db.transaction(left).await;
        // A worker finds it free.
        lock.release().await;
        left
    }
}
