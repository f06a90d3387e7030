//! One person at several tenants: accepting an invitation with an account elsewhere, and changing over.

use std::time::Duration;

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use futures_util::future;
use futures_util::stream::{self, StreamExt as _};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::control::people::{self, LinkedTenant};
use crate::control::requests::Kept;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::once::Turn;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{TenantId, UserId};
use crate::rest::{
    Answer, Client, Envelope, ErrorEnvelope, Hints, Idempotency, InPerson, Json, ListEnvelope, ListFew, Listed,
    NoQuery, Query, Recent, Reply, SignedIn,
};
use crate::router::{self, MainConn, Router, TenantDb};
use crate::tenant::auth::mfa::LoggedIn;
use crate::tenant::auth::{Auth, elsewhere};
use crate::tenant::docs::Refusals;

/// Tenants that are asked at the same time whether somebody belongs to them, and how long they all have to answer.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(3);

/// A tenant that one belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MyTenant {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    #[schema(example = "acme")]
    pub slug: String,
    /// Display name.
    #[schema(example = "Acme Inc")]
    pub name: String,
    /// Whether it is that of the token.
    pub current: bool,
}

fn no_such_tenant() -> ApiError {
    ApiError::not_found("tenant")
}

/// The tenants that one belongs to with linked accounts: a hundred at most. This one alone, if none is linked.
///
/// Each is asked whether one may still come in; one whose database does not answer within seconds is not listed.
#[utoipa::path(
    tag = "users",
    params(ListFew),
    responses((status = 200, description = "The tenants", body = ListEnvelope<MyTenant>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/users/me/tenants")]
pub async fn my_tenants(
    fleet: web::Data<Fleet>,
    InPerson(caller): InPerson,
    query: Query<ListFew>,
) -> ApiResult<Listed<MyTenant>> {
    let mine = caller.db.tenant().clone();
    let linked = match elsewhere::person_of(&caller.db, caller.user()).await? {
        None => Vec::new(),
        Some(person) => {
            let account = (mine.id, caller.user());
            let read = async move |conn: &mut MainConn| -> ApiResult<Vec<LinkedTenant>> {
                // Whoever writes into their own database learns nothing of where others belong.
                let theirs = people::is_confirmed(conn, person, account).await?;
                Ok(if theirs { people::tenants_of(conn, person).await? } else { Vec::new() })
            };
            belonging(caller.db.router(), person, fleet.control.db.read(read).await?).await
        }
    };
    let mut tenants: Vec<MyTenant> = linked
        .into_iter()
        .map(|LinkedTenant { id, slug, name, .. }| MyTenant { current: id == mine.id, id, slug, name })
        .collect();
    if !tenants.iter().any(|tenant| tenant.current) {
        let here = MyTenant { id: mine.id, slug: mine.slug.to_string(), name: mine.name.clone(), current: true };
        tenants.insert(0, here);
    }
    let list = ("my-tenants", caller.user().to_string());
    query.0.of(&caller.db, list, tenants, |tenant: &MyTenant| tenant.id.to_string())
}

/// Those tenants whose own databases say that the person may come in, in their order. One that does not answer in time is left
/// out: whoever was removed there is not told what it is called now.
async fn belonging(router: &Router, person: Uuid, linked: Vec<LinkedTenant>) -> Vec<LinkedTenant> {
    let until = Instant::now() + PATIENCE;
    let asked = linked.into_iter().map(|tenant| async move {
        let answer = timeout_at(until, belongs(router, &tenant, person)).await;
        let answer = answer.map_err(ApiError::internal).and_then(|answer| answer);
        if let Err(error) = &answer {
            tracing::warn!(tenant = %tenant.id, %error, "a tenant was not asked whether somebody belongs to it");
        }
        answer.is_ok_and(|belongs| belongs).then_some(tenant)
    });
    stream::iter(asked).buffered(AT_ONCE).filter_map(future::ready).collect().await
}

async fn belongs(router: &Router, tenant: &LinkedTenant, person: Uuid) -> ApiResult<bool> {
    elsewhere::belongs(&router.of_tenant(tenant.id).await?, tenant.user_id, person).await
}

/// An invitation to another tenant.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptInvitation {
    /// Of the link.
    #[garde(skip)]
    #[schema(value_type = String, example = "tin_AZq…")]
    pub token: SecretString,
}

/// Accepts an invitation of another tenant with one's account here. The account there has no password: one changes over
/// to it with `POST /api/v1/auth/switch-tenant`. Needs proof of who one is that is not older than ten minutes.
#[utoipa::path(
    tag = "users",
    request_body = AcceptInvitation,
    params(("Idempotency-Key" = Option<String>, Header, description = "Accepts once, however often it is sent")),
    responses(
        (status = 200, description = "Accepted: the tenant that one belongs to from here on", body = Envelope<MyTenant>),
        (status = 409, description = "One has an account there already", body = ErrorEnvelope),
        (status = 422, description = "The invitation is not valid, or not any more", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/invitations/accept")]
pub async fn accept_invitation(
    _: NoQuery,
    auth: web::Data<Auth>,
    fleet: web::Data<Fleet>,
    Recent(caller): Recent,
    idempotency: Idempotency,
    body: Json<AcceptInvitation>,
) -> ApiResult<HttpResponse> {
    let void = || ApiError::invalid_field("token", "invalid", "The invitation is not valid, or not any more.");
    let router = caller.db.router();
    let token =
        OpaqueToken::parse(&router.installation().mac, TokenKind::Invitation, &body.0.token).ok_or_else(void)?;
    if token.tenant() == caller.db.tenant().id {
        return Err(void());
    }
    let there = router.routed(&token, &Default::default()).await.map_err(|error| match error {
        router::Error::TokenInvalid(_) | router::Error::TenantSuspended => void(),
        other => other.into(),
    })?;
    let there = router.at_schema(there, elsewhere::SINCE).await?;
    let person = elsewhere::ensure_person(&caller.db, caller.user()).await?;
    // Remembered by the control plane: no connection of one tenant is held while another is asked.
    let scope = format!("POST /api/v1/invitations/accept {} {}", caller.db.tenant().id, caller.user());
    let claim = match fleet.turn(&scope, idempotency.keyed(&router.installation().mac)).await? {
        Turn::Do(claim) => claim,
        Turn::Repeat(Kept { status, location, version, body }) => {
            return idempotency.respond(Answer::again(status, location, version, body)?, true);
        }
    };
    let again = claim.request().is_some();
    let link = Link { auth: &auth, fleet: &fleet, caller: &caller, there: &there, token: &token, person, again };
    let made = link.make().await.map(|()| {
        let tenant = there.tenant();
        let (slug, name) = (tenant.slug.to_string(), tenant.name.clone());
        Answer::ok(MyTenant { id: tenant.id, slug, name, current: false })
    });
    let answer = fleet.settle(claim, made, |answer| serde_json::to_value(answer.data()).ok()).await?;
    idempotency.respond(answer, false)
}

/// An account elsewhere that is to be the caller's too.
struct Link<'a> {
    auth: &'a Auth,
    fleet: &'a Fleet,
    caller: &'a SignedIn,
    there: &'a TenantDb,
    token: &'a OpaqueToken,
    person: Uuid,
    /// Whether it may be a request that was sent before.
    again: bool,
}

impl Link<'_> {
    async fn make(&self) -> ApiResult<()> {
        let Self { auth, fleet, there, token, person, again, .. } = *self;
        let (now, to) = (auth.clock.now(), there.tenant().id);
        // What was done before its answer could be kept, is done.
        let done = if again { elsewhere::accepted(there, token, person).await? } else { None };
        let user = match done {
            Some(user) => user,
            None => self.accept(now).await?,
        };
        let confirm =
            async move |conn: &mut MainConn| -> ApiResult<()> { Ok(people::confirm(conn, person, to, now).await?) };
        fleet.control.db.read(confirm).await?;
        auth.admission.forget_user(to, user).await;
        Ok(())
    }

    async fn accept(&self, now: DateTime<Utc>) -> ApiResult<UserId> {
        let Self { auth, fleet, caller, there, token, person, .. } = *self;
        let (here, me, to) = (caller.db.tenant().id, caller.user(), there.tenant().id);
        let user = elsewhere::invited(auth, there, token).await?;
        self.forget_lost(user).await?;
        // Linked before it is accepted: an account that does not agree is no link, and one that was accepted is not without.
        let link = async move |conn: &mut MainConn| -> ApiResult<bool> {
            let mine = people::link(conn, person, (here, me), now).await?;
            people::confirm(conn, person, here, now).await?;
            Ok(mine && people::link(conn, person, (to, user), now).await?)
        };
        if !fleet.control.db.transaction(link).await? {
            return Err(ApiError::already_exists("token", "You have an account at this tenant already."));
        }
        elsewhere::accept(auth, there, token, (person, here)).await
    }
}

impl Link<'_> {
    /// An account there that was removed, or is not this person's any more, is in nobody's way.
    async fn forget_lost(&self, invited: UserId) -> ApiResult<()> {
        let Self { fleet, there, person, .. } = *self;
        let to = there.tenant().id;
        let db = &fleet.control.db;
        let known = async move |conn: &mut MainConn| -> ApiResult<_> { Ok(people::account(conn, person, to).await?) };
        let Some(known) = db.read(known).await?.filter(|known| *known != invited) else { return Ok(()) };
        if elsewhere::is_theirs(there, known, person).await? {
            return Ok(());
        }
        let lost =
            async move |conn: &mut MainConn| -> ApiResult<()> { Ok(people::unlink(conn, person, (to, known)).await?) };
        db.read(lost).await
    }
}

