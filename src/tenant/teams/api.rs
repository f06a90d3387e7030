//! Teams as clients see them.

use actix_web::get;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::store::{self, TeamRow};
use crate::error::ApiResult;
use crate::kernel::{TeamId, UserId};
use crate::rest::{Authorized, Envelope, ListEnvelope, Listed, NoQuery, Paging, Path, Query, Tagged, Versioned};
use crate::router::TenantConn;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::TeamsRead;

/// A team.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Identity.
    pub id: TeamId,
    /// Name.
    #[schema(example = "Field sales")]
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The team that it stands in, whose roles its people have too.
    pub parent_id: Option<TeamId>,
    /// Names of its own roles.
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
    /// How many people are in it, those of teams below not counted.
    #[schema(example = 7)]
    pub member_count: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed; people who come and go are no change of it.
    pub updated_at: DateTime<Utc>,
    /// As `ETag` begins.
    pub version: i64,
}

impl From<TeamRow> for Team {
    fn from(row: TeamRow) -> Self {
        let TeamRow { id, name, description, parent_id, created_at, updated_at, version, roles, members, .. } = row;
        Self { id, name, description, parent_id, roles, member_count: members, created_at, updated_at, version }
    }
}

impl Versioned for Team {
    fn version(&self) -> i64 {
        self.version
    }

    /// People who come and go are no change of it. An empty one is as it was made.
    fn beside(&self) -> String {
        if self.member_count == 0 { String::new() } else { self.member_count.to_string() }
    }
}

/// Which teams.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTeams {
    /// Of this person alone.
    pub member: Option<UserId>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The teams, by name.
#[utoipa::path(
    tag = "teams",
    params(ListTeams),
    responses((status = 200, description = "A page", body = ListEnvelope<Team>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/teams")]
pub async fn list_teams(caller: Authorized<TeamsRead>, query: Query<ListTeams>) -> ApiResult<Listed<Team>> {
    let ListTeams { member, page_size, cursor, include_total } = query.0;
    let filter = member.map(|user| user.to_string()).unwrap_or_default();
    let pages = Paging::new(None, page_size, cursor, include_total)?.of(&caller.db, "teams", "name", filter);
    let seek = pages.seek::<String>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = store::list(conn, member, seek.clone(), limit).await?;
            let total = if counted { Some(store::count(conn, member).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    Ok(pages.listed(rows, |row| row.name_key.clone(), total).map(Team::from))
}

/// A team.
#[utoipa::path(
    tag = "teams",
    params(("id" = TeamId, Path, description = "The team")),
    responses(
        (status = 200, description = "The team, with `ETag`", body = Envelope<Team>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/teams/{id}")]
pub async fn get_team(_: NoQuery, caller: Authorized<TeamsRead>, id: Path<TeamId>) -> ApiResult<Tagged<Team>> {
    let row = caller.db.read(async |conn: &mut TenantConn| store::get(conn, id.0).await).await?;
    Ok(Tagged(row.into()))
}
