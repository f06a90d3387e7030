//! A tenant that is asked for under an `Idempotency-Key`: made once, though its maker died before it could say so.

use uuid::Uuid;

use super::{CreateTenant, Provisioned};
use crate::control::operations::{self, Step};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{Fleet, OperationOptions, Silent, StepTime};
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
    /// Nobody waits for more than what is left to do where the stock has one.
    pub(in crate::fleet) from_stock: bool,
}

impl Fleet {
    /// As [`Fleet::create`], or [`Fleet::create_from_stock`], for the request of this id, if it has one. What that has made
    /// before is given again, without its administrator's password.
    ///
    /// # Errors
    /// As either.
    pub(in crate::fleet) async fn create_once(
        &self,
        wanted: &CreateTenant,
        request: Option<Uuid>,
        from_stock: bool,
    ) -> ApiResult<Provisioned> {
        if let Some(request) = request
            && let Some(made) = self.made_for(request).await?
        {
            return Ok(made);
        }
        let asked = Asked { request, from_stock, ..Asked::default() };
        self.create_for(wanted, asked, None, &OperationOptions::default(), &Silent).await
    }

    /// What a request has made before, unless it is still being made: that is gone on with.
    pub(super) async fn made_for(&self, request: Uuid) -> ApiResult<Option<Provisioned>> {
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let Some(made) = operations::find_requested(conn, request).await? else { return Ok(None) };
            let Some((id, _)) = made.tenant else { return Ok(None) };
            let Some(tenant) = tenants::find(conn, id).await? else { return Ok(None) };
            Ok::<_, ApiError>(Some((tenant, operations::steps(conn, made.id).await?)))
        });
        let made = found.await?.filter(|(tenant, _)| tenant.status != TenantStatus::Provisioning);
        Ok(made.map(|(tenant, steps)| {
            let steps = steps.into_iter().filter(Step::is_done);
            let steps = steps.map(|step| StepTime { ms: step.ms.unwrap_or_default(), name: step.name }).collect();
            Provisioned { tenant, steps, admin_password: None, first_session: None }
        }))
    }
}
