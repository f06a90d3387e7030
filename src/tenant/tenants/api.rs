//! The caller's tenant.

use actix_web::get;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::kernel::{Slug, TenantId};
use crate::rest::{AnyCaller, Envelope, NoQuery, Tagged, Versioned};
use crate::router::{Tenant, TenantStatus};
use crate::tenant::docs::Refusals;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentTenant {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// Display name.
    #[schema(example = "Acme Corporation")]
    pub name: String,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// Version of its database's schema.
    #[schema(example = 2)]
    pub schema_version: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Grows with every change of its entry in the registry.
    #[serde(skip)]
    generation: i64,
}

impl Versioned for CurrentTenant {
    fn version(&self) -> i64 {
        self.generation
    }
}

impl CurrentTenant {
    /// As its own people may see it.
    #[must_use]
    pub fn of(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id,
            slug: tenant.slug.clone(),
            name: tenant.name.clone(),
            status: tenant.status,
            schema_version: tenant.schema_version,
            created_at: tenant.created_at,
            generation: tenant.generation,
        }
    }
}

/// The tenant whose token this is.
#[utoipa::path(
    tag = "tenants",
    responses(
        (status = 200, description = "The tenant, with `ETag`", body = Envelope<CurrentTenant>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/tenants/current")]
pub async fn current_tenant(_: NoQuery, caller: AnyCaller) -> Tagged<CurrentTenant> {
    Tagged(CurrentTenant::of(caller.db.tenant()))
}
