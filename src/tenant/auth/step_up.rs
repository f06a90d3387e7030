//! Proving again who one is, within a session.

use actix_web::{post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::attempts::{self, Kind, Line, Outcome, Try, judge, locked};
use super::mfa;
use super::session::{self, AccessToken, Identity};
use super::settings::Auth;
use super::store::{self, Credentials};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{SessionId, UserId};
use crate::rest::{Client, Envelope, ErrorEnvelope, InPerson, Json, NoQuery, Reply};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::docs::Refusals;
use crate::tenant::security::session_rules;
use crate::tenant::teams;
use crate::tenant::users::rules::email_key;
use crate::tenant::users::store as users;

/// What one proves it with.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepUp {
    /// Password.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub password: SecretString,
    /// The authenticator's code of now, or a recovery code: of who has a second factor.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "123456")]
    pub code: Option<SecretString>,
}

/// Proves again who one is: for what asks for proof that is not older than ten minutes (`step_up_required`).
///
/// The answer is a new access token of the same session; the refresh token stays. Its `amr` says this beside what was shown
/// before. A wrong password or code counts like a failed login.
#[utoipa::path(
    tag = "auth",
    request_body = StepUp,
    responses(
        (status = 200, description = "A token that says so", body = Envelope<AccessToken>),
        (status = 422, description = "The password or the code is wrong, or the code is missing", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/step-up")]
pub async fn step_up(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    client: Client,
    body: Json<StepUp>,
) -> ApiResult<Reply<AccessToken>> {
    let StepUp { password, code } = body.0;
    let (db, me, sid, auth) = (&caller.db, caller.user(), caller.claims.sid, &**auth);
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        Ok((email_key(&users::get(conn, me).await?.email), store::find_credentials(conn, me).await?))
    };
    let (email, found) = db.read(read).await?;
    let line = Line::new(auth, db, &email, &client, Kind::StepUp);
    let look = async |conn: &mut TenantConn| -> ApiResult<_> { Ok(attempts::look(conn, &line).await?.locked(&line)) };
    if let Some(left) = db.read(look).await? {
        return Err(locked(left, &auth.settings.limits));
    }
    let hasher = auth.passwords.of(caller.db.tenant().id);
    let matches = hasher.verify(password, found.as_ref().and_then(Credentials::usable_hash)).await?;
    let matched = found.filter(|_| matches);
    let (line, code) = (&line.again(auth), code.as_ref());
    // A refusal is an outcome, not an error: what was counted has to stay.
    let token = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<ApiResult<AccessToken>> {
            match judge(conn, &Try { line, known: Some(me), matched: matched.as_ref() }).await? {
                Outcome::Passed(_) => {}
                Outcome::Refused => return Ok(Err(wrong("password", "It is not your password."))),
                Outcome::Locked(left) => return Ok(Err(locked(left, &auth.settings.limits))),
            }
            let shown: &[&str] = match mfa::gate::prove(conn, db, me, code, line.now).await? {
                mfa::gate::Proof::None if lacks_factor(conn, db, (me, sid)).await? => {
                    store::end_session(conn, sid, "second_factor_demanded", line.now).await?;
                    return Ok(Err(ApiError::new(Code::TokenRevoked)));
                }
                mfa::gate::Proof::None => &["pwd"],
                mfa::gate::Proof::Right => &["pwd", "otp"],
                mfa::gate::Proof::Missing => return Ok(Err(wrong("code", "Your second factor is asked for too."))),
                mfa::gate::Proof::Wrong => {
                    attempts::fail(conn, line, Some(me)).await?;
                    return Ok(Err(wrong("code", "Not a code of now.")));
                }
            };
            attempts::succeed(conn, line, me).await?;
            let Some((amr, expires_at)) = store::prove_again(conn, sid, shown, line.now).await? else {
                return Err(ApiError::new(Code::TokenRevoked));
            };
            let person = users::get(conn, me).await?;
            let roles = teams::all_roles(conn, db, &person).await?;
            let rules = session_rules(conn, db, auth.settings.session_lifetimes()).await?;
            let extra = rules.claims.of(conn, db, (&person, &roles)).await?;
            let identity = Identity { session: sid, roles, expires_at, amr, auth_time: line.now, extra };
            session::access_token(auth, db, &person, &identity, line.now).map(Ok)
        })
        .await??;
    Ok(Reply(token))
}

/// Whether a session has not seen the second factor that the organisation demands. One that a passkey opened has.
async fn lacks_factor(conn: &mut TenantConn, db: &TenantDb, (me, session): (UserId, SessionId)) -> ApiResult<bool> {
    let person = users::get(conn, me).await?;
    let roles = teams::all_roles(conn, db, &person).await?;
    if !mfa::gate::is_demanded(conn, db, &roles).await? {
        return Ok(false);
    }
    let amr = store::hold_amr(conn, session).await?;
    Ok(amr.is_none_or(|amr| !mfa::gate::is_satisfied(&amr)))
}

fn wrong(field: &'static str, said: &'static str) -> ApiError {
    ApiError::invalid_field(field, "incorrect", said)
}
