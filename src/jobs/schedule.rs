//! What every installation needs done every so often. Each job may run on several nodes at once without harm.

use std::time::Duration;

use super::{Housekeeping, JobError};
use crate::control::registry_log;
use crate::error::ApiError;
use crate::fleet::Fleet;
use crate::router::MainConn;

/// How often the log of registry changes is shortened.
const TRIM: Duration = Duration::from_secs(10 * 60);

/// How often tenants are looked for whose grace period has ended.
const PURGE: Duration = Duration::from_secs(10 * 60);

/// How often tenants are looked for whose next backup is due, and backups whose time is over.
const BACKUPS: Duration = Duration::from_secs(60);

/// How often operations are looked for that were left to a worker.
const WORK: Duration = Duration::from_secs(1);

/// How often holds are looked for that have run out: whoever should have lifted them is gone.
const HOLDS: Duration = Duration::from_secs(2);

/// The jobs of a node.
#[must_use]
pub fn schedule(fleet: &Fleet) -> Housekeeping {
    let db = fleet.control.db.clone();
    let (worker, holds, backups, fleet) = (fleet.clone(), fleet.clone(), fleet.clone(), fleet.clone());
    Housekeeping::new()
        .every("operations", WORK, move || {
            let fleet = worker.clone();
            async move { fleet.work().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
        .every("backups", BACKUPS, move || {
            let fleet = backups.clone();
            async move {
                fleet.schedule_backups().await.map_err(|error| -> JobError { error.into() })?;
                fleet.prune_backups().await.map(drop).map_err(|error| -> JobError { error.into() })
            }
        })
        .every("holds", HOLDS, move || {
            let fleet = holds.clone();
            async move { fleet.end_expired_holds().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
        .every("registry-log", TRIM, move || {
            let db = db.clone();
            async move {
                let trimmed = db.read(async |conn: &mut MainConn| registry_log::trim(conn).await);
                trimmed.await.map_err(|error: ApiError| -> JobError { error.into() })
            }
        })
        .every("purge", PURGE, move || {
            let fleet = fleet.clone();
            async move {
                fleet.purge_copies().await.map_err(|error| -> JobError { error.into() })?;
                fleet.purge_due().await.map_err(|error| -> JobError { error.into() })?;
                fleet.purge_former().await.map(drop).map_err(|error| -> JobError { error.into() })
            }
        })
}
