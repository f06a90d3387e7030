//! Backups that are made by themselves, and taken away by themselves.

use chrono::TimeDelta;
use serde_json::json;

use super::BackupTenant;
use super::vault::{away, folder_of};
use crate::control::backups::{self, Backup};
use crate::control::operations::{self, NewOperation, OperationKind};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::Fleet;
use crate::router::MainConn;

/// How many a look takes in: the rest is for the next one.
const LOOK: i64 = 32;
/// Backups that nobody asked for which wait for a worker at the same time.
const WAITING: i64 = 64;

impl Fleet {
    /// Queues a backup of each active tenant that has had none for as long as `backup.every` and is free for one, the
    /// longest without first, as far as not too many wait for a worker already; and gives how many.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn schedule_backups(&self) -> ApiResult<usize> {
        let Some(every) = self.settings.backup_every else { return Ok(0) };
        self.storage()?;
        let since = self.control.clock.now() - TimeDelta::from_std(every).map_err(ApiError::internal)?;
        let due = self.control.db.read(async move |conn: &mut MainConn| {
            let mut due = Vec::new();
            let room = WAITING - operations::scheduled_backups(conn).await?;
            for id in backups::due(conn, since, room.clamp(0, LOOK)).await? {
                due.extend(tenants::find(conn, id).await?);
            }
            Ok::<_, ApiError>(due)
        });
        let mut queued = 0;
        for tenant in due.await? {
            let input = json!(BackupTenant { scheduled: true });
            match self.enqueue(NewOperation::on(tenant.id, &tenant.slug, OperationKind::Backup, input)).await {
                Ok(_) => queued += 1,
                // Something has come in the way since the list was read: the next look comes.
                Err(error) if error.code() == Code::Conflict => {
                    let in_the_way = error.client_detail();
                    tracing::warn!(tenant = %tenant.id, in_the_way, "a scheduled backup was not queued");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(queued)
    }

    /// Takes away the scheduled backups whose time is over, each tenant's newest aside, and gives how many. One that cannot
    /// be removed now is left for the next look.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn prune_backups(&self) -> ApiResult<usize> {
        if self.settings.storage.is_none() || !self.tells_time().await? {
            return Ok(0);
        }
        let keep = TimeDelta::from_std(self.settings.backup_keep).map_err(ApiError::internal)?;
        let before = self.control.clock.now() - keep;
        let old = self.control.db.read(async move |conn: &mut MainConn| backups::outdated(conn, before, LOOK).await);
        let mut gone = 0;
        for backup in old.await? {
            match self.remove_backup(&backup).await {
                Ok(()) => gone += 1,
                Err(error) => {
                    tracing::warn!(backup = %backup.id, %error, cause = ?error.cause(), "a backup could not be removed");
                }
            }
        }
        Ok(gone)
    }

    /// Takes a backup away: first from those that can be restored, then from the storage, then its entry.
    pub(in crate::fleet) async fn remove_backup(&self, backup: &Backup) -> ApiResult<()> {
        let id = backup.id;
        self.control.db.read(async move |conn: &mut MainConn| backups::removing(conn, id).await).await?;
        self.storage()?.remove_all(&folder_of(backup.tenant_id, id)).await.map_err(away)?;
        self.control.db.read(async move |conn: &mut MainConn| backups::remove(conn, id).await).await
    }
}
