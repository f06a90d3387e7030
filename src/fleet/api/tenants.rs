//! Tenants, for operators.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ChangeRefusals, Refusals, tenant_of};
use crate::control::operators::{Operator, Tend};
use crate::control::requests::Kept;
use crate::control::tenants::{TenantChanges, TenantFilter, TenantRecord};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::once::Turn;
use crate::fleet::view::{ProvisionedView, TenantView};
use crate::fleet::{AdminPassword, CreateTenant, DeleteTenant, FirstAdmin, Fleet, OperationOptions, Silent};
use crate::kernel::Slug;
use crate::kernel::page::{CursorScope, Direction};
use crate::rest::{
    Answer, Envelope, Idempotency, IfMatch, Json, ListEnvelope, Listed, MergePatch, NoContent, NoQuery, Paging, Patch,
    Path, Query, Tagged, Versioned,
};
use crate::router::pools::PoolSnapshot;
use crate::router::{Registration, Router, TenantStatus};

/// A tenant, and its pool on the node that answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatedTenant {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// Its connections on this node; null while there are none.
    pub pool: Option<PoolSnapshot>,
}

impl OperatedTenant {
    pub(super) fn new(tenant: TenantRecord, router: &Router) -> Self {
        Self { pool: router.pools().snapshot(tenant.id), tenant: tenant.into() }
    }
}

impl Versioned for OperatedTenant {
    fn version(&self) -> i64 {
        self.tenant.version
    }
}

/// Which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTenants {
    /// Only those in this state.
    pub status: Option<TenantStatus>,
    /// Only those whose slug or name contains this.
    pub q: Option<String>,
    /// Number of a page, from 1; instead of a cursor.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
}

/// A tenant to be made on a cluster.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewTenant {
    /// Public name.
    #[garde(skip)]
    pub slug: Slug,
    /// Display name; the slug if left out.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    pub name: Option<String>,
    /// The cluster's name; the least loaded one if left out.
    #[garde(inner(length(max = 63)))]
    pub cluster: Option<String>,
    /// Region its cluster must stand in, if no cluster is named.
    #[garde(inner(length(max = 100)))]
    pub region: Option<String>,
    /// The plan's name.
    #[garde(inner(length(max = 63)))]
    pub plan: Option<String>,
    /// Who may register; nobody if left out.
    #[garde(skip)]
    pub registration: Option<Registration>,
    /// Ceiling of its connections; the router's default if left out.
    #[garde(inner(range(min = 1)))]
    pub max_connections: Option<i32>,
    /// E-mail of the first administrator.
    #[garde(inner(email))]
    pub admin_email: Option<String>,
    /// That administrator's password; made and answered once if left out.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub admin_password: Option<SecretString>,
}

impl NewTenant {
    fn read(self) -> ApiResult<CreateTenant> {
        let admin = match (self.admin_email, self.admin_password) {
            (Some(email), password) => Some(FirstAdmin {
                email,
                password: password.map_or(AdminPassword::Generate, AdminPassword::Given),
                first_name: String::new(),
                last_name: String::new(),
            }),
            (None, Some(_)) => {
                return Err(ApiError::invalid_field("adminEmail", "required", "A password needs its e-mail."));
            }
            (None, None) => None,
        };
        Ok(CreateTenant {
            slug: self.slug,
            name: self.name,
            cluster: self.cluster,
            region: self.region,
            plan: self.plan,
            registration: self.registration,
            max_connections: self.max_connections,
            admin,
        })
    }
}

/// What to change.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantPatch {
    /// Display name.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    pub name: Option<String>,
    /// Who may register.
    #[garde(skip)]
    pub registration: Option<Registration>,
    /// Ceiling of its connections; null for the router's default.
    #[serde(default)]
    #[garde(inner(range(min = 1)))]
    #[schema(value_type = Option<i32>)]
    pub max_connections: Patch<i32>,
    /// Its share where connections are scarce, against other tenants' of the cluster.
    #[garde(inner(range(min = 1, max = 100)))]
    pub weight: Option<i32>,
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Drop the database now instead of after the grace period.
    #[serde(default)]
    pub now: bool,
    /// Also drop what is in a dedicated database; needs `now`.
    #[serde(default)]
    pub drop_dedicated_data: bool,
}

