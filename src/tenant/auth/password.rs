//! Changing one's own password.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::account;
use super::attempts::{Kind, Line, Outcome, Try, judge, locked};
use super::mfa;
use super::settings::Auth;
use super::store::{self, Credentials};
use crate::error::{ApiError, ApiResult};
use crate::rest::{Answer, Client, ErrorEnvelope, Idempotency, InPerson, Json, NoQuery};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::passwords::{self, Whose, choose};
use crate::tenant::users::rules::email_key;
use crate::tenant::users::store::{self as users, UserChange};

/// The old password and the new one.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangePasswordRequest {
    /// What it is now.
    #[garde(skip)]
    #[schema(value_type = String, format = Password)]
    pub current_password: SecretString,
    /// What it is to be, by the organisation's policy.
    #[garde(skip)]
    #[schema(value_type = String, format = Password)]
    pub new_password: SecretString,
}

/// Changes the caller's password, and ends their other sessions. Links to a new password that they were sent are void.
///
/// A wrong `currentPassword` counts like a failed login, so that a stolen token is no way to guess it.
#[utoipa::path(
    tag = "auth",
    request_body(
        content = ChangePasswordRequest,
        example = json!({"currentPassword": "nine wagons in the rain", "newPassword": "quite another sentence of words"})
    ),
    params(("Idempotency-Key" = Option<String>, Header, description = "Changes once, however often it is sent")),
    responses(
        (status = 204, description = "Changed"),
        (status = 422, description = "The current password is wrong, or the new one will not do", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/change-password")]
pub async fn change_password(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    client: Client,
    idempotency: Idempotency,
    body: Json<ChangePasswordRequest>,
) -> ApiResult<HttpResponse> {
    let ChangePasswordRequest { current_password, new_password } = body.0;
    let (db, me) = (&caller.db.router().at_schema(caller.db.clone(), passwords::SINCE).await?, caller.user());
    let (email, found) = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let email = users::get(conn, me).await?.email;
            Ok((email_key(&email), store::find_credentials(conn, me).await?))
        })
        .await?;
    let matches = auth
        .passwords
        .of(db.tenant().id)
        .verify(current_password, found.as_ref().and_then(Credentials::usable_hash))
        .await?;
    let matched = found.filter(|_| matches);
    // Whoever does not know the current password learns nothing of the earlier ones; nor does anybody, of either, before
    // the guess was judged.
    let chosen = match matched {
        Some(_) => choose(&auth, db, Whose::Theirs(me), "newPassword", new_password).await,
        None => auth.passwords.of(db.tenant().id).hash(new_password).await,
    };
    let session = caller.claims.sid;
    let (auth, matched) = (&**auth, &matched);
    let line = &Line::new(auth, db, &email, &client, Kind::PasswordChange);
    let (actor, client) = (me.to_string(), &client);
    // A refusal is an outcome, not an error: what was counted has to stay.
    let done = idempotency
        .run(db, &actor, async move |conn: &mut TenantTx| -> ApiResult<ApiResult<Answer<()>>> {
            match judge(conn, &Try { line, known: Some(me), matched: matched.as_ref() }).await? {
                Outcome::Passed(_) => {}
                Outcome::Refused => return Ok(Err(wrong())),
                Outcome::Locked(left) => return Ok(Err(locked(left, &auth.settings.limits))),
            }
            let change = UserChange {
                password_hash: Some(chosen?),
                password_change_required: Some(false),
                ..UserChange::default()
            };
            account::drop_trust(conn, db, me).await?;
            users::update(conn, me, &change, true, line.now).await?;
            let by = format!("user:{me}");
            let entry =
                Entry { actor: &by, action: "password.changed", user: me, session: Some(session), reason: None };
            audit::note::<TenantConn>(conn, &entry, line.now).await?;
            mail::notify_security(conn, db, me, SecurityNotice::PasswordChanged, Some(client)).await?;
            mfa::gate::forget_challenges(conn, db, me).await?;
            store::end_sessions(conn, me, Some(session), "password_changed", line.now).await?;
            Ok(Ok(Answer::no_content()))
        })
        .await?;
    auth.admission.forget_user(db.tenant().id, me).await;
    Ok(done)
}

fn wrong() -> ApiError {
    ApiError::invalid_field("currentPassword", "incorrect", "It is not your current password.")
}
