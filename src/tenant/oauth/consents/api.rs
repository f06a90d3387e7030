//! One's own consents: to look at, and to take back.

use actix_web::{delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::store::{self, ConsentRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::OauthClientId;
use crate::rest::{InPerson, ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::oauth::clients::store as clients;
use crate::tenant::oauth::ready;
use crate::tenant::oauth::token::store as grants;

/// What you let an app have.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthConsent {
    /// The app.
    pub client_id: OauthClientId,
    /// What it is called.
    #[schema(example = "Time sheets")]
    pub name: String,
    /// All that you agreed to.
    #[schema(example = json!(["openid", "contacts:read"]))]
    pub scopes: Vec<String>,
    /// When you first did.
    pub created_at: DateTime<Utc>,
    /// When you last did to something new.
    pub updated_at: DateTime<Utc>,
}

impl From<ConsentRow> for OauthConsent {
    fn from(row: ConsentRow) -> Self {
        let ConsentRow { client_id, name, scopes, created_at, updated_at } = row;
        Self { client_id, name, scopes, created_at, updated_at }
    }
}

/// The apps that you let in, the latest first: a hundred at most.
#[utoipa::path(
    tag = "oauth",
    params(ListFew),
    responses((status = 200, description = "The consents", body = ListEnvelope<OauthConsent>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/oauth/consents")]
pub async fn my_oauth_consents(InPerson(caller): InPerson, query: Query<ListFew>) -> ApiResult<Listed<OauthConsent>> {
    let (db, me) = (ready(&caller.db).await?, caller.user());
    let rows = db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::list(conn, me).await?) }).await?;
    let consents = rows.into_iter().map(OauthConsent::from).collect();
    query
        .0
        .of(&db, ("oauth-consents", me.to_string()), consents, |consent: &OauthConsent| consent.client_id.to_string())
}

/// Takes back what you let an app have, and ends its tokens: at once on this node and within two seconds everywhere.
#[utoipa::path(
    tag = "oauth",
    params(("clientId" = OauthClientId, Path, description = "The app")),
    responses((status = 204, description = "Taken back"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/oauth/consents/{clientId}")]
pub async fn withdraw_oauth_consent(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    client: Path<OauthClientId>,
) -> ApiResult<NoContent> {
    let db = ready(&caller.db).await?;
    let (me, session, client, now) = (caller.user(), caller.claims.sid, client.0, auth.clock.now());
    db.transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
        // Whoever removes an app holds it before what it was given.
        clients::stay(conn, client).await?;
        if !store::remove(conn, me, client).await? {
            return Err(ApiError::not_found("consent"));
        }
        grants::end_all(conn, (me, client), "consent_withdrawn", now).await?;
        let (actor, what) = (format!("user:{me}"), client.to_string());
        let action = "oauth.consent_withdrawn";
        let entry = Entry { actor: &actor, action, user: me, session: Some(session), reason: Some(&what) };
        Ok(audit::note(conn, &entry, now).await?)
    })
    .await?;
    auth.admission.forget_user(db.tenant().id, me).await;
    Ok(NoContent)
}
