//! What a customer is given of their tenant: exports in the storage, and their files.

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, get, post, web};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs::{JobView, accepted};
use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operators::{Fetch, Operator};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::export::{ExportDetail, StoredExport};
use crate::kernel::OperationId;
use crate::rest::{Envelope, Idempotency, ListEnvelope, Listed, NoBody, NoQuery, Paging, Path, Query, Reply};
use crate::router::Router;

/// Which exports.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListExports {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// Exports a tenant to the storage, for a while. Its result has the `exportId` and the files.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminExportTenant",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    responses((status = 202, description = "The job", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/exports")]
pub async fn export_tenant(
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
        Ok(accepted(fleet.export_later(&tenant, Some(operator.id)).await?))
    };
    fleet.once(who, idempotency, effect).await
}

/// A tenant's exports that can be fetched, the latest first.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListExports",
    params(("id" = String, Path, description = "Id or slug"), ListExports),
    responses((status = 200, description = "A page", body = ListEnvelope<StoredExport>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}/exports")]
pub async fn list_exports(
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    query: Query<ListExports>,
) -> ApiResult<Listed<StoredExport>> {
    let tenant = tenant_of(&operator, &fleet, &id.0).await?.id;
    let ListExports { page_size, cursor, include_total } = query.0;
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let filter = tenant.to_string();
    let pages = paging.bound((None, &router.installation().mac), "admin/exports", "-createdAt", filter);
    let (after, before) = pages.between::<OperationId>()?;
    let rows = fleet.exports_page(tenant, pages.limit(), after, before).await?;
    let total = if pages.include_total() { Some(fleet.exports_count(tenant).await?) } else { None };
    Ok(pages.listed(rows, |export| export.export_id, total))
}

/// An export with what it holds, table by table; until it expires.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetExport",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("exportId" = OperationId, Path, description = "The export: the `id` of its job"),
    ),
    responses((status = 200, description = "What it holds", body = Envelope<ExportDetail>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}/exports/{exportId}")]
pub async fn get_export(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    path: Path<(String, OperationId)>,
) -> ApiResult<Reply<ExportDetail>> {
    let (id, export) = path.0;
    let tenant = tenant_of(&operator, &fleet, &id).await?;
    Ok(Reply(fleet.export_detail(tenant.id, export).await?))
}

/// A file of an export, which stands in the audit. Where what is kept was damaged the answer breaks off, before the length that
/// it told.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminFetchExportFile",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("exportId" = OperationId, Path, description = "The export: the `id` of its job"),
        ("name" = String, Path, description = "Its `name` among the export's files, percent-encoded"),
    ),
    responses(
        (
            status = 200,
            description = "The rows of a table, in the form that the name ends with",
            content((String = "application/x-ndjson"), (String = "text/csv"))
        ),
        Refusals,
    ),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}/exports/{exportId}/files/{name}")]
pub async fn fetch_export_file(
    _: NoQuery,
    operator: Operator<Fetch>,
    fleet: web::Data<Fleet>,
    path: Path<(String, OperationId, String)>,
) -> ApiResult<HttpResponse> {
    let (id, export, name) = path.0;
    let tenant = tenant_of(&operator, &fleet, &id).await?;
    let (file, pieces) = fleet.export_file(tenant.id, export, &name).await?;
    let kind = if file.name.ends_with(".csv") { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    // Letters, digits and `._-~%` alone, whatever the table is called.
    let attached = format!("attachment; filename=\"{}\"", file.name);
    let body = SizedStream::new(file.bytes, pieces.map_ok(Bytes::from));
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, kind)).insert_header((CONTENT_DISPOSITION, attached));
    Ok(answer.body(body))
}
