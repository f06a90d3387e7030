//! Another password for a tenant's role: made by a worker, or handed in with the URL of a customer's own database.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::address::{Address, Tls};
use super::tenants::OperatedTenant;
use super::{ChangeRefusals, JobView, Refusals, accepted, tenant_of};
use crate::control::operators::Operator;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::rest::{Answer, Envelope, Idempotency, NoBody, NoQuery, OptionalJson, Path};
use crate::router::{Router, Target, TlsMode};

/// Another URL of a dedicated database, whose password was changed there. Left out, its role is given another password.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateCredentialsBody {
    /// URL of the same database, as requests reach it; the others go with it. It is never answered.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub database_url: Option<SecretString>,
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
}

impl RotateCredentialsBody {
    /// The URLs, if there are any.
    fn read(self) -> ApiResult<Option<(Target, Option<Target>)>> {
        let Self { database_url, direct_url, tls_mode, ca, client_cert, client_key } = self;
        let tls = Tls { mode: tls_mode, ca, client_cert, client_key };
        match database_url {
            Some(url) => Address { url, direct_url, tls }.read().map(Some),
            None if direct_url.is_none() && tls.is_unsaid() => Ok(None),
            None => {
                let said = "The other fields go with the URL of the database.";
                Err(ApiError::invalid_field("databaseUrl", "required", said))
            }
        }
    }
}

/// Gives a tenant's role another password, by a job; or, with `databaseUrl`, takes in another URL of a dedicated database,
/// at once: a URL is kept for no worker. It must lead to the same, stamped database.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRotateCredentials",
    params(
        ("id" = String, Path, description = "Id or slug"),
        ("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent"),
    ),
    request_body(
        content = Option<RotateCredentialsBody>,
        example = json!({"databaseUrl": "postgres://tenantry:secret@db.initech.example/crm?sslmode=verify-full"})
    ),
    responses(
        (status = 200, description = "The URL is taken in", body = Envelope<OperatedTenant>),
        (status = 202, description = "A job, `Location` says where", body = Envelope<JobView>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/tenants/{id}/rotate-credentials")]
pub async fn rotate_credentials(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    router: web::Data<Router>,
    id: Path<String>,
    idempotency: Idempotency,
    body: OptionalJson<RotateCredentialsBody>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let Some((pooled, direct)) = body.0.unwrap_or_default().read()? else {
        let effect = async move |fleet: Fleet| -> ApiResult<_> {
            let tenant = tenant_of(&operator, &fleet, &id.0).await?;
            Ok(accepted(fleet.rotate_later(&tenant, Some(operator.id)).await?))
        };
        return fleet.once(who, idempotency, effect).await;
    };
    let effect = async move |fleet: Fleet| -> ApiResult<_> {
        let tenant = tenant_of(&operator, &fleet, &id.0).await?;
        let replaced = fleet.replace_url(tenant.id, &pooled, direct.as_ref().unwrap_or(&pooled)).await?;
        Ok(Answer::tagged(OperatedTenant::new(replaced, &router)))
    };
    fleet.once(who, idempotency, effect).await
}

/// Gives every tenant's role another password, a few at a time; the run that is under way, if one is. The job's `result`
/// has `rotated`, how many have another one, and lists those that `failed`. Cancelled, it begins with no further tenant.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminRotateAllCredentials",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    responses((status = 202, description = "A job, `Location` says where", body = Envelope<JobView>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/fleet/rotate-credentials")]
pub async fn rotate_all_credentials(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let effect = async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.rotate_all_later(Some(who)).await?)) };
    fleet.once(who, idempotency, effect).await
}
