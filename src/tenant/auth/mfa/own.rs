//! One's own second factor.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SINCE, factor, gate, store};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::totp::Enrolment;
use crate::rest::{
    Answer, Client, Envelope, ErrorEnvelope, Idempotency, Json, NoBody, NoQuery, Recent, Replay, Reply, SignedIn,
};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::attempts::{self, Kind, Line, locked};
use crate::tenant::auth::settings::Auth;
use crate::tenant::auth::store as sessions;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::users::rules::email_key;
use crate::tenant::users::store as users;

/// How one's second factor stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MySecondFactor {
    /// Whether a login asks for it.
    pub enrolled: bool,
    /// Whether the organisation demands one of one's roles.
    pub required: bool,
    /// Since when it counts.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// How many recovery codes are left.
    #[schema(example = 10)]
    pub recovery_codes_left: i64,
}

/// A code, to show that the authenticator is at hand.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtpCode {
    /// The authenticator's code of now.
    #[garde(skip)]
    #[schema(value_type = String, example = "123456")]
    pub code: SecretString,
}

/// Codes for whoever lost the authenticator, each good once. Shown once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Ten of them.
    #[schema(example = json!(["8f3k-…"]))]
    pub recovery_codes: Vec<String>,
}

impl RecoveryCodes {
    fn new(codes: &[SecretString]) -> Self {
        Self { recovery_codes: codes.iter().map(|code| code.expose_secret().to_owned()).collect() }
    }
}

/// How one's second factor stands.
#[utoipa::path(
    tag = "auth",
    responses((status = 200, description = "As it stands", body = Envelope<MySecondFactor>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/auth/mfa")]
pub async fn my_second_factor(_: NoQuery, caller: SignedIn) -> ApiResult<Reply<MySecondFactor>> {
    let me = caller.user();
    let db = at_schema(&caller.db).await?;
    let roles = &caller.access.roles;
    let seen = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let factor = store::find(conn, me).await?;
            let confirmed_at = factor.and_then(|factor| factor.confirmed_at);
            Ok(MySecondFactor {
                enrolled: confirmed_at.is_some(),
                required: store::is_demanded(conn, roles).await?,
                confirmed_at,
                recovery_codes_left: store::recovery_codes_left(conn, me).await?,
            })
        })
        .await?;
    Ok(Reply(seen))
}

