//! One's own passkeys.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::SINCE;
use super::ceremony::{self, PasskeyOptions};
use super::store::{self, PasskeyRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{
    Answer, Client, Envelope, ErrorEnvelope, Idempotency, InPerson, Json, ListEnvelope, ListFew, Listed, MergePatch,
    NoBody, NoContent, NoQuery, Path, Query, Recent, Reply,
};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::mfa::gate;
use crate::tenant::auth::settings::Auth;
use crate::tenant::auth::ways;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::users::rules::{name_shape, not_blank};
use crate::tenant::users::store as users;

/// A passkey.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyView {
    /// Identity.
    pub id: Uuid,
    /// As its person calls it.
    #[schema(example = "Phone")]
    pub name: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl From<PasskeyRow> for PasskeyView {
    fn from(row: PasskeyRow) -> Self {
        Self { id: row.id, name: row.name, created_at: row.created_at, last_used_at: row.last_used_at }
    }
}

/// A new passkey.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddPasskey {
    /// As the options say.
    #[garde(skip)]
    pub ceremony_id: Uuid,
    /// As you call it.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Phone")]
    pub name: String,
    /// What `navigator.credentials.create` gave, by `toJSON()`.
    #[garde(skip)]
    #[schema(value_type = Object)]
    pub credential: Value,
}

/// Another name.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenamePasskey {
    /// As you call it.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Laptop")]
    pub name: String,
}

/// Begins a passkey: what `navigator.credentials.create` is asked with.
#[utoipa::path(
    tag = "auth",
    responses(
        (status = 200, description = "For the browser", body = Envelope<PasskeyOptions>),
        (status = 409, description = "There are too many, or no passkeys here", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/passkeys/options")]
pub async fn passkey_options(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    _: NoBody,
) -> ApiResult<Reply<PasskeyOptions>> {
    let (me, auth) = (caller.user(), &**auth);
    let options = at_schema(&caller.db)
        .await?
        .transaction(async |conn: &mut TenantTx| -> ApiResult<PasskeyOptions> {
            let person = users::get(conn, me).await?;
            let name = format!("{} {}", person.first_name, person.last_name);
            let name = if name.trim().is_empty() { &person.email } else { name.trim() };
            ceremony::register(conn, auth, (me, &person.email, name)).await
        })
        .await?;
    Ok(Reply(options))
}

/// Adds a passkey whose browser has answered.
#[utoipa::path(
    tag = "auth",
    request_body = AddPasskey,
    params(("Idempotency-Key" = Option<String>, Header, description = "Adds one, however often it is sent")),
    responses(
        (status = 201, description = "Added", body = Envelope<PasskeyView>),
        (status = 409, description = "There are no passkeys here", body = ErrorEnvelope),
        (status = 422, description = "It does not answer what was asked, or is there already", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/passkeys")]
pub async fn add_passkey(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    client: Client,
    idempotency: Idempotency,
    body: Json<AddPasskey>,
) -> ApiResult<HttpResponse> {
    let AddPasskey { ceremony_id, name, credential } = body.0;
    let (me, auth) = (caller.user(), &**auth);
    let (actor, session, now) = (me.to_string(), caller.claims.sid, auth.clock.now());
    let (db, client) = (&at_schema(&caller.db).await?, &client);
    idempotency
        .run(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<PasskeyView>> {
            let row = ceremony::add(conn, auth, me, name.trim(), (ceremony_id, &credential)).await?;
            let actor = format!("user:{me}");
            let entry =
                Entry { actor: &actor, action: "passkey.added", user: me, session: Some(session), reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            let notice = SecurityNotice::PasskeyAdded { name: row.name.clone() };
            mail::notify_security(conn, db, me, notice, Some(client)).await?;
            Ok(Answer::created(row.into()))
        })
        .await
}

/// One's passkeys, the latest first: twenty at most.
#[utoipa::path(
    tag = "auth",
    params(ListFew),
    responses((status = 200, description = "The passkeys", body = ListEnvelope<PasskeyView>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/auth/passkeys")]
pub async fn list_passkeys(InPerson(caller): InPerson, query: Query<ListFew>) -> ApiResult<Listed<PasskeyView>> {
    let me = caller.user();
    let read = async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::list(conn, me).await?) };
    let rows = at_schema(&caller.db).await?.read(read).await?;
    let passkeys = rows.into_iter().map(PasskeyView::from).collect();
    query.0.of(&caller.db, ("passkeys", me.to_string()), passkeys, |passkey: &PasskeyView| passkey.id.to_string())
}

/// Gives one of one's passkeys another name.
#[utoipa::path(
    tag = "auth",
    params(("id" = Uuid, Path, description = "The passkey")),
    request_body(content = RenamePasskey, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "As it is called now", body = Envelope<PasskeyView>), Refusals),
    security(("bearer" = [])),
)]
#[patch("/api/v1/auth/passkeys/{id}")]
pub async fn rename_passkey(
    _: NoQuery,
    InPerson(caller): InPerson,
    id: Path<Uuid>,
    body: MergePatch<RenamePasskey>,
) -> ApiResult<Reply<PasskeyView>> {
    let (me, id, name) = (caller.user(), id.0, body.0.name);
    let rename = async |conn: &mut TenantTx| -> ApiResult<_> { Ok(store::rename(conn, me, id, name.trim()).await?) };
    let row = at_schema(&caller.db).await?.transaction(rename).await?;
    row.map(|row| Reply(row.into())).ok_or_else(|| ApiError::not_found("passkey"))
}

/// Removes one of one's passkeys: from here on it opens nothing, and no device is trusted any more. Refused where the organisation demands a second factor and
/// there is no other. The last way to sign in stays.
#[utoipa::path(
    tag = "auth",
    params(("id" = Uuid, Path, description = "The passkey")),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "The organisation demands a second factor, and it is the last one; or it is the only way to sign in", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/auth/passkeys/{id}")]
pub async fn remove_passkey(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    client: Client,
    id: Path<Uuid>,
) -> ApiResult<NoContent> {
    let (me, id, session, now) = (caller.user(), id.0, caller.claims.sid, auth.clock.now());
    let (db, client) = (&at_schema(&caller.db).await?, &client);
    let roles = &caller.access.roles;
    let gone = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<bool> {
            // Of two factors that are taken away at the same time one stays where one is demanded.
            let person = users::hold(conn, me).await?;
            let Some(name) = store::remove(conn, me, id).await? else { return Ok(false) };
            let another = store::any(conn, me).await? || gate::has_authenticator(conn, db, me).await?;
            if !another && gate::is_demanded(conn, db, roles).await? {
                let said = "Your organisation demands a second factor of your roles.";
                return Err(ApiError::new(Code::Conflict).detail(said));
            }
            ways::check_left(conn, db, &person).await?;
            // Whoever had the passkey may have had devices trusted by it.
            gate::forget_devices(conn, db, me).await?;
            let actor = format!("user:{me}");
            let entry =
                Entry { actor: &actor, action: "passkey.removed", user: me, session: Some(session), reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            mail::notify_security(conn, db, me, SecurityNotice::PasskeyRemoved { name }, Some(client)).await?;
            Ok(true)
        })
        .await?;
    if gone { Ok(NoContent) } else { Err(ApiError::not_found("passkey")) }
}

/// The database with passkeys in it.
async fn at_schema(db: &TenantDb) -> ApiResult<TenantDb> {
    Ok(db.router().at_schema(db.clone(), SINCE).await?)
}