/// Tenants, by slug.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListTenants",
    params(ListTenants),
    responses((status = 200, description = "A page", body = ListEnvelope<OperatedTenant>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants")]
pub async fn list_tenants(
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    query: Query<ListTenants>,
) -> ApiResult<Listed<OperatedTenant>> {
    let ListTenants { status, q, page, page_size, cursor } = query.0;
    let paging = Paging::new(page, page_size, cursor, None)?;
    let filter = format!("{} {}", status.map_or("", TenantStatus::as_str), q.as_deref().unwrap_or_default());
    let scope = CursorScope { tenant: None, list: "admin/tenants", sort: "slug", filter: &filter };
    let mac = &router.installation().mac;
    let (mut after, mut before) = (None, None);
    match paging.decode::<String>(&scope, mac)? {
        Some((Direction::Next, slug)) => after = Some(slug),
        Some((Direction::Previous, slug)) => before = Some(slug),
        None => {}
    }
    let rows = fleet
        .list(TenantFilter {
            status,
            q,
            only: operator.reach().only(),
            limit: Some(paging.limit()),
            offset: paging.offset(),
            after,
            before,
        })
        .await?;
    let page = paging.listed(rows, &scope, mac, |tenant| tenant.slug.to_string(), None);
    Ok(page.map(|tenant| OperatedTenant::new(tenant, &router)))
}

/// Makes a tenant on a cluster, and answers when it serves.
///
/// The same call resumes one that was interrupted. The work goes on if the caller goes away. A repetition under an
/// `Idempotency-Key` answers the same, but for a password that was made: that is shown once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminCreateTenant",
    request_body = NewTenant,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes it once, however often it is sent")),
    responses(
        (status = 201, description = "It serves", body = Envelope<ProvisionedView>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants")]
pub async fn create_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    idempotency: Idempotency,
    body: Json<NewTenant>,
) -> ApiResult<HttpResponse> {
    let wanted = body.0.read()?;
    let fleet = fleet.into_inner();
    let keyed = idempotency.keyed(&router.installation().mac);
    let claim = match fleet.turn(&format!("POST /api/v1/admin/tenants {}", operator.id), keyed).await? {
        Turn::Do(claim) => claim,
        Turn::Repeat(Kept { status, location, version, body }) => {
            return idempotency.respond(Answer::again(status, location, version, body)?, true);
        }
    };
    // The work goes on if the caller goes away, and its answer is kept.
    let making = actix_web::rt::spawn(async move {
        let made = fleet.create(&wanted, &OperationOptions::default(), &Silent).await;
        let answer = made.map(|made| {
            let view = ProvisionedView::from(made);
            let (location, version) = (format!("/api/v1/admin/tenants/{}", view.tenant.id), view.tenant.version);
            Answer::created(view).location(location).etag(version)
        });
        fleet.settle(claim, answer, without_password).await
    });
    idempotency.respond(making.await.map_err(ApiError::internal)??, false)
}

/// What is kept of an answer: a password is shown once.
fn without_password(answer: &Answer<ProvisionedView>) -> Option<serde_json::Value> {
    let mut kept = serde_json::to_value(answer.data()?).ok()?;
    kept.as_object_mut()?.remove("adminPassword");
    Some(kept)
}

/// A tenant, by id or slug.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetTenant",
    params(("id" = String, Path, description = "Id or slug")),
    responses(
        (status = 200, description = "The tenant, with `ETag`", body = Envelope<OperatedTenant>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/tenants/{id}")]
pub async fn get_tenant(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
) -> ApiResult<Tagged<OperatedTenant>> {
    Ok(Tagged(OperatedTenant::new(tenant_of(&operator, &fleet, &id.0).await?, &router)))
}

/// Changes a tenant.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminChangeTenant",
    params(("id" = String, Path, description = "Id or slug")),
    request_body(content = TenantPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "As it is now", body = Envelope<OperatedTenant>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[patch("/api/v1/admin/tenants/{id}")]
pub async fn change_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    if_match: IfMatch,
    body: MergePatch<TenantPatch>,
) -> ApiResult<Tagged<OperatedTenant>> {
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    let TenantPatch { name, registration, max_connections, weight } = body.0;
    let changes = TenantChanges { name, registration, max_connections: max_connections.into_change(), weight };
    let tenant = fleet.set(tenant.id, if_match.0, changes).await?;
    Ok(Tagged(OperatedTenant::new(tenant, &router)))
}

/// Archives a tenant, to be dropped after the grace period; with `now`, drops it at once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminDeleteTenant",
    params(("id" = String, Path, description = "Id or slug"), DeleteQuery),
    responses((status = 204, description = "Archived, or gone"), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/tenants/{id}")]
pub async fn delete_tenant(
    operator: Operator,
    fleet: web::Data<Fleet>,
    id: Path<String>,
    if_match: IfMatch,
    query: Query<DeleteQuery>,
) -> ApiResult<NoContent> {
    let DeleteQuery { now, drop_dedicated_data } = query.0;
    if drop_dedicated_data && !now {
        return Err(ApiError::new(Code::InvalidQuery).detail("'dropDedicatedData' needs 'now'."));
    }
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    if tenant.status == TenantStatus::Archived && !now {
        return Err(ApiError::not_found("tenant"));
    }
    if_match.check(tenant.version)?;
    let fleet = fleet.into_inner();
    let how = DeleteTenant { now, drop_dedicated_data };
    actix_web::rt::spawn(async move { fleet.delete(tenant.id, how, &Silent).await })
        .await
        .map_err(ApiError::internal)??;
    Ok(NoContent)
}

/// Refuses the tenant's users, on every node within two seconds.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminSuspendTenant",
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, description = "Suspended", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/suspend")]
pub async fn suspend_tenant(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
) -> ApiResult<Tagged<OperatedTenant>> {
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    Ok(Tagged(OperatedTenant::new(fleet.suspend(tenant.id).await?, &router)))
}

/// Serves a suspended tenant again.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminResumeTenant",
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, description = "Active", body = Envelope<OperatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/resume")]
pub async fn resume_tenant(
    _: NoQuery,
    operator: Operator<Tend>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
) -> ApiResult<Tagged<OperatedTenant>> {
    let tenant = tenant_of(&operator, &fleet, &id.0).await?;
    Ok(Tagged(OperatedTenant::new(fleet.resume(tenant.id).await?, &router)))
}
