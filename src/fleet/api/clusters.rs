//! Clusters, for operators.

use actix_web::{get, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ChangeRefusals, Refusals};
use crate::control::clusters::NewCluster as Wanted;
use crate::control::operators::{Operator, Survey};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::view::ClusterView;
use crate::rest::{Created, Envelope, Json, NoQuery, Reply};
use crate::router::{Target, TlsMode, TlsPolicy};

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
    /// What the server has to prove; `verify-full` if left out.
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
    responses((status = 200, description = "The clusters", body = Envelope<Vec<ClusterView>>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/clusters")]
pub async fn list_clusters(
    _: NoQuery,
    _: Operator<Survey>,
    fleet: web::Data<Fleet>,
) -> ApiResult<Reply<Vec<ClusterView>>> {
    Ok(Reply(fleet.clusters().await?.into_iter().map(Into::into).collect()))
}

/// Looks at a server, prepares it and takes it in.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminAddCluster",
    request_body = NewCluster,
    responses((status = 201, description = "Taken in", body = Envelope<ClusterView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/clusters")]
pub async fn add_cluster(
    _: NoQuery,
    _: Operator,
    fleet: web::Data<Fleet>,
    body: Json<NewCluster>,
) -> ApiResult<Created<ClusterView>> {
    let body = body.0;
    let tls = TlsPolicy { ca: body.ca, ..TlsPolicy::mode(body.tls_mode.unwrap_or(TlsMode::VerifyFull)) };
    let admin = Target::parse(&body.admin_url, tls)
        .map_err(|fault| ApiError::invalid_field("adminUrl", "invalid", fault.to_string()))?;
    let wanted = Wanted {
        name: body.name,
        admin,
        region: body.region,
        max_tenants: body.max_tenants,
        connection_budget: body.connection_budget,
    };
    let view = ClusterView::from(fleet.add_cluster_with_budget(&wanted).await?);
    let version = view.version;
    Ok(Created::new(view).etag(version))
}
