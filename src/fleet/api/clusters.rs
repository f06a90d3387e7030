//! Clusters, for operators.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ChangeRefusals, Refusals};
use crate::control::clusters::{ClusterChanges, NewCluster as Wanted};
use crate::control::operators::{Operator, Survey};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::view::ClusterView;
use crate::kernel::request;
use crate::rest::{
    Answer, Envelope, Idempotency, IfMatch, Json, ListEnvelope, ListFew, Listed, MergePatch, NoContent, NoQuery, Patch,
    Path, Query, Tagged,
};
use crate::router::{Router, Target, TlsMode};

/// A cluster to be taken in.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCluster {
    /// Its name: a-z, 0-9 and '-', beginning with a letter.
    #[garde(length(min = 1, max = 63))]
    pub name: String,
    /// URL of its administrator and administrative database.
    #[garde(skip)]
    #[schema(value_type = String, format = Password)]
    pub admin_url: SecretString,
    /// What the server has to prove. If left out, the `sslmode` in the URL says it, and without one it is `verify-full`; where
    /// both are given they have to agree.
    #[garde(skip)]
    pub tls_mode: Option<TlsMode>,
    /// PEM of the CAs to trust; the system's if left out.
    #[garde(inner(length(max = 65_536)))]
    pub ca: Option<String>,
    /// Where it stands.
    #[garde(inner(length(max = 100)))]
    pub region: Option<String>,
    /// How many tenants it takes; no bound if left out.
    #[garde(inner(range(min = 1)))]
    pub max_tenants: Option<i32>,
    /// The most connections to its tenants' databases; 80 % of what its server has if left out.
    #[garde(inner(range(min = 1)))]
    pub connection_budget: Option<i32>,
}

