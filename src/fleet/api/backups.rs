//! Backups, restore, clone and erasure of tenants, for operators: each is a job.

use actix_web::{HttpResponse, get, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::jobs::{JobView, accepted};
use super::tenants::OperatedTenant;
use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::backups::Backup;
use crate::control::operators::Operator;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::clone::{CloneTenant, MaskChoice};
use crate::fleet::restore::RestoreTenant;
use crate::kernel::{BackupId, Slug};
use crate::rest::{
    Answer, Envelope, Idempotency, Json, ListEnvelope, Listed, NoBody, NoQuery, OptionalJson, Paging, Path, Query,
};
use crate::router::Router;

/// Which backups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListBackups {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// What to restore.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreBody {
    /// The backup; without it, an archived tenant is given back to its users. `backup` is the same.
    #[serde(alias = "backup")]
    #[garde(skip)]
    pub backup_id: Option<BackupId>,
    /// As a new tenant of this name; without it, in the place of what the tenant has now. Needs `backupId`.
    #[serde(rename = "as")]
    #[garde(skip)]
    pub beside: Option<Slug>,
}

/// A clone to be.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloneBody {
    /// Public name of the new tenant.
    #[garde(skip)]
    pub slug: Slug,
    /// What takes personal data out of it: `default` for the rules of the built-in schema, or rules of one's own: table by
    /// table, `remove` for all its rows, or what becomes of which column.
    #[garde(skip)]
    pub mask: Option<MaskChoice>,
    /// People keep their passwords and invitations.
    #[serde(default)]
    #[garde(skip)]
    pub keep_credentials: bool,
    /// Not taken here, 422 `needs_wait`: a worker makes the clone, and an administrator's password is kept nowhere for it.
    /// `tenantry tenant clone --admin-email` waits for its own.
    #[garde(skip)]
    pub admin_email: Option<String>,
    /// As `adminEmail`.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub admin_password: Option<SecretString>,
}

const NEEDS_WAIT: &str = "An administrator's password is kept nowhere for the worker that makes the clone. Leave it out, \
    and keep the original's people (`keepCredentials`), or use `tenantry tenant clone --admin-email`, which waits.";

/// Backs a tenant up to the storage. Its result has the `backupId`.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminBackUpTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 202, description = "The job", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/backups")]
pub async fn back_up_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(accepted(fleet.backup_later(&tenant, Some(operator.id)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// A tenant's backups, the latest first; also of one that was deleted.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListBackups",
    params(("id" = String, Path, description = "Id or slug"), ListBackups),
    responses((status = 200, description = "A page", body = ListEnvelope<Backup>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}/backups")]
pub async fn list_backups(
    _: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    query: Query<ListBackups>,
) -> ApiResult<Listed<Backup>> {
    let tenant = fleet.tenant_or_former(&id.0).await?;
    let ListBackups { page_size, cursor, include_total } = query.0;
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let filter = tenant.to_string();
    let pages = paging.bound((None, &router.installation().mac), "admin/backups", "-createdAt", filter);
    let (after, before) = pages.between::<BackupId>()?;
    let rows = fleet.backups_page(tenant, pages.limit(), after, before).await?;
    let total = if pages.include_total() { Some(fleet.backups_count(tenant).await?) } else { None };
    Ok(pages.listed(rows, |backup| backup.id, total))
}

/// Gives an archived tenant back to its users; with a backup, restores that in place or as a new tenant.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRestoreTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body = RestoreBody,
    responses(
        (status = 200, description = "Active", body = Envelope<OperatedTenant>),
        (status = 202, description = "The job that restores the backup", body = Envelope<JobView>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/restore")]
pub async fn restore_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    body: OptionalJson<RestoreBody>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let RestoreBody { backup_id, beside } = body.0.unwrap_or_default();
    let Some(backup) = backup_id else {
        if beside.is_some() {
            let said = "A new tenant is made of a backup: name it.";
            return Err(ApiError::invalid_field("backupId", "required", said));
        }
        let effect = async move |fleet: Fleet| -> ApiResult<_> {
            let tenant = tenant_of(&operator, &fleet, &id.0).await?;
            Ok(Answer::tagged(OperatedTenant::new(fleet.restore(tenant.id).await?, &router)))
        };
        return fleet.once(who, idempotency, effect).await;
    };
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let wanted = RestoreTenant { backup, beside };
        Ok(accepted(fleet.restore_backup_later(&id.0, &wanted, Some(who)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// Makes a new tenant with what a live one holds. A rule that names a table or a column which the original has not is 422.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminCloneTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body(
        content = CloneBody,
        example = json!({"slug": "acme-staging", "mask": {"contacts": {"notes": "null", "emails": "values"}, "sessions": "remove"}})
    ),
    responses((status = 202, description = "The job", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/clone")]
pub async fn clone_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    idempotency: Idempotency,
    body: Json<CloneBody>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let CloneBody { slug, mask, keep_credentials, admin_email, admin_password } = body.0;
    if admin_email.is_some() || admin_password.is_some() {
        return Err(ApiError::invalid_field("adminEmail", "needs_wait", NEEDS_WAIT).detail(NEEDS_WAIT));
    }
    let wanted = CloneTenant { slug, mask: mask.map(Into::into), keep_credentials, admin: None };
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let source = tenant_of(&operator, &fleet, &id.0).await?;
        Ok(accepted(fleet.clone_later(&source, &wanted, Some(operator.id)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// Destroys a tenant's data, backups and keys for ever. Its result is the signed certificate.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminEraseTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 202, description = "The job", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/erase")]
pub async fn erase_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.erase_later(&id.0, Some(who)).await?)) };
    fleet.once(who, idempotency, effect).await
}
