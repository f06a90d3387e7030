//! Logout, who am I, my sessions.

use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::OperatorView;
use crate::control::docs::Refusals;
use crate::control::fault;
use crate::control::operators::store::{self, SessionRow};
use crate::control::operators::{Oneself, Operator, Operators};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{SessionId, Slug};
use crate::rest::{
    Envelope, ErrorEnvelope, ListEnvelope, ListFew, Listed, NoBody, NoContent, NoQuery, Path, Query, Reply,
};
use crate::router::{MainConn, Router};

/// Ends the session of the token.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorLogout",
    security(("operator" = [])),
    responses(
        (status = 204, description = "Signed out"),
        (status = 401, description = "No token, or a bad, expired or revoked one", body = ErrorEnvelope),
        (status = 503, description = "The control plane does not answer", body = ErrorEnvelope),
    ),
)]
#[post("/api/v1/admin/auth/logout")]
pub async fn logout(operators: web::Data<Operators>, operator: Operator<Oneself>, _: NoBody) -> ApiResult<NoContent> {
    operators.end_session(operator.id, operator.session).await?;
    Ok(NoContent)
}

/// The operator behind a token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Myself {
    /// Who.
    #[serde(flatten)]
    pub operator: OperatorView,
    /// Whether a login asks for a second factor.
    pub second_factor: bool,
    /// The tenants of an owner; null for those who know of all.
    pub tenants: Option<Vec<Slug>>,
}

/// Who the token is of.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorMe",
    responses((status = 200, description = "The operator", body = Envelope<Myself>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/auth/me")]
pub async fn me(_: NoQuery, operators: web::Data<Operators>, operator: Operator<Oneself>) -> ApiResult<Reply<Myself>> {
    let id = operator.id;
    let read = async move |conn: &mut MainConn| {
        Ok::<_, ApiError>((store::find(conn, id).await?, store::tenants_of(conn, id).await?))
    };
    let (found, slugs) = operators.control().db.read(read).await.map_err(fault)?;
    let tenants = operator.reach().only().map(|_| slugs);
    let view = OperatorView { id, email: operator.email, role: operator.role };
    Ok(Reply(Myself { operator: view, second_factor: found.second_factor, tenants }))
}

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorSession {
    /// Identity.
    pub id: SessionId,
    /// Whether it is that of the token.
    pub current: bool,
    /// From where it was opened.
    pub address: Option<String>,
    /// By what.
    pub user_agent: Option<String>,
    /// Whether it was opened with a second factor.
    pub second_factor: bool,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// One's open sessions, the latest first.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorListSessions",
    params(ListFew),
    responses((status = 200, description = "The sessions", body = ListEnvelope<OperatorSession>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/auth/sessions")]
pub async fn list_sessions(
    operators: web::Data<Operators>,
    router: web::Data<Router>,
    operator: Operator<Oneself>,
    query: Query<ListFew>,
) -> ApiResult<Listed<OperatorSession>> {
    let (id, now) = (operator.id, operators.control().clock.now());
    let read = async move |conn: &mut MainConn| store::open_sessions(conn, id, now).await;
    let open = operators.control().db.read(read).await.map_err(fault)?;
    let view = |row: SessionRow| OperatorSession {
        current: row.id == operator.session,
        id: row.id,
        address: row.address,
        user_agent: row.user_agent,
        second_factor: row.second_factor,
        created_at: row.created_at,
        expires_at: row.expires_at,
    };
    let (scope, list) = ((None, &router.installation().mac), ("admin/sessions", id.to_string()));
    query.0.bound(scope, list, open.into_iter().map(view).collect(), |session: &OperatorSession| session.id.to_string())
}

/// Ends one of one's sessions; on this node at once, on the others within a second.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorEndSession",
    params(("id" = SessionId, Path, description = "The session")),
    responses((status = 204, description = "Ended"), Refusals),
    security(("operator" = [])),
)]
#[delete("/api/v1/admin/auth/sessions/{id}")]
pub async fn end_session(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
    id: Path<SessionId>,
) -> ApiResult<NoContent> {
    if operators.end_session(operator.id, id.0).await? { Ok(NoContent) } else { Err(ApiError::not_found("session")) }
}
