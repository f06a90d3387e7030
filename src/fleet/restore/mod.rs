//! `tenant restore`: a backup in the place of what its tenant has now, or beside it as a new tenant.
//!
//! A backup is read and authenticated from beginning to end before anything is made of it. What is loaded is compared
//! with what was dumped before anybody is sent there.

pub(super) mod beside;
mod in_place;

use serde::{Deserialize, Serialize};

pub use beside::Step as BesideStep;
pub use in_place::Step as InPlaceStep;

use super::{Fleet, OperationOptions, Progress, Silent, StepTime, refused};
use crate::control::backups::Backup;
use crate::control::operations::{NewOperation, Operation, OperationKind};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{BackupId, OperatorId, Slug, TenantId};

/// What to restore.
#[derive(Debug, Clone)]
pub struct RestoreTenant {
    /// The backup.
    pub backup: BackupId,
    /// As a new tenant of this name; without it, in the place of what the tenant has now.
    pub beside: Option<Slug>,
}

/// A tenant with the data of a backup.
#[derive(Debug)]
pub struct Restored {
    /// The tenant.
    pub tenant: TenantRecord,
    /// The backup.
    pub backup: BackupId,
    /// What was done.
    pub steps: Vec<StepTime>,
}

/// Where a backup goes.
enum Place {
    /// In the place of what its tenant has now.
    InPlace(Box<TenantRecord>),
    /// As a new tenant of this name.
    Beside(Slug),
}

/// The journal's input.
#[derive(Serialize, Deserialize)]
struct Input {
    backup: BackupId,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    beside: Option<Slug>,
}

impl Fleet {
    /// Drives a restore that was left to a worker.
    pub(super) async fn carry_out_restore(&self, operation: &Operation) -> ApiResult<()> {
        let input: Input = serde_json::from_value(operation.input.clone()).map_err(ApiError::internal)?;
        let backup = self.whole_backup(input.backup).await?;
        let options = OperationOptions::of_worker(operation);
        match (input.beside, &operation.tenant) {
            (Some(slug), _) => self.restore_beside(&backup, &slug, &options, &Silent).await.map(drop),
            (None, Some((tenant, _))) => self.restore_in_place(*tenant, &backup, &options, &Silent).await.map(drop),
            (None, None) => Err(ApiError::internal("a restore without its tenant")),
        }
    }

    /// Restores a backup of the tenant called `name`, or goes on with a restore that was interrupted. Of a tenant that
    /// is gone a new one of its name is made.
    ///
    /// # Errors
    /// 404 if there is no such tenant or backup; 409 if the backup is another tenant's, is unfinished, or a bit of it
    /// was changed, and while another job works on the tenant; `already_exists` for a taken slug.
    pub async fn restore_backup(
        &self,
        name: &str,
        wanted: &RestoreTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Restored> {
        let (backup, place) = self.where_to(name, wanted).await?;
        match place {
            Place::InPlace(tenant) => self.restore_in_place(tenant.id, &backup, options, progress).await,
            Place::Beside(slug) => self.restore_beside(&backup, &slug, options, progress).await,
        }
    }

    /// Leaves a restore to a worker.
    ///
    /// # Errors
    /// As [`Fleet::restore_backup`]; whether a bit of the backup was changed, the worker finds out.
    pub async fn restore_backup_later(
        &self,
        name: &str,
        wanted: &RestoreTenant,
        by: Option<OperatorId>,
    ) -> ApiResult<Operation> {
        self.storage()?;
        let (backup, place) = self.where_to(name, wanted).await?;
        match place {
            Place::InPlace(tenant) => {
                let new = in_place::new_restore(&tenant, &backup)?;
                self.enqueue(NewOperation { requested_by: by, ..new }).await
            }
            Place::Beside(slug) => {
                let id = TenantId::generate();
                let input = serde_json::json!(Input { backup: backup.id, beside: Some(slug.clone()) });
                let new = NewOperation::on(id, &slug, OperationKind::Restore, input);
                let new = NewOperation { background: true, requested_by: by, ..new };
                self.begin_newcomer(id, new).await.map(|(_, operation)| operation)
            }
        }
    }

    /// The backup, and what becomes of it.
    async fn where_to(&self, name: &str, wanted: &RestoreTenant) -> ApiResult<(Backup, Place)> {
        let backup = self.whole_backup(wanted.backup).await?;
        let tenant = match self.get(name).await {
            Ok(tenant) => Some(tenant),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let same_name = name == backup.slug.as_str() || name == backup.tenant_id.to_string();
        let owner = tenant.as_ref().filter(|tenant| tenant.id == backup.tenant_id);
        let place = match (owner, &wanted.beside) {
            (Some(_), Some(slug)) => Place::Beside(slug.clone()),
            (Some(tenant), None) => Place::InPlace(Box::new(tenant.clone())),
            (None, Some(slug)) if same_name => Place::Beside(slug.clone()),
            // The one that was of this name is gone, or its making by an earlier run was interrupted.
            (None, None) if same_name && self.is_free_or_being_restored(&backup, tenant.as_ref()).await? => {
                Place::Beside(backup.slug.clone())
            }
            (None, None) if same_name => {
                return Err(refused(
                    "The backup is of a former tenant of this name. Restore it beside as a new one, with --as.",
                ));
            }
            (None, _) if tenant.is_none() => return Err(ApiError::not_found("tenant")),
            (None, _) => return Err(refused("The backup is another tenant's. See `tenantry tenant backups`.")),
        };
        Ok((backup, place))
    }
}
