//! Sessions to look at and to end: one's own, and those of people that one may change.

use actix_web::{delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::mfa;
use super::settings::Auth;
use super::store::{self, SessionRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{SessionId, UserId};
use crate::rest::{Authorized, InPerson, ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::UsersWrite;
use crate::tenant::users::{check_control, store as users};

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Identity.
    pub id: SessionId,
    /// Whether it is that of the token.
    pub current: bool,
    /// From which address it was opened.
    #[schema(example = "203.0.113.7")]
    pub ip: Option<String>,
    /// By which program.
    pub user_agent: Option<String>,
    /// How the person proved who they are (RFC 8176).
    #[schema(example = json!(["pwd", "otp"]))]
    pub amr: Vec<String>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends, unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
}

impl Session {
    fn new(row: SessionRow, current: Option<SessionId>) -> Self {
        let SessionRow { id, ip, user_agent, amr, created_at, last_used_at, expires_at } = row;
        Self { id, current: current == Some(id), ip, user_agent, amr, created_at, last_used_at, expires_at }
    }
}

/// One's open sessions, the latest first: a hundred at most.
#[utoipa::path(
    tag = "auth",
    params(ListFew),
    responses((status = 200, description = "The sessions", body = ListEnvelope<Session>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/auth/sessions")]
pub async fn my_sessions(
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    query: Query<ListFew>,
) -> ApiResult<Listed<Session>> {
    let (me, now, current) = (caller.user(), auth.clock.now(), Some(caller.claims.sid));
    let read = async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::open_sessions(conn, me, now).await?) };
    let rows = caller.db.read(read).await?;
    let sessions = rows.into_iter().map(|row| Session::new(row, current)).collect();
    query.0.of(&caller.db, ("sessions", me.to_string()), sessions, |session: &Session| session.id.to_string())
}

/// Ends one of one's sessions, on this node at once and everywhere within two seconds.
#[utoipa::path(
    tag = "auth",
    params(("id" = SessionId, Path, description = "The session")),
    responses((status = 204, description = "Ended"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/auth/sessions/{id}")]
pub async fn end_my_session(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    id: Path<SessionId>,
) -> ApiResult<NoContent> {
    let (me, id, now) = (caller.user(), id.0, auth.clock.now());
    let end = async |conn: &mut TenantTx| -> ApiResult<bool> { Ok(store::end_session_of(conn, me, id, now).await?) };
    if !caller.db.transaction(end).await? {
        return Err(ApiError::not_found("session"));
    }
    auth.admission.forget(caller.db.tenant().id, id).await;
    Ok(NoContent)
}

/// A person's open sessions, the latest first: a hundred at most.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path, description = "The person"), ListFew),
    responses((status = 200, description = "The sessions", body = ListEnvelope<Session>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/users/{id}/sessions")]
pub async fn sessions_of(
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    query: Query<ListFew>,
) -> ApiResult<Listed<Session>> {
    let (id, now, current) = (id.0, auth.clock.now(), caller.principal.session());
    let rows = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            users::get(conn, id).await?;
            check_control(conn, &caller.access.permissions, id).await?;
            Ok(store::open_sessions(conn, id, now).await?)
        })
        .await?;
    let sessions = rows.into_iter().map(|row| Session::new(row, current)).collect();
    query.0.of(&caller.db, ("sessions", id.to_string()), sessions, |session: &Session| session.id.to_string())
}

/// Ends all sessions of a person. Nobody may do it to somebody who may do more than they themselves.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 204, description = "Signed out everywhere"), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/users/{id}/sessions")]
pub async fn end_sessions_of(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
) -> ApiResult<NoContent> {
    let (id, now) = (id.0, auth.clock.now());
    caller.in_person_on(id)?;
    let db = &caller.db;
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            users::hold(conn, id).await?;
            check_control(conn, &caller.access.permissions, id).await?;
            mfa::gate::forget_challenges(conn, db, id).await?;
            Ok(store::end_sessions(conn, id, None, "ended_by_admin", now).await?)
        })
        .await?;
    auth.admission.forget_user(caller.db.tenant().id, id).await;
    Ok(NoContent)
}
