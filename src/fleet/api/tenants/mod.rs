//! Tenants, for operators.

pub mod archive;
pub mod attach;
pub mod change;
pub mod create;

use actix_web::{get, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Refusals, tenant_of};
use crate::control::operators::{Operator, Tend};
use crate::control::tenants::{TenantFilter, TenantKey, TenantPosition, TenantRecord};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::view::TenantView;
use crate::rest::{
    Envelope, ListEnvelope, Listed, NoQuery, Paging, Path, Query, SortWord, Sorting, Tagged, Versioned, check_search,
    within_reach,
};
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

/// The order of the list; a leading `-` turns it round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TenantSort {
    /// By public name.
    #[default]
    #[serde(rename = "slug")]
    Slug,
    /// By public name, from the end.
    #[serde(rename = "-slug")]
    SlugDesc,
    /// By display name.
    #[serde(rename = "name")]
    Name,
    /// By display name, from the end.
    #[serde(rename = "-name")]
    NameDesc,
    /// Oldest first.
    #[serde(rename = "createdAt")]
    CreatedAt,
    /// Newest first.
    #[serde(rename = "-createdAt")]
    CreatedAtDesc,
}

impl SortWord for TenantSort {
    type Key = TenantKey;

    fn key(self) -> (TenantKey, bool) {
        match self {
            Self::Slug => (TenantKey::Slug, false),
            Self::SlugDesc => (TenantKey::Slug, true),
            Self::Name => (TenantKey::Name, false),
            Self::NameDesc => (TenantKey::Name, true),
            Self::CreatedAt => (TenantKey::CreatedAt, false),
            Self::CreatedAtDesc => (TenantKey::CreatedAt, true),
        }
    }
}

/// Which tenants, in which order, which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTenants {
    /// Only those in this state.
    pub status: Option<TenantStatus>,
    /// Only those whose slug or name contains this.
    #[param(max_length = 200)]
    pub q: Option<String>,
    /// Only those made after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Only those made before this moment.
    pub created_before: Option<DateTime<Utc>>,
    /// The order, by up to three keys, each once; `slug` if left out.
    #[param(value_type = Option<Vec<TenantSort>>, inline, style = Form, explode = false, min_items = 1, max_items = 3)]
    pub sort: Option<Sorting<TenantSort>>,
    /// Number of a page, from 1; instead of a cursor.
    pub page: Option<u32>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

impl ListTenants {
    /// The filters in one text, to bind a cursor to them.
    fn fingerprint(&self) -> String {
        let filters = (&self.status, &self.q, &self.created_after, &self.created_before);
        serde_json::to_string(&filters).unwrap_or_default()
    }
}

/// Tenants, by slug unless another order is asked for.
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
    let query = query.0;
    check_search("q", query.q.as_deref())?;
    let narrowed = query.fingerprint();
    let sort = query.sort.unwrap_or_default();
    let order = sort.keys();
    let paging = Paging::new(query.page, query.page_size, query.cursor, query.include_total)?;
    let pages = paging.bound((None, &router.installation().mac), "admin/tenants", sort.canonical(), narrowed);
    let filter = TenantFilter {
        status: query.status,
        only: operator.reach().only(),
        q: query.q,
        created_after: query.created_after.map(within_reach),
        created_before: query.created_before.map(within_reach),
        order: order.clone(),
        from: pages.seek::<TenantPosition>()?,
        limit: Some(pages.limit()),
        offset: pages.offset(),
    };
    let total = if pages.include_total() { Some(fleet.count(filter.clone()).await?) } else { None };
    let page = pages.listed(fleet.list(filter).await?, |tenant| tenant.position(&order), total);
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
