//! Backups that nobody makes any more.

use crate::control::backups::{self, Backup, BackupState};
use crate::control::operations::{self, OperationState};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::operation::retention::{ABANDONED, tell};
use crate::fleet::{Fleet, refused};
use crate::router::MainConn;

/// How many a look takes in: the rest is for the next one.
const LOOK: i64 = 32;

impl Fleet {
    pub(in crate::fleet) async fn sweep_backups(&self) -> ApiResult<()> {
        let before = self.control.clock.now() - ABANDONED;
        let found = self.control.db.read(async move |conn: &mut MainConn| backups::abandoned(conn, before, LOOK).await);
        let found = found.await?;
        if found.is_empty() {
            return Ok(());
        }
        let driven = lock::held(&self.control).await?;
        for backup in found.iter().filter(|backup| !driven.contains(&lock::tenant_key(backup.tenant_id))) {
            tell("a backup that nobody makes any more", self.give_up(backup).await);
        }
        Ok(())
    }

    /// Whoever asks for it again begins a new one.
    async fn give_up(&self, backup: &Backup) -> ApiResult<()> {
        let _lock = Lock::tenant(&self.control, backup.tenant_id).await?;
        let (id, job) = (backup.id, backup.id.uuid().into());
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                if backups::get(conn, id).await?.state != BackupState::Running {
                    return Err(refused("The backup is made."));
                }
                match operations::get(conn, job).await {
                    Ok(job) if job.state == OperationState::Done => Ok(()),
                    Ok(job) => {
                        let said = job.error.as_deref().unwrap_or("Nobody went on with it.");
                        operations::finish(conn, job.id, OperationState::Undone, Some(said)).await
                    }
                    // Swept long ago.
                    Err(error) if error.code() == crate::error::Code::NotFound => Ok(()),
                    Err(error) => Err::<(), ApiError>(error),
                }
            })
            .await?;
        self.remove_backup(backup).await
    }
}