/// The tenant to change over to.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchTenant {
    /// Its slug.
    #[garde(length(max = 64))]
    #[schema(example = "globex")]
    pub tenant: String,
}

/// Changes over to another tenant that one belongs to, by its own rules: where it asks for a second factor, the answer is
/// `mfaRequired` as after a login. One that one does not belong to looks like one that does not exist. The session here
/// stays. Needs proof of who one is that is not older than ten minutes.
///
/// An account lets its person in from the organisation with whose token its invitation was accepted, and from no other: the
/// way back is the session there, or a login.
#[utoipa::path(
    tag = "auth",
    request_body = SwitchTenant,
    responses(
        (status = 200, description = "Signed in there, or its second factor is asked for", body = Envelope<LoggedIn>),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/switch-tenant")]
pub async fn switch_tenant(
    _: NoQuery,
    auth: web::Data<Auth>,
    fleet: web::Data<Fleet>,
    Recent(caller): Recent,
    client: Client,
    body: Json<SwitchTenant>,
) -> ApiResult<Reply<LoggedIn>> {
    let router: &Router = caller.db.router();
    let person = elsewhere::person_of(&caller.db, caller.user()).await?;
    let there = match router.named(Some(&body.0.tenant), &Hints::default()).await {
        Ok(db) => db,
        Err(router::Error::TenantUnknown | router::Error::TenantUnavailable { .. }) => return Err(no_such_tenant()),
        Err(error) => return Err(error.into()),
    };
    let person = person.ok_or_else(no_such_tenant)?;
    let (here, me, to) = (caller.db.tenant().id, caller.user(), there.tenant().id);
    let find = async move |conn: &mut MainConn| -> ApiResult<_> {
        // What the caller's database says of whose the account is, the control plane has to know.
        let mine = people::is_confirmed(conn, person, (here, me)).await?;
        Ok(if mine { people::account(conn, person, to).await? } else { None })
    };
    let user = fleet.control.db.read(find).await?.ok_or_else(no_such_tenant)?;
    elsewhere::enter(&auth, &there, user, (person, here), &client).await.map(Reply)
}
