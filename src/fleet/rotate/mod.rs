//! Another password for a tenant's role, or for all of them: journaled before the server hears of it, tried, swapped in the
//! registry, the old connections drained, the old password seen to be dead. No request fails meanwhile: a router that
//! meets the one or the other half of the change waits for the rest (`router/pools/doubt.rs`).

mod all;
mod steps;

use serde_json::json;

pub use all::AllRotated;

use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::control::{clusters, installation};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::Lock;
use crate::fleet::operation::Journal;
use crate::fleet::provision::{probe, verify};
use crate::fleet::{Fleet, OperationOptions, Progress, StepTime, refused};
use crate::kernel::OperatorId;
use crate::kernel::{OperationId, TenantId};
use crate::router::tenant::words;
use crate::router::{MainConn, Target, TenantKind, TenantStatus};
use steps::Run;

words! {
    /// A step's name, as it is journaled and shown.
    Step {
        /// The next password, sealed in the control plane.
        Plan = "plan",
        /// The server has it; its verifier alone travels.
        AlterRole = "alter_role",
        /// It lets us in.
        Probe = "probe",
        /// The registry has it; every node retires its connections.
        Swap = "swap",
        /// No connection of the old one is left.
        Drain = "drain",
        /// The old one is refused.
        OldRefused = "old_refused",
    }
}

/// How a password is rotated.
pub const ROTATE: &[Step] = &[Step::Plan, Step::AlterRole, Step::Probe, Step::Swap, Step::Drain, Step::OldRefused];

/// A tenant whose role has another password.
#[derive(Debug)]
pub struct Rotated {
    /// The tenant.
    pub tenant: TenantRecord,
    /// What was done.
    pub steps: Vec<StepTime>,
}

impl Fleet {
    /// Gives a tenant's role another password, or goes on where an interrupted rotation stopped. A worker does so by
    /// itself if this process ends in the middle.
    ///
    /// # Errors
    /// 404 if there is none; 409 while another process works on it, or if the role of a dedicated database may not change
    /// its password; 503 if a server does not answer.
    pub async fn rotate(
        &self,
        id: TenantId,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Rotated> {
        self.rotate_part(id, None, options, progress).await
    }

    /// The same, perhaps as a part of a larger operation.
    async fn rotate_part(
        &self,
        id: TenantId,
        part_of: Option<OperationId>,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Rotated> {
        let _lock = Lock::tenant(&self.control, id).await?;
        // Its role may be fenced.
        if let Some(open) = self.pending_move(id).await? {
            return Err(in_the_way(&open));
        }
        let (tenant, operation) = self
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let tenant = tenants::get(conn, id).await?;
                may_rotate(&tenant)?;
                let input = part_of.map_or_else(|| json!({}), |whole| json!({"partOf": whole.to_string()}));
                let mut new = NewOperation::on(id, &tenant.slug, OperationKind::RotateCredentials, input);
                // Between the server and the registry a tenant must not be left to whoever comes by.
                new.background = true;
                let operation = match operations::find_open(conn, id).await? {
                    Some(open) if open.kind == new.kind => operations::reopen(conn, open.id).await?,
                    Some(open) if !open.state.is_final() => return Err(in_the_way(&open)),
                    _ => operations::begin(conn, &new).await?,
                };
                Ok::<_, ApiError>((tenant, operation))
            })
            .await?;
        self.drive_rotation(tenant, operation, options, progress).await
    }

    /// Leaves a rotation to a worker.
    ///
    /// # Errors
    /// 409 for a tenant that is still being made, or whose move is unfinished, or while another job works on it.
    pub async fn rotate_later(&self, tenant: &TenantRecord, by: Option<OperatorId>) -> ApiResult<Operation> {
        may_rotate(tenant)?;
        if let Some(open) = self.pending_move(tenant.id).await? {
            return Err(in_the_way(&open));
        }
        let new = NewOperation::on(tenant.id, &tenant.slug, OperationKind::RotateCredentials, json!({}));
        self.enqueue(NewOperation { requested_by: by, ..new }).await
    }

    /// Goes on with a rotation, of one tenant or of all, that was left to a worker.
    pub(super) async fn resume_rotation(&self, operation: &Operation) -> ApiResult<()> {
        let Some((tenant, _)) = operation.tenant else { return self.resume_all(operation).await };
        let _lock = Lock::tenant(&self.control, tenant).await?;
        let (tenant, operation) = self.still_open(tenant, operation.id).await?;
        may_rotate(&tenant)?;
        self.drive_rotation(tenant, operation, &OperationOptions::default(), &crate::fleet::Silent).await.map(drop)
    }

