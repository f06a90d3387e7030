//! `tenant erase`: a tenant's database, role, former databases, backups and keys destroyed, and a signed certificate of
//! what was erased and when.
//!
//! The key of its backups goes first: whoever has a copy of the storage has nothing from then on.

mod certificate;
mod run;

use serde::{Deserialize, Serialize};

pub use certificate::{Certificate, SignedCertificate};
pub use run::Step;

use super::lock::Lock;
use super::operation::Journal;
use super::provision::remove::{Data, Undo};
use super::rotate::in_the_way;
use super::{Fleet, OperationOptions, Progress, Silent, StepTime, refused};
use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperatorId, Slug, TenantId};
use crate::router::{MainConn, TenantStatus};

/// A tenant that is gone for good.
#[derive(Debug)]
pub struct Erased {
    /// What was erased, signed.
    pub certificate: SignedCertificate,
    /// What was done.
    pub steps: Vec<StepTime>,
}

/// What the journal knows of the tenant, whose entry goes on the way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Facts {
    created_at: Option<chrono::DateTime<chrono::Utc>>,
    cluster: Option<String>,
    database: Option<String>,
    role: Option<String>,
}

impl Fleet {
    /// Erases a tenant, or what is left of one that was deleted; goes on with an erasure that was interrupted. Of a
    /// tenant that was erased already the certificate is given again.
    ///
    /// # Errors
    /// 404 if there is no trace of it; 409 while another process works on it; 503 if its cluster or the storage does not
    /// answer: its backups are unreadable even so, and the same call goes on.
    pub async fn erase(&self, name: &str, options: &OperationOptions, progress: &dyn Progress) -> ApiResult<Erased> {
        let id = self.whom_to_erase(name).await?;
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::find(conn, id).await).await?;
        let begun = self.erasures(&id.to_string()).await?.into_iter().next();
        let operation = match begun {
            Some(done) if done.state == OperationState::Done => return given_again(done),
            Some(begun) => {
                if tenant.is_some() {
                    self.clear_move(id).await?;
                }
                let (id, left) = (begun.id, options.left);
                self.control.db.read(async move |conn: &mut MainConn| operations::resume(conn, id, left).await).await?
            }
            None if options.left.is_some() => return Err(operations::has_ended()),
            None if tenant.is_some() => {
                self.clear_move(id).await?;
                self.begin_erasure(self.new_erasure(id, name, tenant.as_ref()).await?).await?
            }
            None => self.begin_erasure(self.new_erasure(id, name, tenant.as_ref()).await?).await?,
        };
        self.end_of(&operation, tenant.as_ref()).await?;
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let begun = journal.has_begun(Step::Databases.as_str());
        // Where that is done, whatever is there now is none of the tenant's.
        let undo = match &tenant {
            Some(tenant) if !journal.is_done(Step::Databases.as_str()) => {
                Some(Undo::prepare(self, tenant, (Data::Goes, begun), progress).await?)
            }
            _ => None,
        };
        let mut run = run::Run::new(self, id, undo, &journal.operation)?;
        let steps = journal.drive(&mut run, Step::ALL).await?;
        let certificate = run.certificate.ok_or_else(|| ApiError::internal("an erasure without its certificate"))?;
        tracing::info!(tenant = %id, "erased");
        Ok(Erased { certificate, steps })
    }

    /// Drives an erasure that was left to a worker.
    pub(super) async fn carry_out_erase(&self, operation: &Operation) -> ApiResult<()> {
        let (id, _) = operation.tenant.as_ref().ok_or_else(|| ApiError::internal("an erasure without its tenant"))?;
        self.erase(&id.to_string(), &OperationOptions::of_worker(operation), &Silent).await.map(drop)
    }

    /// The tenant, or former one, that a name stands for.
    ///
    /// # Errors
    /// 404 if there is no trace of it; 409 if an erasure of another of this name is unfinished.
    async fn whom_to_erase(&self, name: &str) -> ApiResult<TenantId> {
        let begun = self.erasures(name).await?;
        let id = match (begun.first().and_then(whose), self.tenant_or_former(name).await) {
            // One of this name that lives comes before one that was erased.
            (_, Ok(id)) => id,
            (Some(id), Err(error)) if error.code() == Code::NotFound => id,
            (_, Err(error)) => return Err(error),
        };
        let unfinished = begun.iter().filter(|operation| operation.state != OperationState::Done);
        // Whoever goes on with that one must not meet the next tenant of its name.
        match unfinished.filter_map(whose).find(|other| *other != id) {
            Some(other) => Err(refused(format!(
                "An erasure of another tenant of this name is unfinished. Go on with it by its id: `tenantry tenant erase \
                 {other}`. To erase the one that has the name now, say `tenantry tenant erase {id}`."
            ))),
            None => Ok(id),
        }
    }

    /// The erasures of a tenant by id or slug that were begun, the latest first: not those that were cancelled before
    /// their first step.
    async fn erasures(&self, name: &str) -> ApiResult<Vec<Operation>> {
        let filter = OperationFilter { kind: Some(OperationKind::Erase), ..OperationFilter::default() };
        let name = name.to_owned();
        let begun = async move |conn: &mut MainConn| {
            let mut begun = Vec::new();
            for one in operations::list(conn, &filter).await? {
                let tenant = one.tenant.as_ref();
                let named = tenant.is_some_and(|(id, slug)| slug.as_str() == name || id.to_string() == name);
                if named && one.state != OperationState::Undone && operations::has_begun(conn, &one).await? {
                    begun.push(one);
                }
            }
            Ok::<_, ApiError>(begun)
        };
        self.control.db.read(begun).await
    }

    /// Leaves an erasure to a worker.
    ///
    /// # Errors
    /// 404 if there is no trace of the tenant; 409 while another job works on it.
    pub async fn erase_later(&self, name: &str, by: Option<OperatorId>) -> ApiResult<Operation> {
        let id = self.whom_to_erase(name).await?;
        // What it has found and destroyed already is in its journal: another one would certify less.
        if let Some(begun) = self.erasures(&id.to_string()).await?.into_iter().next()
            && matches!(begun.state, OperationState::Failed | OperationState::Cancelled)
        {
            return self.requeue_erasure(id, begun).await;
        }
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::find(conn, id).await).await?;
        let new = self.new_erasure(id, name, tenant.as_ref()).await?;
        self.enqueue(NewOperation { requested_by: by, ..new }).await
    }

    async fn requeue_erasure(&self, id: TenantId, failed: Operation) -> ApiResult<Operation> {
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                match operations::find_open(conn, id).await?.filter(|open| !open.state.is_final()) {
                    Some(open) => Err(in_the_way(&open)),
                    None => operations::requeue(conn, failed.id).await,
                }
            })
            .await
    }

    async fn new_erasure(&self, id: TenantId, name: &str, tenant: Option<&TenantRecord>) -> ApiResult<NewOperation> {
        let slug = match tenant {
            Some(tenant) => tenant.slug.clone(),
            None => self.slug_of_former(id, name).await?,
        };
        Ok(NewOperation::on(id, &slug, OperationKind::Erase, serde_json::json!(facts(tenant))))
    }

    async fn begin_erasure(&self, new: NewOperation) -> ApiResult<Operation> {
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                // Whatever was begun with it gives way: nothing of it will be left. That it was to be deleted is known
                // still: an erasure can be taken back before its first step, what a deletion has dropped cannot.
                if let Some((id, _)) = &new.tenant
                    && let Some(open) = operations::find_open(conn, *id).await?
                {
                    let state = match open.kind {
                        OperationKind::Delete if open.state.is_final() => open.state,
                        OperationKind::Delete => OperationState::Failed,
                        _ => OperationState::Undone,
                    };
                    operations::finish(conn, open.id, state, open.error.as_deref()).await?;
                }
                operations::begin(conn, &new).await
            })
            .await
    }

    async fn slug_of_former(&self, id: TenantId, name: &str) -> ApiResult<Slug> {
        let backups = self.backups(&id.to_string()).await?;
        let known = backups.into_iter().next().map(|backup| backup.slug);
        known.or_else(|| name.parse().ok()).ok_or_else(|| ApiError::not_found("tenant"))
    }

    /// Unroutable from here on.
    async fn end_of(&self, operation: &Operation, tenant: Option<&TenantRecord>) -> ApiResult<()> {
        let Some(tenant) = tenant else { return Ok(()) };
        if operation.tenant.as_ref().is_none_or(|(id, _)| *id != tenant.id) {
            return Err(refused("The job is of another tenant."));
        }
        if matches!(tenant.status, TenantStatus::Active | TenantStatus::Suspended) {
            let (id, now) = (tenant.id, self.control.clock.now());
            self.control.db.read(async move |conn: &mut MainConn| tenants::archive(conn, id, None, now).await).await?;
        }
        Ok(())
    }
}

fn whose(operation: &Operation) -> Option<TenantId> {
    operation.tenant.as_ref().map(|(id, _)| *id)
}

fn facts(tenant: Option<&TenantRecord>) -> Facts {
    tenant.map_or_else(Facts::default, |tenant| Facts {
        created_at: Some(tenant.created_at),
        cluster: tenant.cluster.clone(),
        database: Some(tenant.database_name.clone()),
        role: Some(tenant.role_name.clone()),
    })
}

fn given_again(done: Operation) -> ApiResult<Erased> {
    let result = done.result.ok_or_else(|| ApiError::internal("an erasure without its certificate"))?;
    let certificate = serde_json::from_value(result).map_err(ApiError::internal)?;
    Ok(Erased { certificate, steps: Vec::new() })
}
