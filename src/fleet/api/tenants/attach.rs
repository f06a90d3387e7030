//! A customer's own database, adopted. A collection of its own: under `/tenants` the word `attach` would hide the tenant that
//! is called so.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::create::{CreatedTenant, as_written, created, first_admin, without_password};
use crate::control::operators::Operator;
use crate::control::requests::Kept;
use crate::error::{ApiError, ApiResult};
use crate::fleet::api::address::{Address, Tls};
use crate::fleet::api::{ChangeRefusals, Refusals};
use crate::fleet::once::Turn;
use crate::fleet::{AttachTenant, Fleet};
use crate::kernel::{Slug, request};
use crate::rest::{Answer, Envelope, Idempotency, Json, NoQuery};
use crate::router::{Registration, Router, TlsMode};

/// A tenant to be, in a database of the customer's own.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDedicatedTenant {
    /// Public name.
    #[garde(skip)]
    pub slug: Slug,
    /// Display name; the slug if left out.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    pub name: Option<String>,
    /// URL of the database, as requests reach it. It is never answered.
    #[garde(skip)]
    #[schema(value_type = String, format = Password)]
    pub database_url: SecretString,
    /// URL of the server itself, where a pooler stands in between.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub direct_url: Option<SecretString>,
    /// What the server has to prove. If left out, the `sslmode` in the URL says it, and without one it is `verify-full`; where
    /// both are given they have to agree.
    #[garde(skip)]
    pub tls_mode: Option<TlsMode>,
    /// PEM of the CAs to trust; the system's if left out.
    #[garde(inner(length(max = 65_536)))]
    pub ca: Option<String>,
    /// PEM of our client certificate; `clientKey` goes with it.
    #[garde(inner(length(max = 65_536)))]
    pub client_cert: Option<String>,
    /// PEM of its private key. It is never answered.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub client_key: Option<SecretString>,
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
}

impl NewDedicatedTenant {
    fn read(self) -> ApiResult<AttachTenant> {
        let admin = first_admin(self.admin_email, self.admin_password)?;
        let tls = Tls { mode: self.tls_mode, ca: self.ca, client_cert: self.client_cert, client_key: self.client_key };
        let (url, direct_url) = Address { url: self.database_url, direct_url: self.direct_url, tls }.read()?;
        Ok(AttachTenant {
            slug: self.slug,
            name: self.name,
            url,
            direct_url,
            registration: self.registration,
            max_connections: self.max_connections,
            admin,
        })
    }
}

/// Adopts a customer's own database, and answers when it serves. Refused with the remedy, before anything is written
/// anywhere, if it cannot be reached, has too few rights, is not empty or is stamped for another tenant.
///
/// The same call resumes one that was interrupted. The work goes on if the caller goes away. A repetition under an
/// `Idempotency-Key` answers the same, but for a password that was made: that is shown once.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminAttachTenant",
    request_body(
        content = NewDedicatedTenant,
        example = json!({
            "slug": "initech",
            "name": "Initech Ltd",
            "databaseUrl": "postgres://tenantry:secret@db.initech.example/crm?sslmode=verify-full",
            "ca": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
            "adminEmail": "admin@initech.example"
        })
    ),
    params(("Idempotency-Key" = Option<String>, Header, description = "Adopts it once, however often it is sent")),
    responses((status = 201, description = "It serves", body = Envelope<CreatedTenant>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/dedicated-tenants")]
pub async fn attach_tenant(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    idempotency: Idempotency,
    body: Json<NewDedicatedTenant>,
) -> ApiResult<HttpResponse> {
    let wanted = body.0.read()?;
    let fleet = fleet.into_inner();
    let keyed = idempotency.keyed(&router.installation().mac);
    let claim = match fleet.turn(&format!("POST /api/v1/admin/dedicated-tenants {}", operator.id), keyed).await? {
        Turn::Do(claim) => claim,
        Turn::Repeat(Kept { status, location, version, body }) => {
            return idempotency.respond(Answer::again(status, location, version, body)?, true);
        }
    };
    // The work goes on if the caller goes away, and its answer is kept.
    let adopting = actix_web::rt::spawn(request::carried(async move {
        let made = fleet.attach_once(&wanted, claim.request()).await.map_err(as_written);
        fleet.settle(claim, made.map(|made| created(made, &router)), without_password).await
    }));
    idempotency.respond(adopting.await.map_err(ApiError::internal)??, false)
}
