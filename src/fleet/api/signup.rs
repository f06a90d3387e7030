//! Self-service sign-up, for strangers.

use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ChangeRefusals, JobView};
use crate::config::SignUpMode;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::once::Turn;
use crate::fleet::signup::{Made, SignUpSettings, Standing, Wanted};
use crate::fleet::{AdminPassword, FirstAdmin, Fleet, Welcome};
use crate::kernel::{OperationId, Slug, request};
use crate::rest::passwords::Rules;
use crate::rest::problem;
use crate::rest::{Answer, Client, ClientIp, Envelope, ErrorEnvelope, Hints, Idempotency, Json, NoQuery, Path, Reply};
use crate::router::{Router, TenantDb};
use crate::tenant::auth::session::SignIn;
use crate::tenant::auth::{self, Auth};
use crate::tenant::tenants::CurrentTenant;
use crate::tenant::users::rules::{email_shape, name_shape};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A tenant of one's own.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignUpRequest {
    /// Display name.
    #[garde(length(chars, min = 1, max = 200), custom(name_shape))]
    #[schema(example = "Hooli Inc")]
    pub name: String,
    /// Public name: 3 to 48 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'.
    #[garde(skip)]
    #[schema(value_type = String, example = "hooli")]
    pub slug: Slug,
    /// Its first administrator.
    #[garde(dive)]
    pub admin: SignUpAdmin,
}

/// A tenant's first administrator.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignUpAdmin {
    /// Address to log in with.
    #[garde(custom(email_shape))]
    #[schema(example = "gavin@hooli.test")]
    pub email: String,
    /// At least 15 characters.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub password: SecretString,
    /// First name.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Gavin")]
    pub first_name: String,
    /// Last name.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Belson")]
    pub last_name: String,
}

impl SignUpRequest {
    fn wanted(&self) -> Wanted {
        let admin = FirstAdmin {
            email: self.admin.email.clone(),
            password: AdminPassword::Given(self.admin.password.clone()),
            first_name: self.admin.first_name.clone(),
            last_name: self.admin.last_name.clone(),
        };
        Wanted { slug: self.slug.clone(), name: self.name.trim().to_owned(), admin }
    }
}

/// A tenant, and its first administrator signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedUp {
    /// The tenant.
    pub tenant: CurrentTenant,
    /// As after a login.
    #[serde(flatten)]
    pub sign_in: SignIn,
}

/// Signs up: a tenant of one's own, usable at once, with its first administrator signed in.
///
/// Where operators decide about sign-ups, the answer is 202 with a job to follow; where nobody may sign up, 403. An
/// `Idempotency-Key` makes repeating it safe: the same tenant, and a fresh session for whoever still has the password.
#[utoipa::path(
    tag = "tenants",
    operation_id = "signUp",
    request_body = SignUpRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Signs up once, however often it is sent")),
    responses(
        (status = 201, description = "Made, and signed in", body = Envelope<SignedUp>),
        (status = 202, description = "Waits for an operator", body = Envelope<JobView>),
        (status = 400, description = "The body is not JSON", body = ErrorEnvelope),
        (status = 403, description = "`registration_closed`: nobody may sign up here", body = ErrorEnvelope),
        (status = 429, description = "`rate_limited`: wait for `Retry-After`", body = ErrorEnvelope),
        (status = 503, description = "The control plane or a server does not answer, too many wait for an operator, or there is no room (`overloaded`)", body = ErrorEnvelope),
        ChangeRefusals,
    ),
)]
#[post("/api/v1/tenants")]
#[expect(clippy::too_many_arguments, reason = "each is an extractor")]
pub async fn sign_up(
    _: NoQuery,
    request: HttpRequest,
    fleet: web::Data<Fleet>,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    settings: web::Data<SignUpSettings>,
    client: (Client, ClientIp),
    idempotency: Idempotency,
    body: Json<SignUpRequest>,
) -> ApiResult<HttpResponse> {
    if settings.mode == SignUpMode::Closed {
        return Err(ApiError::new(Code::RegistrationClosed).detail("This service does not take sign-ups."));
    }
    let body = body.0;
    // More is computed once it is known that this address may ask.
    let rules = Rules::usual(&body.admin.email);
    if let Some(fault) = rules.length_fault("admin.password", &body.admin.password) {
        return Err(ApiError::invalid(vec![fault]));
    }
    let standing = fleet.count_sign_up(&settings, client.1.0).await?;
    let desk = Desk {
        fleet: fleet.into_inner(),
        welcome: Welcome { auth: Auth::clone(&auth), router: Router::clone(&router), client: client.0 },
    };
    let done = match standing.map_or(Ok(()), |standing| standing.check()) {
        Ok(()) => desk.serve(settings.mode, &idempotency, body).await,
        Err(refused) => Err(refused),
    };
    let Some(standing) = standing else { return done };
    // How the address stands goes with every answer, an error's too.
    let mut response = done.unwrap_or_else(|error| {
        problem::log(&error, &request);
        problem::respond(&request, &error)
    });
    let Standing { limit, left, reset, .. } = standing;
    let headers = [
        (RATE_LIMIT_POLICY, format!("\"sign-up\";q={limit};w=3600")),
        (RATE_LIMIT, format!("\"sign-up\";r={left};t={reset}")),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(ApiError::internal)?);
    }
    Ok(response)
}

