//! A tenant's way out that can still be turned back.

use actix_web::{HttpResponse, post, web};

use super::OperatedTenant;
use crate::control::operators::Operator;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::api::{ChangeRefusals, Refusals, tenant_of};
use crate::fleet::{DeleteTenant, Fleet, Silent};
use crate::rest::{Answer, Envelope, Idempotency, NoBody, NoQuery, Path};
use crate::router::{Router, TenantStatus};

/// Takes a tenant from its users; its database is dropped after the grace period, until which `restore` gives it back.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminArchiveTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 200, description = "Archived", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/archive")]
pub async fn archive_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        // A deletion drops one that never served at once: nothing would be left to be given back.
        if tenant.status == TenantStatus::Provisioning {
            let said = "The tenant was never finished, so there is nothing to archive. Finish it, or delete it.";
            return Err(ApiError::new(Code::Conflict).detail(said));
        }
        let archived = fleet.delete(tenant.id, DeleteTenant::default(), &Silent).await?;
        Ok(Answer::tagged(OperatedTenant::new(archived.tenant, &router)))
    };
    fleet.once(who, idempotency, effect).await
}
