//! One's own accounts at providers.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::{Beginner, FederationCallback, FederationStarted, begin, identified};
use super::enter::{self, By};
use super::store::{self, AccountRow, Link};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{IdentityProviderId, SocialAccountId};
use crate::rest::{
    Answer, Envelope, ErrorEnvelope, Idempotency, InPerson, Json, ListEnvelope, ListFew, Listed, NoContent, NoQuery,
    Path, Query, Recent, Reply,
};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::mfa::gate;
use crate::tenant::auth::settings::Auth;
use crate::tenant::auth::ways;
use crate::tenant::docs::Refusals;
use crate::tenant::identity_providers::{SINCE, store as providers};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::users::store as users;

/// Somebody's account at an identity provider.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SocialAccount {
    /// Identity.
    pub id: SocialAccountId,
    /// The provider.
    pub provider_id: IdentityProviderId,
    /// The address that it has there, if the provider says.
    #[schema(example = "ada@gmail.test")]
    pub email: Option<String>,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
    /// When somebody last came in with it.
    pub last_used_at: DateTime<Utc>,
}

impl From<AccountRow> for SocialAccount {
    fn from(row: AccountRow) -> Self {
        let AccountRow { id, provider_id, email, created_at, last_used_at, .. } = row;
        Self { id, provider_id, email, created_at, last_used_at }
    }
}

/// Which account is to be linked.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkSocialAccount {
    /// The provider's name in addresses.
    #[garde(length(max = 63))]
    #[schema(example = "google")]
    pub provider: String,
    /// Where the provider is to send one back to: one of those that the provider has here.
    #[garde(length(max = 2048))]
    #[schema(example = "https://app.example.com/callback")]
    pub redirect_uri: String,
}

async fn at_schema(db: &TenantDb) -> ApiResult<TenantDb> {
    Ok(db.router().at_schema(db.clone(), SINCE).await?)
}

/// One's accounts at identity providers, the first one first.
#[utoipa::path(
    tag = "auth",
    params(ListFew),
    responses((status = 200, description = "The accounts", body = ListEnvelope<SocialAccount>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/users/me/social-accounts")]
pub async fn my_social_accounts(InPerson(caller): InPerson, query: Query<ListFew>) -> ApiResult<Listed<SocialAccount>> {
    let me = caller.user();
    let rows = at_schema(&caller.db)
        .await?
        .read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::accounts(conn, me).await?) })
        .await?;
    let accounts = rows.into_iter().map(SocialAccount::from).collect();
    query
        .0
        .of(&caller.db, ("social-accounts", me.to_string()), accounts, |account: &SocialAccount| account.id.to_string())
}