    async fn drive_rotation(
        &self,
        tenant: TenantRecord,
        operation: Operation,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Rotated> {
        let mut run = Run::new(self, tenant).await?;
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let steps = match journal.drive(&mut run, ROTATE).await {
            Ok(steps) => steps,
            Err(error) if operations::is_taken_over(&error) => return Err(error),
            Err(error) => {
                // Server and registry differ, or may: a worker goes on, whoever asked that it stop.
                if may_differ(&journal, &error) {
                    let (id, db) = (journal.operation.id, &self.control.db);
                    let again = db.read(async move |conn: &mut MainConn| operations::reopen(conn, id).await).await;
                    if let Err(left) = again {
                        tracing::warn!(error = %left, "a rotation stays half done");
                    }
                    let said = "The server may have the new password already: a worker goes on with the rotation.";
                    return Err(ApiError::new(Code::TenantUnavailable).detail(said).caused_by(error));
                }
                return Err(error);
            }
        };
        tracing::info!(tenant = %run.tenant.id, "the password of the tenant's role was rotated");
        Ok(Rotated { tenant: self.get(&run.tenant.id.to_string()).await?, steps })
    }

    /// Takes in another URL of a dedicated database: for a password that only its owner can change. The database behind
    /// it must be the tenant's already.
    ///
    /// # Errors
    /// 404 if there is no such tenant; 409 for one on a cluster; 422 on `databaseUrl` if the database is another, or does not
    /// let us in, with the remedy.
    pub async fn replace_url(&self, id: TenantId, pooled: &Target, direct: &Target) -> ApiResult<TenantRecord> {
        let _lock = Lock::tenant(&self.control, id).await?;
        let keys = self.control.keys.clone();
        let (tenant, ours) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                Ok::<_, ApiError>((tenants::get(conn, id).await?, installation::find(conn, &keys).await?))
            })
            .await?;
        if tenant.kind != TenantKind::Dedicated {
            return Err(refused(
                "Only a dedicated database has a URL of its own. Leave it out: the password is changed without.",
            ));
        }
        let ours = ours.ok_or_else(|| ApiError::internal("the installation is not set up"))?;
        let mut opened = [probe::connect(direct).await?, probe::connect(pooled).await?];
        for conn in &mut opened {
            // A stamp that we may not even read is not ours.
            let stamp = verify::find_stamp(conn).await.map_err(|error| is_another().caused_by(error))?;
            if !stamp.is_some_and(|stamp| stamp.names(id, ours.id)) {
                return Err(is_another());
            }
            probe::writable(conn).await?;
        }
        // A copy of the server has the stamp as well.
        let [direct_conn, pooled_conn] = &mut opened;
        probe::same(direct_conn, pooled_conn).await?;
        let (pooled, direct, keys) = (pooled.clone(), direct.clone(), self.control.keys.clone());
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                tenants::set_urls(conn, &keys, id, &pooled, &direct).await?;
                tenants::forget_passwords(conn, id).await?;
                if let Some(open) = operations::find_open(conn, id).await?
                    && open.kind == OperationKind::RotateCredentials
                {
                    operations::finish(conn, open.id, operations::OperationState::Undone, open.error.as_deref())
                        .await?;
                }
                tenants::get(conn, id).await
            })
            .await
    }

    /// A tenant's cluster and its own addresses.
    pub(super) async fn places(&self, tenant: &TenantRecord) -> ApiResult<(Option<clusters::Cluster>, Target, Target)> {
        let (id, cluster, keys) = (tenant.id, tenant.cluster_id, self.control.keys.clone());
        self.control
            .db
            .read(async move |conn: &mut MainConn| {
                let cluster = match cluster {
                    Some(cluster) => Some(clusters::get(conn, &keys, cluster).await?),
                    None => None,
                };
                let (pooled, direct) = tenants::target(conn, &keys, id).await?;
                Ok::<_, ApiError>((cluster, pooled, direct))
            })
            .await
    }
}

/// Whether the server may have a password that the registry has not: a statement whose answer was lost may have been done.
fn may_differ(journal: &Journal<'_>, error: &ApiError) -> bool {
    let altered = Step::AlterRole.as_str();
    // A refusal of the server itself says that it has not.
    let is_unknown = error.code().status() >= 500 || journal.is_cancelled();
    let may_have_it = journal.is_done(altered) || is_unknown && journal.has_begun(altered);
    may_have_it && !journal.is_done(Step::Swap.as_str())
}

/// 422: whose it is, if anybody's, stays unsaid.
fn is_another() -> ApiError {
    let said = "This database is not stamped for this tenant. Give the URL of the one that it has; an empty one is adopted as \
                another tenant's.";
    probe::refuse("another_database", said)
}

fn may_rotate(tenant: &TenantRecord) -> ApiResult<()> {
    if tenant.status == TenantStatus::Provisioning {
        return Err(refused("The tenant is still being made. Finish that first: the command that began it goes on."));
    }
    Ok(())
}

/// Another operation of the tenant comes first.
pub(super) fn in_the_way(open: &Operation) -> ApiError {
    refused(format!(
        "Another job ({}, {}) of this tenant is unfinished. Finish it first: the command that began it goes on.",
        open.kind, open.id
    ))
}
