//! What every installation needs done every so often. Each job may run on several nodes at once without harm.

use std::time::Duration;

use super::{Housekeeping, JobError};
use crate::control::registry_log;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::mail::PostOffice;
use crate::fleet::workspaces::Workspaces;
use crate::router::MainConn;

/// How often operations are looked for that were left to a worker.
const WORK: Duration = Duration::from_secs(1);
/// How often tenants are looked for that have mail.
const MAIL: Duration = Duration::from_secs(1);
/// How often tenants are looked for whose addresses have changed, and searches for workspaces that wait.
const WORKSPACES: Duration = Duration::from_secs(1);
/// How often the stock of ready tenants is looked at.
const STOCK: Duration = Duration::from_secs(1);
/// How often clusters are looked for whose servers nobody has looked at for a while.
const LOOK: Duration = Duration::from_secs(60);
/// How often holds are looked for that have run out: whoever should have lifted them is gone.
const HOLDS: Duration = Duration::from_secs(2);
/// How often tenants are looked for whose backup is due, and what the storage keeps for whom its time is over.
const BACKUPS: Duration = Duration::from_secs(60);
/// How often what strangers left behind is swept, and moves that nobody goes on with.
const SWEEP: Duration = Duration::from_secs(60);
/// How often the log of registry changes is shortened, and what ended long ago forgotten.
const TRIM: Duration = Duration::from_secs(10 * 60);
/// How often databases are looked for whose grace period has ended.
const PURGE: Duration = Duration::from_secs(10 * 60);

/// The jobs of a node.
#[must_use]
pub fn schedule(fleet: &Fleet) -> Housekeeping {
    Housekeeping::new()
        .every("operations", WORK, on(fleet, |fleet: Fleet| async move { fleet.work().await.map(drop) }))
        .every("ready-tenants", STOCK, on(fleet, |fleet: Fleet| async move { fleet.keep_stock().await.map(drop) }))
        .every("clusters", LOOK, on(fleet, |fleet: Fleet| async move { fleet.look_at_clusters().await.map(drop) }))
        .every("holds", HOLDS, on(fleet, |fleet: Fleet| async move { fleet.end_expired_holds().await.map(drop) }))
        .every("backups", BACKUPS, on(fleet, |fleet: Fleet| async move { fleet.schedule_backups().await.map(drop) }))
        .every("old-backups", BACKUPS, on(fleet, |fleet: Fleet| async move { fleet.prune_backups().await.map(drop) }))
        .every("old-exports", BACKUPS, on(fleet, |fleet: Fleet| async move { fleet.prune_exports().await.map(drop) }))
        .every("sign-ups", SWEEP, on(fleet, |fleet: Fleet| async move { fleet.sweep_sign_ups().await }))
        .every("workspaces-kept", SWEEP, on(fleet, |fleet: Fleet| async move { fleet.sweep_workspaces().await }))
        .every(
            "abandoned-moves",
            SWEEP,
            on(fleet, |fleet: Fleet| async move { fleet.take_back_abandoned_moves().await.map(drop) }),
        )
        .every("left-behind", SWEEP, on(fleet, |fleet: Fleet| async move { fleet.sweep_left_behind().await }))
        .every(
            "operations-kept",
            TRIM,
            on(fleet, |fleet: Fleet| async move { fleet.sweep_operations().await.map(drop) }),
        )
        .every("registry-log", TRIM, on(fleet, |fleet: Fleet| async move { trim(&fleet).await }))
        .every("kept-databases", PURGE, on(fleet, |fleet: Fleet| async move { fleet.purge_kept().await.map(drop) }))
        .every("archived-tenants", PURGE, on(fleet, |fleet: Fleet| async move { fleet.purge_due().await.map(drop) }))
}

/// The jobs of a node that serves, whether or not it has the others.
#[must_use]
pub fn serving(jobs: Housekeeping, post: PostOffice, workspaces: Workspaces) -> Housekeeping {
    let searching = workspaces.clone();
    jobs.every("mail", MAIL, with(post, |post| async move { post.deliver().await.map(drop) }))
        .every("addresses", WORKSPACES, with(workspaces, |workspaces| async move { workspaces.carry().await }))
        .every("workspaces", WORKSPACES, with(searching, |workspaces| async move { workspaces.search().await }))
}

async fn trim(fleet: &Fleet) -> ApiResult<()> {
    fleet.control.db.read(async |conn: &mut MainConn| registry_log::trim(conn).await).await
}

/// A job on the fleet.
fn on<W, Fut>(fleet: &Fleet, work: W) -> impl Fn() -> BoxedJob + Send + Sync + 'static
where
    W: Fn(Fleet) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ApiResult<()>> + Send + 'static,
{
    with(fleet.clone(), work)
}

/// A job on something that is shared.
fn with<T, W, Fut>(shared: T, work: W) -> impl Fn() -> BoxedJob + Send + Sync + 'static
where
    T: Clone + Send + Sync + 'static,
    W: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ApiResult<()>> + Send + 'static,
{
    move || {
        let done = work(shared.clone());
        Box::pin(async move { done.await.map_err(|error: ApiError| -> JobError { error.into() }) })
    }
}

type BoxedJob = futures_util::future::BoxFuture<'static, Result<(), JobError>>;
