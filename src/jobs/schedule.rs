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

/// How often operations are looked for that were left to a worker.
const WORK: Duration = Duration::from_secs(1);

/// How often the stock of ready tenants is looked at.
const STOCK: Duration = Duration::from_secs(1);

/// How often clusters are looked for whose servers nobody has looked at for a while.
const LOOK: Duration = Duration::from_secs(60);

/// How often what strangers left behind is swept.
const SWEEP: Duration = Duration::from_secs(60);

/// The jobs of a node.
#[must_use]
pub fn schedule(fleet: &Fleet) -> Housekeeping {
    let db = fleet.control.db.clone();
    let (worker, keeper, sweeper) = (fleet.clone(), fleet.clone(), fleet.clone());
    let (watcher, fleet) = (fleet.clone(), fleet.clone());
    Housekeeping::new()
        .every("operations", WORK, move || {
            let fleet = worker.clone();
            async move { fleet.work().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
        .every("ready-tenants", STOCK, move || {
            let fleet = keeper.clone();
            async move { fleet.keep_stock().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
        .every("clusters", LOOK, move || {
            let fleet = watcher.clone();
            async move { fleet.look_at_clusters().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
        .every("sign-ups", SWEEP, move || {
            let fleet = sweeper.clone();
            async move { fleet.sweep_sign_ups().await.map_err(|error| -> JobError { error.into() }) }
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
            async move { fleet.purge_due().await.map(drop).map_err(|error| -> JobError { error.into() }) }
        })
}
