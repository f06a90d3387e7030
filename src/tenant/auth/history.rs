//! One's own login history.

use actix_web::get;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::attempts::SINCE;
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::kernel::page::Seek;
use crate::rest::{ListEnvelope, Listed, Paging, Query, SignedIn};
use crate::router::TenantConn;
use crate::tenant::docs::Refusals;
use crate::tenant::keyset::latest_first;
use crate::tenant::schema::login_attempts;

/// One try to log in as the caller.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[serde(rename_all = "camelCase")]
#[diesel(table_name = login_attempts)]
pub struct LoginAttempt {
    /// Identity.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// What was tried: `password`, `second_factor`, `step_up`, `password_change`, …
    #[schema(example = "password")]
    pub kind: String,
    /// `succeeded` or `failed`.
    #[schema(example = "succeeded")]
    pub outcome: String,
    /// From which address.
    #[schema(example = "203.0.113.7")]
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
}

/// The caller's login history, newest first.
#[utoipa::path(
    tag = "auth",
    params(HistoryQuery),
    responses((status = 200, description = "A page", body = ListEnvelope<LoginAttempt>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/users/me/login-history")]
pub async fn login_history(caller: SignedIn, query: Query<HistoryQuery>) -> ApiResult<Listed<LoginAttempt>> {
    let HistoryQuery { page_size, cursor } = query.0;
    let me = caller.user();
    let pages = Paging::new(None, page_size, cursor, None)?.of(&caller.db, "login-history", "-at", me.to_string());
    let seek = pages.seek::<(DateTime<Utc>, Uuid)>()?;
    let limit = pages.limit();
    let db = caller.db.router().at_schema(caller.db.clone(), SINCE).await?;
    let rows =
        db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(list(conn, me, seek, limit).await?) }).await?;
    Ok(pages.listed(rows, |row| (row.at, row.id), None))
}

async fn list(
    conn: &mut TenantConn,
    user: UserId,
    seek: Seek<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<LoginAttempt>> {
    use login_attempts::{at, id};
    let theirs = login_attempts::table.filter(login_attempts::user_id.eq(user));
    let query = theirs.select(LoginAttempt::as_select()).limit(limit).into_boxed();
    latest_first!(query, (at, id), seek).load(conn).await
}
