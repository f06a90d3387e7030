//! A tenant that is asked for under an `Idempotency-Key`: made once, though its maker died before it could say so.

use uuid::Uuid;

use super::create::unfinished;
use super::{CreateTenant, Provisioned};
use crate::control::operations::{self, Operation, OperationFilter, OperationKind, Step};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{Fleet, OperationOptions, Silent, StepTime, check_name, refused};
use crate::router::{MainConn, TenantStatus};

/// Who asks for a tenant, to be known again.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::fleet) struct Asked {
    /// A sign-up.
    pub(in crate::fleet) sign_up: Option<Uuid>,
    /// A request with an `Idempotency-Key`.
    pub(in crate::fleet) request: Option<Uuid>,
    /// Its slug was free a moment ago: nothing of it was begun before.
    pub(in crate::fleet) anew: bool,
    /// It is the proof's own, and goes with it.
    pub(in crate::fleet) canary: bool,
}

impl Fleet {
    /// As [`Fleet::create`], for the request of this id, if it has one. What that has made before is given again, without
    /// its administrator's password.
    ///
    /// # Errors
    /// As [`Fleet::create`].
    pub(in crate::fleet) async fn create_once(
        &self,
        wanted: &CreateTenant,
        request: Option<Uuid>,
    ) -> ApiResult<Provisioned> {
        if let Some(request) = request
            && let Some(made) = self.made_for(request).await?
        {
            return Ok(made);
        }
        let asked = Asked { request, ..Asked::default() };
        self.create_for(wanted, asked, None, &OperationOptions::default(), &Silent).await
    }

    /// As [`Fleet::create_later`], for the request of this id, if it has one: the job that makes the tenant. One that the
    /// request has begun before is given again, whatever became of it; another one that failed is left to a worker anew.
    ///
    /// # Errors
    /// As [`Fleet::create_later`]; 409 for one that failed and was to have a first administrator.
    pub(in crate::fleet) async fn create_later_once(
        &self,
        wanted: &CreateTenant,
        request: Option<Uuid>,
    ) -> ApiResult<Operation> {
        let db = &self.control.db;
        if let Some(request) = request {
            let begun =
                db.read(async move |conn: &mut MainConn| operations::find_requested(conn, request).await).await?;
            if let Some(begun) = begun {
                return Ok(begun);
            }
        }
        check_name(wanted.name.as_deref())?;
        let kind = OperationKind::Create;
        let (tenant, is_new) = match unfinished(&self.control, &wanted.slug, kind, None).await? {
            Some(begun) => (begun, false),
            None => (Box::pin(self.begin_later_for(wanted, Asked { request, ..Asked::default() })).await?, true),
        };
        let its =
            OperationFilter { kind: Some(kind), tenant: Some(tenant.id), limit: Some(1), ..OperationFilter::default() };
        let found = db.read(async move |conn: &mut MainConn| operations::list(conn, &its).await).await?;
        let job = found.into_iter().next().ok_or_else(|| ApiError::not_found("job"))?;
        // What failed or was cancelled, no worker looks at any more.
        if is_new || !job.state.is_final() {
            return Ok(job);
        }
        if job.input["firstAdmin"] == true {
            return Err(refused(
                "Its making was begun with a first administrator, whose password is kept nowhere. Go on with it without \
                 `noWait`.",
            ));
        }
        db.read(async move |conn: &mut MainConn| operations::requeue(conn, job.id).await).await
    }

    async fn made_for(&self, request: Uuid) -> ApiResult<Option<Provisioned>> {
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let Some(made) = operations::find_requested(conn, request).await? else { return Ok(None) };
            let Some((id, _)) = made.tenant else { return Ok(None) };
            let Some(tenant) = tenants::find(conn, id).await? else { return Ok(None) };
            Ok::<_, ApiError>(Some((tenant, operations::steps(conn, made.id).await?)))
        });
        // One that is still being made is gone on with.
        let made = found.await?.filter(|(tenant, _)| tenant.status != TenantStatus::Provisioning);
        Ok(made.map(|(tenant, steps)| {
            let steps = steps.into_iter().filter(Step::is_done);
            let steps = steps.map(|step| StepTime { ms: step.ms.unwrap_or_default(), name: step.name }).collect();
            Provisioned { tenant, steps, admin_password: None, first_session: None }
        }))
    }
}
