//! A new password for whoever forgot theirs.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{ByMail, IF_ANYBODY, RESET_PASSWORD, planted, store, void};
use crate::error::ApiResult;
use crate::kernel::opaque::TokenKind;
use crate::rest::{Answer, Client, Envelope, ErrorEnvelope, Hints, Idempotency, Json, NoQuery};
use crate::router::{Router, TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::attempts::{self, Kind, Line};
use crate::tenant::auth::{Auth, end_sessions, mfa};
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::mail::{self, Mail, Recipient, SecurityNotice};
use crate::tenant::passwords::{self, Whose, choose};
use crate::tenant::users::rules::{email_key, email_shape};
use crate::tenant::users::store::{self as users, UserChange};

/// Whose password was forgotten.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForgotPassword {
    /// The tenant's slug, unless `X-Tenant-ID` or the host names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
    /// Address.
    #[garde(custom(email_shape))]
    #[schema(example = "ada@acme.test")]
    pub email: String,
}

/// Sends a link to a new password, if anybody has the address: good for an hour, once.
///
/// The answer is always the same, and comes as quickly. One person gets at most five mails within an hour.
#[utoipa::path(
    tag = "auth",
    request_body = ForgotPassword,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sends once, however often it is sent")),
    responses(
        (status = 202, description = "A mail is on its way, if anybody has the address", body = Envelope<ByMail>),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/forgot-password")]
pub async fn forgot_password(
    _: NoQuery,
    router: web::Data<Router>,
    hints: Hints,
    idempotency: Idempotency,
    body: Json<ForgotPassword>,
) -> ApiResult<HttpResponse> {
    let ForgotPassword { tenant, email } = body.0;
    let Some(db) = super::named(&router, tenant.as_deref(), &hints).await? else {
        return idempotency.respond(Answer::accepted(IF_ANYBODY), false);
    };
    let db = &db;
    let to = &Recipient { user: None, address: email, name: String::new() };
    idempotency
        .run(db, "forgot-password", async |conn: &mut TenantTx| -> ApiResult<Answer<ByMail>> {
            mail::queue(conn, db, to, Mail::PasswordReset).await?;
            Ok(Answer::accepted(IF_ANYBODY))
        })
        .await
}

/// A new password.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetPassword {
    /// Of the link.
    #[garde(skip)]
    #[schema(value_type = String, example = "tpr_AZq…")]
    pub token: SecretString,
    /// What it is to be.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub new_password: SecretString,
}

/// Sets a new password by the token of a link, and ends all sessions of the person. A second factor stays, and is asked
/// for by the next login. A token is good once.
///
/// Of an account that somebody signed up, and whose address is verified by this for the first time, passkeys, second factor,
/// accounts at identity providers, API keys and apps are taken away: an impostor may have left them.
#[utoipa::path(
    tag = "auth",
    request_body = ResetPassword,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sets once, however often it is sent")),
    responses(
        (status = 204, description = "Set"),
        (status = 403, description = "`tenant_suspended`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/reset-password")]
pub async fn reset_password(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    idempotency: Idempotency,
    body: Json<ResetPassword>,
) -> ApiResult<HttpResponse> {
    let ResetPassword { token, new_password } = body.0;
    let (db, token) = super::linked(&router, &hints, TokenKind::PasswordReset, &token).await?;
    let db = &router.at_schema(db, passwords::SINCE).await?;
    let (hash, now) = (token.hash(), auth.clock.now());
    // Before the hashing, so that a made-up token costs little.
    let user = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            Ok(store::find_token(conn, &hash, RESET_PASSWORD, now).await?)
        })
        .await?;
    // A replay of the first answer needs no token any more; whoever has no key for one is told here.
    let password = match user {
        Some(user) => Some(choose(&auth, db, Whose::Theirs(user), "newPassword", new_password).await?),
        None => None,
    };
    let (auth, client, password) = (&**auth, &client, &password);
    let (left, taken) = oneshot::channel();
    let done = idempotency
        .run(db, "reset-password", async move |conn: &mut TenantTx| -> ApiResult<Answer<()>> {
            let now = auth.clock.now();
            let password = password.clone().ok_or_else(void)?;
            let user = store::take_token(conn, &hash, RESET_PASSWORD, now).await?.ok_or_else(void)?;
            super::drop_trust(conn, db, user).await?;
            let person = users::hold(conn, user).await?;
            let change = UserChange {
                password_hash: Some(password),
                password_change_required: Some(false),
                ..UserChange::default()
            };
            users::update(conn, user, &change, true, now).await?;
            let away = planted::take_away(conn, user).await?;
            if away.is_some() {
                planted::forget_consents(conn, user).await?;
            }
            let away = away.unwrap_or_default();
            store::verified(conn, db, user, now).await?;
            mfa::gate::forget_challenges(conn, db, user).await?;
            end_sessions(conn, user, None, "password_reset", now).await?;
            // Whoever reads the mail of the address is not kept out by others' guesses.
            let email = email_key(&person.email);
            let line = Line::new(auth, db, &email, client, Kind::PasswordChange);
            attempts::succeed(conn, &line, user).await?;
            mail::notify_security(conn, db, user, SecurityNotice::PasswordReset, Some(client)).await?;
            let actor = format!("user:{user}");
            let reason = (!away.said.is_empty()).then_some(&*away.said);
            let entry = Entry { actor: &actor, action: "password.reset", user, session: None, reason };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            // Nobody waits for it where this is a replay.
            let _ = left.send(away);
            Ok(Answer::no_content())
        })
        .await?;
    let tenant = db.tenant().id;
    auth.admission.forget_tenant(tenant).await;
    taken.await.unwrap_or_default().forget(auth, tenant).await;
    Ok(done)
}
