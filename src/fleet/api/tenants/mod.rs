//! Tenants, for operators.

pub mod archive;
pub mod change;
pub mod create;

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Refusals, tenant_of};
use crate::control::operators::{Operator, Tend};
use crate::control::tenants::{TenantFilter, TenantRecord};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::view::TenantView;
use crate::rest::{Envelope, ListEnvelope, Listed, NoQuery, Paging, Path, Query, Tagged, Versioned, check_search};
use crate::router::pools::{PoolCounts, PoolSnapshot};
use crate::router::{Router, TenantStatus};

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

    /// That its pool is another one is no change of it. Never empty: answers that are remembered name the version alone, and
    /// the pool may have changed since.
    fn beside(&self) -> String {
        let Some(PoolSnapshot { counts, breaker }) = &self.pool else { return "0".into() };
        let PoolCounts { idle, busy, opening, draining, waiting, ceiling } = counts;
        format!("{idle}i{busy}b{opening}o{draining}d{waiting}w{ceiling}c{}", breaker.unwrap_or_default())
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
    #[param(max_length = 200)]
    pub q: Option<String>,
    /// Number of a page, from 1; instead of a cursor.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
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
    let ListTenants { status, q, page, page_size, cursor, include_total } = query.0;
    check_search("q", q.as_deref())?;
    let paging = Paging::new(page, page_size, cursor, include_total)?;
    let filter = format!("{} {}", status.map_or("", TenantStatus::as_str), q.as_deref().unwrap_or_default());
    let pages = paging.bound((None, &router.installation().mac), "admin/tenants", "slug", filter);
    let (after, before) = pages.between::<String>()?;
    let filter = TenantFilter {
        status,
        q,
        only: operator.reach().only(),
        limit: Some(pages.limit()),
        offset: pages.offset(),
        after,
        before,
    };
    let total = if pages.include_total() { Some(fleet.count(filter.clone()).await?) } else { None };
    let page = pages.listed(fleet.list(filter).await?, |tenant| tenant.slug.to_string(), total);
    Ok(page.map(|tenant| OperatedTenant::new(tenant, &router)))
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
