//! A tenant to be.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::operators::Operator;
use crate::control::requests::Kept;
use crate::error::{ApiError, ApiResult};
use crate::fleet::api::{ChangeRefusals, JobView, Refusals, accepted};
use crate::fleet::once::Turn;
use crate::fleet::view::ProvisionedView;
use crate::fleet::{AdminPassword, CreateTenant, FirstAdmin, Fleet, Provisioned};
use crate::kernel::{Slug, request};
use crate::rest::{Answer, Envelope, Idempotency, Json, NoQuery};
use crate::router::pools::PoolSnapshot;
use crate::router::{Registration, Router};

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
    /// Who may register; whoever is invited, if left out.
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
    /// Answer at once: a worker makes it, unless the stock has one. With a first administrator, whose password is kept nowhere
    /// for a worker, the stock must have one.
    #[serde(default)]
    #[garde(skip)]
    pub no_wait: bool,
}

impl NewTenant {
    fn read(self) -> ApiResult<CreateTenant> {
        let admin = first_admin(self.admin_email, self.admin_password)?;
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

/// The first administrator of a body.
///
/// # Errors
/// 422 for a password of nobody.
pub(super) fn first_admin(email: Option<String>, password: Option<SecretString>) -> ApiResult<Option<FirstAdmin>> {
    match (email, password) {
        (Some(email), password) => Ok(Some(FirstAdmin {
            email,
            password: password.map_or(AdminPassword::Generate, AdminPassword::Given),
            first_name: String::new(),
            last_name: String::new(),
        })),
        (None, Some(_)) => Err(ApiError::invalid_field("adminEmail", "required", "A password needs its e-mail.")),
        (None, None) => Ok(None),
    }
}

/// A tenant that was just made, as it is read from now on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedTenant {
    /// The tenant, and how it was made.
    #[serde(flatten)]
    pub made: ProvisionedView,
    /// Its connections on the node that answers; null while there are none.
    pub pool: Option<PoolSnapshot>,
}

/// Makes a tenant on a cluster, and answers when it serves; with `noWait` at once, with the job that makes it, or
/// with an administrator a tenant of the stock.
///
/// The same call resumes one that was interrupted. The work goes on if the caller goes away. A repetition under an
/// `Idempotency-Key` answers the same, but for a password that was made: that is shown once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminCreateTenant",
    request_body(
        content = NewTenant,
        example = json!({"slug": "hooli", "name": "Hooli Inc", "plan": "gold", "noWait": true})
    ),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes it once, however often it is sent")),
    responses(
        (status = 201, description = "It serves", body = Envelope<CreatedTenant>),
        (status = 202, description = "The job that makes it (`noWait`)", body = Envelope<JobView>),
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
    let no_wait = body.0.no_wait;
    let wanted = body.0.read()?;
    let fleet = fleet.into_inner();
    let keyed = idempotency.keyed(&router.installation().mac);
    let claim = match fleet.turn(&format!("POST /api/v1/admin/tenants {}", operator.id), keyed).await? {
        Turn::Do(claim) => claim,
        Turn::Repeat(Kept { status, location, version, body }) => {
            return idempotency.respond(Answer::again(status, location, version, body)?, true);
        }
    };
    if no_wait && wanted.admin.is_none() {
        let queueing = actix_web::rt::spawn(request::carried(async move {
            let queued = fleet.create_later_once(&wanted, claim.request()).await.map(accepted);
            fleet.settle(claim, queued, |answer| serde_json::to_value(answer.data()?).ok()).await
        }));
        return idempotency.respond(queueing.await.map_err(ApiError::internal)??, false);
    }
    // The work goes on if the caller goes away, and its answer is kept.
    let making = actix_web::rt::spawn(request::carried(async move {
        let made = fleet.create_once(&wanted, claim.request(), no_wait).await.map_err(as_written);
        fleet.settle(claim, made.map(|made| created(made, &router)), without_password).await
    }));
    idempotency.respond(making.await.map_err(ApiError::internal)??, false)
}

/// 201 with a tenant, and where it is read.
pub(super) fn created(made: Provisioned, router: &Router) -> Answer<CreatedTenant> {
    let made = ProvisionedView::from(made);
    let (id, version) = (made.tenant.id, made.tenant.version);
    let created = CreatedTenant { pool: router.pools().snapshot(id), made };
    Answer::created(created).location(format!("/api/v1/admin/tenants/{id}")).etag(version)
}

/// The fields of the first administrator by their names in this body: a sign-up's has another shape.
pub(super) fn as_written(error: ApiError) -> ApiError {
    error.renamed("admin.email", "adminEmail").renamed("admin.password", "adminPassword")
}

/// What is kept of an answer: a password is shown once.
pub(super) fn without_password(answer: &Answer<CreatedTenant>) -> Option<serde_json::Value> {
    let mut kept = serde_json::to_value(answer.data()?).ok()?;
    kept.as_object_mut()?.remove("adminPassword");
    Some(kept)
}