/// What serving a stranger works with.
struct Desk {
    fleet: Arc<Fleet>,
    welcome: Welcome,
}

impl Desk {
    async fn serve(self, mode: SignUpMode, idempotency: &Idempotency, body: SignUpRequest) -> ApiResult<HttpResponse> {
        let keyed = idempotency.keyed(&self.welcome.router.installation().mac);
        match self.fleet.turn("POST /api/v1/tenants", keyed).await? {
            Turn::Repeat(kept) => match kept.body {
                Some(job) => {
                    idempotency.respond(Answer::again(kept.status, kept.location, kept.version, Some(job))?, true)
                }
                None => {
                    let (db, password) = (self.tenant(&body.slug).await?, body.admin.password.clone());
                    let Welcome { auth, client, .. } = &self.welcome;
                    let again = auth::sign_in_again(auth, &db, &body.admin.email, password, client).await?;
                    idempotency.respond(answer(&db, again), true)
                }
            },
            // The work goes on if the caller goes away, and its answer is kept.
            Turn::Do(claim) if mode == SignUpMode::Approval => {
                let asking = actix_web::rt::spawn(request::carried(async move {
                    let asked = self.fleet.ask_for_tenant(&body.wanted(), claim.request()).await.map(|job| {
                        let location = format!("/api/v1/jobs/{}", job.id);
                        Answer::accepted(JobView::from(job)).location(location)
                    });
                    let kept = |answer: &Answer<JobView>| serde_json::to_value(answer.data()).ok();
                    self.fleet.settle(claim, asked, kept).await
                }));
                idempotency.respond(asking.await.map_err(ApiError::internal)??, false)
            }
            Turn::Do(claim) => {
                let making = actix_web::rt::spawn(request::carried(async move {
                    let fleet = self.fleet.clone();
                    let made = self.make(&body, claim.id).await;
                    fleet.settle(claim, made, |_| None).await
                }));
                idempotency.respond(making.await.map_err(ApiError::internal)??, false)
            }
        }
    }

    async fn make(self, body: &SignUpRequest, request: Uuid) -> ApiResult<Answer<SignedUp>> {
        let Welcome { auth, router, client } = &self.welcome;
        let made = self.fleet.sign_up(&body.wanted(), request, Some(&self.welcome)).await?;
        router.forget(made.id(), &body.slug);
        let (db, email) = (router.for_maker(made.id()).await?, &body.admin.email);
        let sign_in = match made {
            Made::Now(_, Some(first)) => *first,
            Made::Now(_, None) => auth::sign_in_newcomer(auth, &db, email, client).await?,
            // There may be another password by now.
            Made::Before(_) => {
                let db = self.tenant(&body.slug).await?;
                auth::sign_in_again(auth, &db, email, body.admin.password.clone(), client).await?
            }
        };
        Ok(answer(&db, sign_in))
    }

    async fn tenant(&self, slug: &Slug) -> ApiResult<TenantDb> {
        Ok(self.welcome.router.named(Some(slug.as_str()), &Hints::default()).await?)
    }
}

fn answer(db: &TenantDb, sign_in: SignIn) -> Answer<SignedUp> {
    let tenant = CurrentTenant::of(db.tenant());
    Answer::created(SignedUp { tenant, sign_in }).location("/api/v1/tenants/current")
}

/// The job of a sign-up that waits for an operator, or was decided. Its id is all that it takes to see it.
#[utoipa::path(
    tag = "tenants",
    operation_id = "getSignUpJob",
    params(("id" = OperationId, Path, description = "As the sign-up's answer had it")),
    responses(
        (status = 200, description = "How it stands", body = Envelope<JobView>),
        (status = 404, description = "There is none", body = ErrorEnvelope),
        (status = 503, description = "The control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[get("/api/v1/jobs/{id}")]
pub async fn sign_up_job(_: NoQuery, fleet: web::Data<Fleet>, id: Path<OperationId>) -> ApiResult<Reply<JobView>> {
    Ok(Reply(fleet.sign_up_job(id.0).await?.into()))
}
