//! `tenant backup`: one tenant's data into the storage, sealed with a key of its own.
//!
//! The dump, and the counts and checksums that a restore is measured by, are of one snapshot. What the storage holds is
//! a sealed dump and a sealed manifest; both open with the tenant's key alone, and not if a bit of them was changed.

mod abandoned;
mod begin;
pub(super) mod contents;
pub(super) mod dump;
mod manifest;
pub(super) mod policies;
mod retention;
mod run;
pub(super) mod vault;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use contents::TableContents;
pub(super) use manifest::Manifest;
pub use run::Step;
pub(super) use run::Taking;
pub(super) use vault::Vault;

use crate::control::backups::{self, Backup};
use crate::control::operations::{NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, Silent, StepTime, refused};
use crate::kernel::{BackupId, OperatorId, Slug, TenantId};
use crate::router::{MainConn, TenantStatus};
use crate::storage::Storage;

/// What a backup is asked for.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct BackupTenant {
    /// Taken away by itself when its time is over.
    pub scheduled: bool,
}

/// A backup that was just made, and can be restored.
#[derive(Debug, Serialize)]
pub struct BackedUp {
    /// The backup.
    #[serde(flatten)]
    pub backup: Backup,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
}

impl Fleet {
    /// Backs a tenant up, or goes on with a backup of it that was interrupted.
    ///
    /// # Errors
    /// 404 if there is none; 409 while it is being made, while another job works on it, or without a storage; 503 if its
    /// database or the storage does not answer.
    pub async fn backup(
        &self,
        id: TenantId,
        wanted: BackupTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<BackedUp> {
        let storage = self.storage()?.clone();
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        let operation = self.begin_or_resume(new_backup(&tenant, wanted)?, options.left).await?;
        let mut run = run::Run::new(self, storage, tenant, wanted, &operation).await?;
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let steps = journal.drive(&mut run, Step::ALL).await?;
        let id = run.id();
        let backup = self.control.db.read(async move |conn: &mut MainConn| backups::get(conn, id).await).await?;
        tracing::info!(tenant = %backup.tenant_id, backup = %backup.id, bytes = backup.bytes, "backed up");
        Ok(BackedUp { backup, steps })
    }

    /// Leaves a backup to a worker.
    ///
    /// # Errors
    /// 409 while the tenant is being made, while another job works on it, or without a storage.
    pub async fn backup_later(&self, tenant: &TenantRecord, by: Option<OperatorId>) -> ApiResult<Operation> {
        self.storage()?;
        let new = new_backup(tenant, BackupTenant::default())?;
        self.enqueue(NewOperation { requested_by: by, ..new }).await
    }

    /// Drives a backup that was left to a worker.
    pub(super) async fn carry_out_backup(&self, operation: &Operation) -> ApiResult<()> {
        let (tenant, _) = operation.tenant.as_ref().ok_or_else(|| ApiError::internal("a backup without its tenant"))?;
        let wanted = serde_json::from_value(operation.input.clone()).map_err(ApiError::internal)?;
        self.backup(*tenant, wanted, &OperationOptions::of_worker(operation), &Silent).await.map(drop)
    }

    /// A tenant's backups, the latest first; also of one that was deleted, by the slug that it had.
    ///
    /// # Errors
    /// 404 if there is neither such a tenant nor a backup of one.
    pub async fn backups(&self, name: &str) -> ApiResult<Vec<Backup>> {
        let id = self.tenant_or_former(name).await?;
        self.control.db.read(async move |conn: &mut MainConn| backups::list(conn, id).await).await
    }

    /// A page of them: at most `limit`, older than `after` or newer than `before`.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn backups_page(
        &self,
        tenant: TenantId,
        limit: i64,
        after: Option<BackupId>,
        before: Option<BackupId>,
    ) -> ApiResult<Vec<Backup>> {
        let db = &self.control.db;
        db.read(async move |conn: &mut MainConn| backups::page(conn, tenant, limit, after, before).await).await
    }

    /// How many backups of a tenant there are.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn backups_count(&self, tenant: TenantId) -> ApiResult<i64> {
        self.control.db.read(async move |conn: &mut MainConn| backups::count(conn, tenant).await).await
    }

    /// The id of a tenant by id or slug; also of one that was deleted and has backups.
    ///
    /// # Errors
    /// 404 if there is no trace of one.
    pub async fn tenant_or_former(&self, name: &str) -> ApiResult<TenantId> {
        let missing = match self.get(name).await {
            Ok(tenant) => return Ok(tenant.id),
            Err(error) if error.code() == crate::error::Code::NotFound => error,
            Err(error) => return Err(error),
        };
        let (id, slug) = (name.parse::<TenantId>().ok(), name.parse::<Slug>().ok());
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            if let Some(id) = id {
                return Ok::<_, ApiError>((!backups::list(conn, id).await?.is_empty()).then_some(id));
            }
            match slug {
                Some(slug) => backups::last_of_slug(conn, &slug).await,
                None => Ok(None),
            }
        });
        found.await?.ok_or(missing)
    }

    /// A backup that can be restored.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it is unfinished or on its way out.
    pub(super) async fn whole_backup(&self, id: BackupId) -> ApiResult<Backup> {
        let backup = self.control.db.read(async move |conn: &mut MainConn| backups::get(conn, id).await).await?;
        match backup.state {
            backups::BackupState::Done => Ok(backup),
            _ => Err(refused("This backup was not finished. Choose another one with `tenantry tenant backups`.")),
        }
    }

    /// Where backups are kept.
    pub(super) fn storage(&self) -> ApiResult<&Storage> {
        let said = "There is no place for backups. Set TENANTRY_STORAGE_URL to file:///directory or s3://bucket.";
        self.settings.storage.as_ref().ok_or_else(|| refused(said))
    }
}

fn new_backup(tenant: &TenantRecord, wanted: BackupTenant) -> ApiResult<NewOperation> {
    if tenant.status == TenantStatus::Provisioning {
        return Err(refused("The tenant is not made yet, so there is nothing to back up."));
    }
    Ok(NewOperation::on(tenant.id, &tenant.slug, OperationKind::Backup, json!(wanted)))
}
