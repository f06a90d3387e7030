//! Another address for one's account, agreed to from both.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use utoipa::ToSchema;

use super::verify::LinkToken;
use super::{ByMail, LINK, SINCE, check_pace, store, void};
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{Answer, Client, Envelope, ErrorEnvelope, Hints, Idempotency, Json, NoQuery, Recent};
use crate::router::{Router, TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::{Refusals, StrangerRefusals};
use crate::tenant::mail::{self, Mail, Recipient, SecurityNotice};
use crate::tenant::users::rules::{UserStatus, email_key, email_shape, shortened};
use crate::tenant::users::store::{self as users, UserChange};

const BOTH: ByMail = ByMail { message: "Mails are on their way to both addresses. Follow the links in both." };

/// Another address.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeEmail {
    /// What it is to be.
    #[garde(custom(email_shape))]
    #[schema(example = "ada@new.example")]
    pub email: String,
}

/// Asks for another address for one's account: it changes once the links in two mails were followed, one to each address.
/// Needs proof of who one is that is not older than ten minutes. At most five times an hour.
#[utoipa::path(
    tag = "auth",
    request_body = ChangeEmail,
    params(("Idempotency-Key" = Option<String>, Header, description = "Asks once, however often it is sent")),
    responses(
        (status = 202, description = "Both mails are on their way", body = Envelope<ByMail>),
        (status = 409, description = "`already_exists`: `email`", body = ErrorEnvelope),
        (status = 422, description = "It is no address", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/users/me/email")]
pub async fn change_email(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    idempotency: Idempotency,
    body: Json<ChangeEmail>,
) -> ApiResult<HttpResponse> {
    let (me, wanted) = (caller.user(), body.0.email.trim());
    let db = &caller.db.router().at_schema(caller.db.clone(), SINCE).await?;
    let auth = &**auth;
    idempotency
        .run(db, &me.to_string(), async |conn: &mut TenantTx| -> ApiResult<Answer<ByMail>> {
            let now = auth.clock.now();
            let person = users::hold(conn, me).await?;
            if users::find_by_email(conn, wanted).await?.is_some() {
                return Err(ApiError::already_exists("email", "Somebody has this address, or you have it already."));
            }
            let (mac, tenant) = (&db.router().installation().mac, db.tenant().id);
            let token = || OpaqueToken::generate(mac, TokenKind::EmailChange, tenant);
            let (old, new) = (token(), token());
            let text = |token: &OpaqueToken| token.text().expose_secret().to_owned();
            let confirm = Mail::ConfirmEmail { token: text(&new) };
            check_pace(conn, me, (&confirm, "email-change"), now).await?;
            let addresses = (wanted, email_key(&person.email));
            let hashes = (&old.hash(), &new.hash());
            store::want_email(conn, me, (addresses.0, &addresses.1), hashes, now, now + LINK).await?;
            let to = Recipient { user: Some(me), address: wanted.to_owned(), name: person.first_name.clone() };
            mail::queue(conn, db, &to, confirm).await?;
            let to = Recipient { address: person.email.clone(), ..to };
            let mail = Mail::ApproveEmail { token: text(&old), other: wanted.to_owned() };
            mail::queue(conn, db, &to, mail).await?;
            Ok(Answer::accepted(BOTH))
        })
        .await
}

/// Agrees to another address by the token of a link; with the second of the two it changes.
#[utoipa::path(
    tag = "auth",
    request_body = LinkToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Agrees once, however often it is sent")),
    responses(
        (status = 204, description = "Agreed"),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "`already_exists`: somebody else has the address by now", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/confirm-email")]
pub async fn confirm_email(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    idempotency: Idempotency,
    body: Json<LinkToken>,
) -> ApiResult<HttpResponse> {
    let (db, token) = super::linked(&router, &hints, TokenKind::EmailChange, &body.0.token).await?;
    let (auth, db, hash, client) = (&**auth, &db, token.hash(), &client);
    idempotency
        .run(db, "confirm-email", async |conn: &mut TenantTx| -> ApiResult<Answer<()>> {
            let now = auth.clock.now();
            let agreed = store::agree_to_email(conn, &hash, now).await?.ok_or_else(void)?;
            if agreed.old_hash.is_some() || agreed.new_hash.is_some() {
                return Ok(Answer::no_content());
            }
            let user = UserId::from(agreed.user_id);
            let person = users::hold(conn, user).await?;
            if person.status != UserStatus::Active || email_key(&person.email) != agreed.old_key {
                return Err(void());
            }
            if users::find_by_email(conn, &agreed.email).await?.is_some() {
                return Err(ApiError::already_exists("email", "Somebody has this address by now."));
            }
            let notice = SecurityNotice::EmailChanged { to: shortened(&agreed.email) };
            mail::notify_security(conn, db, user, notice, Some(client)).await?;
            let change = UserChange {
                email_key: Some(email_key(&agreed.email)),
                email: Some(agreed.email),
                ..UserChange::default()
            };
            users::update(conn, user, &change, false, now).await?;
            store::verified(conn, db, user, now).await?;
            let actor = format!("user:{user}");
            let entry = Entry { actor: &actor, action: "email.changed", user, session: None, reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            Ok(Answer::no_content())
        })
        .await
}