/// Begins to link an account at an identity provider to oneself.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`). It is completed in the same session.
#[utoipa::path(
    tag = "auth",
    request_body = LinkSocialAccount,
    responses(
        (status = 200, description = "Where to go on", body = Envelope<FederationStarted>),
        (status = 422, description = "The provider may not send anybody back there", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/users/me/social-accounts")]
pub async fn begin_link(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    body: Json<LinkSocialAccount>,
) -> ApiResult<Reply<FederationStarted>> {
    let LinkSocialAccount { provider, redirect_uri } = body.0;
    let db = at_schema(&caller.db).await?;
    Ok(Reply(begin(&auth, &db, &provider, redirect_uri, Beginner::Known(caller.claims.sid)).await?))
}

fn void() -> ApiError {
    ApiError::invalid_field("state", "invalid", "It is not good any more, or the provider's answer was not accepted.")
}

/// Whether a link says more by this word than it does.
fn gains(link: &Link, by: By) -> bool {
    by == By::Person && !link.by_person
}

/// Links the account with which one came back, in the session that asked for it, if that has not ended meanwhile.
///
/// One's own that is linked already, by the word of a provider or through another one, is linked anew: by one's own word,
/// and through this one. It is one's own word in a session that a password or a passkey has opened, or proved again; in one
/// that a provider alone has opened it is the provider's.
#[utoipa::path(
    tag = "auth",
    request_body = FederationCallback,
    params(("Idempotency-Key" = Option<String>, Header, description = "Links once, however often it is sent")),
    responses(
        (status = 201, description = "Linked", body = Envelope<SocialAccount>),
        (status = 409, description = "It is linked to somebody already", body = ErrorEnvelope),
        (status = 422, description = "The state or the provider's answer is not accepted", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/users/me/social-accounts/callback")]
pub async fn complete_link(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    idempotency: Idempotency,
    body: Json<FederationCallback>,
) -> ApiResult<HttpResponse> {
    let FederationCallback { state, code, iss } = body.0;
    let (me, session, now) = (caller.user(), caller.claims.sid, auth.clock.now());
    // Else a provider's word would make itself the person's.
    let by = if gate::is_by_themselves(&caller.claims.amr) { By::Person } else { By::Provider };
    let db = at_schema(&caller.db).await?;
    let actor = me.to_string();
    // The state is spent, and the provider asked, before the transaction.
    if let Some(before) = idempotency.replayed(&db, &actor).await? {
        return Ok(before);
    }
    let state = OpaqueToken::parse(&db.router().installation().mac, TokenKind::Federation, &state);
    let state = state.filter(|state| state.tenant() == db.tenant().id);
    let state = state.ok_or_else(void)?;
    let identified = identified(&auth, &db, &state, Some(session), (&code, iss.as_deref())).await;
    let (provider, external) = identified.map_err(|error| match error.code() {
        // The caller's own token is as good as before.
        Code::TokenInvalid | Code::TokenExpired | Code::FederationFailed => void(),
        _ => error,
    })?;
    let here = db.clone();
    idempotency
        .run(&db, &actor, async move |conn: &mut TenantTx| -> ApiResult<Answer<SocialAccount>> {
            if !providers::stands(conn, &provider).await? {
                return Err(void());
            }
            store::hold_identity(conn, &external.issuer, &external.subject).await?;
            // The provider may have taken its time: whoever signed out everywhere meanwhile has ended this, too.
            if !store::hold_session(conn, (me, session), now).await? {
                return Err(ApiError::new(Code::TokenRevoked));
            }
            match store::link_of(conn, &external.issuer, &external.subject).await? {
                // Their own by a provider's word, or through another one: from here on by their own, through this one.
                Some(link) if link.user_id == me && (link.provider_id != provider.id || gains(&link, by)) => {
                    store::remove_link(conn, &external.issuer, &external.subject).await?;
                }
                Some(_) => {
                    return Err(ApiError::new(Code::Conflict).detail("This account is linked to somebody already."));
                }
                None => {}
            }
            let row = enter::link(conn, &here, (me, by), &provider, &external, now).await?;
            Ok(Answer::created(SocialAccount::from(row)).location("/api/v1/users/me/social-accounts"))
        })
        .await
}

/// Unlinks an account at an identity provider. The last way to sign in stays.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`).
#[utoipa::path(
    tag = "auth",
    params(("id" = SocialAccountId, Path, description = "The account")),
    responses(
        (status = 204, description = "Unlinked"),
        (status = 409, description = "It is the only way to sign in", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/users/me/social-accounts/{id}")]
pub async fn unlink(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    id: Path<SocialAccountId>,
) -> ApiResult<NoContent> {
    let (me, session, id, now) = (caller.user(), caller.claims.sid, id.0, auth.clock.now());
    let db = at_schema(&caller.db).await?;
    let here = db.clone();
    db.transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
        // Of two accounts that are unlinked at the same time one stays.
        let person = users::hold(conn, me).await?;
        let Some(gone) = store::remove_account(conn, me, id).await? else {
            return Err(ApiError::not_found("social account"));
        };
        ways::check_left(conn, &here, &person).await?;
        let (by, what) = (format!("user:{me}"), format!("{}", gone.id));
        let entry =
            Entry { actor: &by, action: "federation.unlinked", user: me, session: Some(session), reason: Some(&what) };
        audit::note(conn, &entry, now).await?;
        let notice = SecurityNotice::IdentityUnlinked { provider: providers::get(conn, gone.provider_id).await?.name };
        mail::notify_security(conn, &here, me, notice, None).await
    })
    .await?;
    Ok(NoContent)
}
