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
    /// Count them all.
    pub include_total: Option<bool>,
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
    let HistoryQuery { page_size, cursor, include_total } = query.0;
    let me = caller.user();
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let pages = paging.of(&caller.db, "login-history", "-at", me.to_string());
    let seek = pages.seek::<(DateTime<Utc>, Uuid)>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let db = caller.db.router().at_schema(caller.db.clone(), SINCE).await?;
    let (rows, total) = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = list(conn, me, seek, limit).await?;
            Ok((rows, if counted { Some(count(conn, me).await?) } else { None }))
        })
        .await?;
    Ok(pages.listed(rows, |row| (row.at, row.id), total))
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

async fn count(conn: &mut TenantConn, user: UserId) -> QueryResult<i64> {
    login_attempts::table.filter(login_attempts::user_id.eq(user)).count().get_result(conn).await
}