/// Begins a second factor: what the authenticator is told. It counts once a code is confirmed; until then another begin
/// takes its place.
#[utoipa::path(
    tag = "auth",
    params(("Idempotency-Key" = Option<String>, Header, description = "Begins once, however often it is sent: again, it answers with the seed that waits")),
    responses(
        (status = 200, description = "For the authenticator", body = Envelope<Enrolment>),
        (status = 409, description = "There is a second factor already", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/mfa/totp")]
pub async fn enrol_totp(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let (me, now) = (caller.user(), auth.clock.now());
    let db = &at_schema(&caller.db).await?;
    idempotency
        .run_secret(
            db,
            &me.to_string(),
            async |(conn, replay): (&mut TenantTx, Replay)| -> ApiResult<Answer<Enrolment>> {
                let email = users::get(conn, me).await?.email;
                Ok(Answer::ok(match replay {
                    Replay::First => factor::enrol(conn, db, (me, &email), now).await?,
                    Replay::Again => factor::begun(conn, db, (me, &email)).await?,
                }))
            },
        )
        .await
}

/// Confirms the second factor by its first code: from here on a login asks for one. One's other sessions end.
#[utoipa::path(
    tag = "auth",
    request_body = OtpCode,
    params(("Idempotency-Key" = Option<String>, Header, description = "Confirms once, however often it is sent: again, it answers with new recovery codes")),
    responses(
        (status = 200, description = "It counts", body = Envelope<RecoveryCodes>),
        (status = 409, description = "No second factor waits for its first code", body = ErrorEnvelope),
        (status = 422, description = "`code` is not the code of now", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/mfa/totp/confirm")]
pub async fn confirm_totp(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    client: Client,
    idempotency: Idempotency,
    body: Json<OtpCode>,
) -> ApiResult<HttpResponse> {
    prove(&auth, &caller, (&client, idempotency), &body.0.code, Deed::Confirm).await
}

/// Takes one's second factor away, by a code of it or a recovery code. Refused where the organisation demands one and
/// there is no passkey.
#[utoipa::path(
    tag = "auth",
    request_body = OtpCode,
    params(("Idempotency-Key" = Option<String>, Header, description = "Removes once, however often it is sent")),
    responses(
        (status = 204, description = "A login asks for none any more"),
        (status = 409, description = "The organisation demands a second factor, and it is the last one", body = ErrorEnvelope),
        (status = 422, description = "`code` is neither of the authenticator nor a recovery code", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/mfa/totp/remove")]
pub async fn remove_totp(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    client: Client,
    idempotency: Idempotency,
    body: Json<OtpCode>,
) -> ApiResult<HttpResponse> {
    prove(&auth, &caller, (&client, idempotency), &body.0.code, Deed::Remove).await
}

/// Replaces one's recovery codes, by a code of the authenticator. Those from before are good no more.
#[utoipa::path(
    tag = "auth",
    request_body = OtpCode,
    params(("Idempotency-Key" = Option<String>, Header, description = "Replaces once; sent again, it answers with other ones")),
    responses(
        (status = 200, description = "The new ones", body = Envelope<RecoveryCodes>),
        (status = 422, description = "`code` is not the code of now", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/auth/mfa/recovery-codes")]
pub async fn new_recovery_codes(
    _: NoQuery,
    auth: web::Data<Auth>,
    Recent(caller): Recent,
    client: Client,
    idempotency: Idempotency,
    body: Json<OtpCode>,
) -> ApiResult<HttpResponse> {
    prove(&auth, &caller, (&client, idempotency), &body.0.code, Deed::Renew).await
}

/// What a code is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Confirm,
    Remove,
    Renew,
}

/// Does it for a right code; a wrong one counts like a wrong password, so that a stolen token is no way to guess it. Who
/// sends the same again after it was done has lost the recovery codes of the first answer, and gets other ones.
async fn prove(
    auth: &Auth,
    caller: &SignedIn,
    (client, idempotency): (&Client, Idempotency),
    code: &SecretString,
    deed: Deed,
) -> ApiResult<HttpResponse> {
    let (me, session, now) = (caller.user(), caller.claims.sid, auth.clock.now());
    let db = &at_schema(&caller.db).await?;
    let roles = &caller.access.roles;
    let effect = async |(conn, replay): (&mut TenantTx, Replay)| -> ApiResult<ApiResult<Answer<RecoveryCodes>>> {
        if replay == Replay::Again {
            return Ok(Ok(match deed {
                Deed::Remove => Answer::no_content(),
                Deed::Confirm | Deed::Renew => Answer::ok(RecoveryCodes::new(&factor::other_codes(conn, me).await?)),
            }));
        }
        let email = email_key(&users::get(conn, me).await?.email);
        let line = Line::new(auth, db, &email, client, Kind::SecondFactor);
        if let Some(left) = attempts::hold(conn, &line).await? {
            return Ok(Err(locked(left, &auth.settings.limits)));
        }
        if deed == Deed::Remove {
            // Of two factors that are taken away at the same time one stays where one is demanded.
            users::hold(conn, me).await?;
        }
        let right = match deed {
            Deed::Confirm => factor::confirm(conn, db, me, code, now).await?,
            Deed::Remove
                if store::is_demanded(conn, roles).await? && !gate::has_passkey(conn, auth, db, me).await? =>
            {
                let said = "Your organisation demands a second factor of your roles.";
                return Err(ApiError::new(Code::Conflict).detail(said));
            }
            Deed::Remove => factor::take_any(conn, db, me, code, now).await?.then(Vec::new),
            Deed::Renew => factor::renew(conn, db, me, code, now).await?,
        };
        let Some(codes) = right else {
            attempts::fail(conn, &line, Some(me)).await?;
            return Ok(Err(ApiError::invalid_field("code", "invalid", "Not a code of now.")));
        };
        tell(conn, db, caller, deed, client, now).await?;
        match deed {
            Deed::Remove => {
                store::remove(conn, me).await?;
                return Ok(Ok(Answer::no_content()));
            }
            Deed::Confirm => {
                sessions::end_sessions(conn, me, Some(session), "second_factor_added", now).await?;
                sessions::prove_again(conn, session, &["otp"], now).await?;
            }
            Deed::Renew => {}
        }
        Ok(Ok(Answer::ok(RecoveryCodes::new(&codes))))
    };
    let answer = idempotency.run_secret(db, &me.to_string(), effect).await?;
    if deed == Deed::Confirm {
        auth.admission.forget_user(db.tenant().id, me).await;
    }
    Ok(answer)
}

/// Writes down what was done, and tells the person.
async fn tell(
    conn: &mut TenantConn,
    db: &TenantDb,
    caller: &SignedIn,
    deed: Deed,
    client: &Client,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    let (me, session) = (caller.user(), caller.claims.sid);
    let action = match deed {
        Deed::Confirm => "second_factor.added",
        Deed::Remove => "second_factor.removed",
        Deed::Renew => "recovery_codes.renewed",
    };
    let actor = format!("user:{me}");
    let entry = Entry { actor: &actor, action, user: me, session: Some(session), reason: None };
    audit::note(conn, &entry, now).await?;
    let notice = match deed {
        Deed::Confirm => SecurityNotice::SecondFactorAdded,
        Deed::Remove => SecurityNotice::SecondFactorRemoved,
        Deed::Renew => SecurityNotice::RecoveryCodesRenewed,
    };
    mail::notify_security(conn, db, me, notice, Some(client)).await
}

/// The database with second factors in it.
pub(super) async fn at_schema(db: &TenantDb) -> ApiResult<TenantDb> {
    Ok(db.router().at_schema(db.clone(), SINCE).await?)
}
