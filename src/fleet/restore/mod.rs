//! `tenant restore`: a backup in the place of what its tenant has now, or beside it as a new tenant.
//!
//! A backup is read and authenticated from beginning to end before anything is made of it. What is loaded is compared
//! with what was dumped before anybody is sent there.

pub(super) mod beside;
mod former;
mod in_place;

use serde::{Deserialize, Serialize};

pub use beside::Step as BesideStep;
pub use in_place::Step as InPlaceStep;

use super::{Fleet, OperationOptions, Progress, Silent, StepTime, refused};
use crate::control::operations::Operation;
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{BackupId, Slug};

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
        let options = OperationOptions::default();
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
        let backup = self.whole_backup(wanted.backup).await?;
        let tenant = match self.get(name).await {
            Ok(tenant) => Some(tenant),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let same_name = name == backup.slug.as_str() || name == backup.tenant_id.to_string();
        let owner = tenant.as_ref().filter(|tenant| tenant.id == backup.tenant_id);
        match (owner, &wanted.beside) {
            (Some(_), Some(slug)) => self.restore_beside(&backup, slug, options, progress).await,
            (Some(tenant), None) => self.restore_in_place(tenant.id, &backup, options, progress).await,
            (None, Some(slug)) if same_name => self.restore_beside(&backup, slug, options, progress).await,
            // The one that was of this name is gone, or its making by an earlier run was interrupted.
            (None, None) if same_name && self.is_free_or_being_restored(&backup, tenant.as_ref()).await? => {
                self.restore_beside(&backup, &backup.slug, options, progress).await
            }
            (None, None) if same_name => Err(refused(
                "The backup is of a former tenant of this name. Restore it beside as a new one, with --as.",
            )),
            (None, _) if tenant.is_none() => Err(ApiError::not_found("tenant")),
            (None, _) => Err(refused("The backup is another tenant's. See `tenantry tenant backups`.")),
        }
    }
}