/// All clusters, by name.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListClusters",
    params(ListFew),
    responses((status = 200, description = "The clusters", body = ListEnvelope<ClusterView>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/clusters")]
pub async fn list_clusters(
    _: Operator<Survey>,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    query: Query<ListFew>,
) -> ApiResult<Listed<ClusterView>> {
    let clusters = fleet.clusters().await?.into_iter().map(|cluster| fleet.cluster_view(cluster)).collect();
    let scope = (None, &router.installation().mac);
    query.0.bound(scope, ("admin/clusters", ""), clusters, |cluster: &ClusterView| cluster.id.to_string())
}

/// Looks at a server, prepares it and takes it in.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminAddCluster",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    request_body(
        content = NewCluster,
        example = json!({"name": "eu-2", "adminUrl": "postgres://admin:secret@pg2.example.com/postgres", "region": "eu"})
    ),
    responses((status = 201, description = "Taken in", body = Envelope<ClusterView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/clusters")]
pub async fn add_cluster(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    body: Json<NewCluster>,
) -> ApiResult<HttpResponse> {
    let body = body.0;
    let admin = address(&body.admin_url, body.tls_mode, body.ca)?;
    let wanted = Wanted {
        name: body.name,
        admin,
        region: body.region,
        max_tenants: body.max_tenants,
        connection_budget: body.connection_budget,
    };
    let effect = async move |fleet: Fleet, request: Uuid| -> ApiResult<_> {
        let view = fleet.cluster_view(fleet.add_cluster_once(request.into(), &wanted).await?);
        let version = view.version;
        Ok(Answer::created(view).etag(version))
    };
    fleet.once_known(operator.id, idempotency, effect).await
}

fn address(url: &SecretString, mode: Option<TlsMode>, ca: Option<String>) -> ApiResult<Target> {
    let mut target = Target::parse_named(url, mode)
        .map_err(|fault| ApiError::invalid_field("adminUrl", "invalid", fault.to_string()))?;
    target.tls.ca = ca;
    Ok(target)
}

/// A cluster by name, its server looked at now.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetCluster",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The cluster, with `ETag`", body = Envelope<ClusterView>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/clusters/{name}")]
pub async fn get_cluster(
    _: NoQuery,
    _: Operator<Survey>,
    fleet: web::Data<Fleet>,
    name: Path<String>,
) -> ApiResult<Tagged<ClusterView>> {
    Ok(Tagged(fleet.cluster_view(fleet.cluster_now(&name.0).await?)))
}

/// What to change of a cluster.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterPatch {
    /// Another URL of its administrator; `tlsMode` and `ca` go with it. It cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub admin_url: Patch<SecretString>,
    /// What the server at the new URL has to prove. If left out or null, the `sslmode` in the URL says it, and without one it
    /// is `verify-full`; where both are given they have to agree.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<TlsMode>)]
    pub tls_mode: Patch<TlsMode>,
    /// PEM of the CAs to trust at the new URL; the system's if left out or null.
    #[serde(default)]
    #[garde(inner(length(max = 65_536)))]
    #[schema(value_type = Option<String>)]
    pub ca: Patch<String>,
    /// Where it stands.
    #[serde(default)]
    #[garde(inner(length(max = 100)))]
    #[schema(value_type = Option<String>)]
    pub region: Patch<String>,
    /// How many tenants it takes; null for no bound.
    #[serde(default)]
    #[garde(inner(range(min = 1)))]
    #[schema(value_type = Option<i32>)]
    pub max_tenants: Patch<i32>,
    /// The most connections to its tenants' databases; null for the nodes' own setting.
    #[serde(default)]
    #[garde(inner(range(min = 1)))]
    #[schema(value_type = Option<i32>)]
    pub connection_budget: Patch<i32>,
    /// Whether it takes no new tenants; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub draining: Patch<bool>,
}

/// Changes a cluster; every node follows within two seconds.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminChangeCluster",
    params(
        ("name" = String, Path, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    request_body(
        content = ClusterPatch,
        content_type = "application/merge-patch+json",
        example = json!({"maxTenants": 500, "connectionBudget": 200})
    ),
    responses((status = 200, description = "As it is now", body = Envelope<ClusterView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[patch("/api/v1/admin/clusters/{name}")]
pub async fn change_cluster(
    _: NoQuery,
    _: Operator,
    fleet: web::Data<Fleet>,
    name: Path<String>,
    if_match: IfMatch,
    body: MergePatch<ClusterPatch>,
) -> ApiResult<Tagged<ClusterView>> {
    let ClusterPatch { admin_url, tls_mode, ca, region, max_tenants, connection_budget, draining } = body.0;
    let (admin_url, draining) = (admin_url.needed("adminUrl")?, draining.needed("draining")?);
    if admin_url.is_none() && !(tls_mode.is_absent() && ca.is_absent()) {
        return Err(ApiError::invalid_field("adminUrl", "required", "TLS towards a server goes with its URL."));
    }
    let expected = if_match.expected(fleet.cluster(&name.0).await?.version)?;
    let changes = ClusterChanges {
        admin: admin_url.map(|url| address(&url, tls_mode.apply(None), ca.apply(None))).transpose()?,
        region: region.into_change(),
        max_tenants: max_tenants.into_change(),
        connection_budget: connection_budget.into_change(),
        draining,
    };
    Ok(Tagged(fleet.cluster_view(fleet.set_cluster_at(&name.0, expected, changes).await?)))
}

/// Forgets a cluster that no tenant lives on, and drops its ready tenants.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRemoveCluster",
    params(
        ("name" = String, Path, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses((status = 204, description = "Gone"), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/clusters/{name}")]
pub async fn remove_cluster(
    _: NoQuery,
    _: Operator,
    fleet: web::Data<Fleet>,
    name: Path<String>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let expected = if_match.expected(fleet.cluster(&name.0).await?.version)?;
    let fleet = fleet.into_inner();
    let removing = async move { fleet.remove_cluster_at(&name.0, expected).await };
    actix_web::rt::spawn(request::carried(removing)).await.map_err(ApiError::internal)??;
    Ok(NoContent)
}
