//! Invitations that wait: made by mail, one or many, sent again, taken back.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::api::{CreateUser, insert, invite};
use super::power::check_control;
use super::{rules, store};
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::kernel::page::Direction;
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, ListEnvelope, Listed, NoBody, NoContent, NoQuery,
    Paging, Path, Query,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::{Auth, account};
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, Mail};
use crate::tenant::permissions::UsersWrite;

/// An invitation that waits to be accepted.
#[derive(Debug, Serialize, ToSchema, QueryableByName)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Identity: that of the person who is invited.
    #[diesel(sql_type = SqlUuid)]
    pub id: UserId,
    /// Address.
    #[diesel(sql_type = Text)]
    #[schema(example = "grace@acme.test")]
    pub email: String,
    /// Names of the roles that they will have.
    #[diesel(sql_type = Array<Text>)]
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
    /// When it was made, or sent again.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it runs out.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListInvitations {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

const INVITATIONS: &str = "SELECT u.id, u.email, ARRAY(SELECT r.name FROM user_roles ur JOIN roles r ON r.id = ur.role_id \
    WHERE ur.user_id = u.id ORDER BY r.name) AS roles, i.created_at, i.expires_at \
    FROM invitations i JOIN users u ON u.id = i.user_id WHERE u.status = 'invited' AND i.accepted_at IS NULL";

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

async fn count(conn: &mut TenantConn) -> QueryResult<i64> {
    let query = diesel::sql_query(format!("SELECT count(*) AS total FROM ({INVITATIONS}) waiting"));
    query.get_result::<Counted>(conn).await.map(|row| row.total)
}

/// The invitations that wait, the latest first. Those that ran out are among them; those that are void are not.
#[utoipa::path(
    tag = "invitations",
    params(ListInvitations),
    responses((status = 200, description = "A page", body = ListEnvelope<Invitation>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/invitations")]
pub async fn list_invitations(
    caller: Authorized<UsersWrite>,
    query: Query<ListInvitations>,
) -> ApiResult<Listed<Invitation>> {
    let ListInvitations { page_size, cursor, include_total } = query.0;
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let pages = paging.of(&caller.db, "invitations", "-createdAt", "");
    let seek = pages.seek::<(DateTime<Utc>, Uuid)>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<(Vec<Invitation>, Option<i64>)> {
            let (compare, order, at) = match &seek {
                Some((Direction::Previous, at)) => (">", "ASC", Some(*at)),
                Some((Direction::Next, at)) => ("<", "DESC", Some(*at)),
                None => ("<", "DESC", None),
            };
            let (at, id) = at.unzip();
            let page = format!(
                "{INVITATIONS} AND ($1 IS NULL OR (i.created_at, u.id) {compare} ($1, $2)) \
                 ORDER BY i.created_at {order}, u.id {order} LIMIT $3"
            );
            let page = diesel::sql_query(page)
                .bind::<Nullable<Timestamptz>, _>(at)
                .bind::<Nullable<SqlUuid>, _>(id)
                .bind::<BigInt, _>(limit);
            let rows = page.load(conn).await?;
            Ok((rows, if counted { Some(count(conn).await?) } else { None }))
        })
        .await?;
    Ok(pages.listed(rows, |row| (row.created_at, row.id.uuid()), total))
}

/// Whom to invite.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invite {
    /// One or many, a hundred at most; without passwords.
    #[garde(length(min = 1, max = 100), dive)]
    pub people: Vec<CreateUser>,
}

/// What became of one of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invited {
    /// Address.
    #[schema(example = "grace@acme.test")]
    pub email: String,
    /// Whether a mail is on its way. If not, somebody has the address already.
    pub invited: bool,
    /// The person, if they were invited.
    pub id: Option<UserId>,
}

/// Invites people by mail. Nobody can give a role that may do more than they themselves. Whoever is here already, or is
/// invited already, is left as they are. Not where the sign-up policy is `closed`.
#[utoipa::path(
    tag = "invitations",
    request_body = Invite,
    params(("Idempotency-Key" = Option<String>, Header, description = "Invites once, however often it is sent")),
    responses(
        (status = 201, description = "What became of each, in their order", body = Envelope<Vec<Invited>>),
        (status = 409, description = "The sign-up policy is `closed`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a role is unknown or beyond one's own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/invitations")]
pub async fn invite_people(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    idempotency: Idempotency,
    body: Json<Invite>,
) -> ApiResult<HttpResponse> {
    let people = &body.0.people;
    if let Some(at) = people.iter().position(|person| person.password.is_some()) {
        let said = "Who is invited chooses a password.";
        return Err(ApiError::invalid_field(format!("people[{at}].password"), "unknown_field", said));
    }
    let (auth, db, access, actor) = (&**auth, &caller.db, &*caller.access, caller.actor());
    let by = &audit::actor(&caller);
    idempotency
        .run(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<Vec<Invited>>> {
            account::may_invite(conn, db).await?;
            let mut invited = Vec::new();
            for (at, person) in people.iter().enumerate() {
                let email = person.email.trim().to_owned();
                if store::find_by_email(conn, &email).await?.is_some() {
                    invited.push(Invited { email, invited: false, id: None });
                    continue;
                }
                let made = insert(conn, auth, (access, by), person, None).await;
                let row = made.map_err(|error| error.within(&format!("people[{at}]")))?;
                invite(conn, auth, db, (&row, true), by).await?;
                invited.push(Invited { email, invited: true, id: Some(row.id) });
            }
            Ok(Answer::created(invited))
        })
        .await
}

/// Sends an invitation once more, with another link: the earlier one is void. Also where none waits any more, because whoever is
/// invited got another address or more rights since. One person is sent at most five within an hour (429 `rate_limited`).
#[utoipa::path(
    tag = "invitations",
    params(
        ("id" = UserId, Path, description = "The invitation"),
        ("Idempotency-Key" = Option<String>, Header, description = "Sends once, however often it is sent"),
    ),
    responses((status = 204, description = "A mail is on its way"), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/invitations/{id}/resend")]
pub async fn resend_invitation(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    idempotency: Idempotency,
    _: NoBody,
) -> ApiResult<HttpResponse> {
    let (auth, db, id, actor) = (&**auth, &caller.db, id.0, caller.actor());
    let (access, by) = (&*caller.access, &audit::actor(&caller));
    idempotency
        .run(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<()>> {
            let gone = || ApiError::not_found("invitation");
            store::find(conn, id).await?.ok_or_else(gone)?;
            // Held, so that no rights come in between.
            let row = store::hold(conn, id).await?;
            if row.status != rules::UserStatus::Invited {
                return Err(gone());
            }
            check_control(conn, &access.permissions, id).await?;
            if db.tenant().schema_version >= mail::SINCE {
                let invitation = Mail::Invitation { token: String::new(), by: String::new() };
                account::check_pace(conn, id, (&invitation, "invitation"), auth.clock.now()).await?;
            }
            invite(conn, auth, db, (&row, true), by).await?;
            Ok(Answer::no_content())
        })
        .await
}

/// Takes an invitation back: its link is void, and nobody is invited any more.
#[utoipa::path(
    tag = "invitations",
    params(("id" = UserId, Path, description = "The invitation")),
    responses((status = 204, description = "Taken back"), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/invitations/{id}")]
pub async fn revoke_invitation(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
) -> ApiResult<NoContent> {
    let (id, now) = (id.0, auth.clock.now());
    let actor = audit::actor(&caller);
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            let gone = || ApiError::not_found("invitation");
            store::find(conn, id).await?.ok_or_else(gone)?;
            // Held, so that no rights come in between.
            if store::hold(conn, id).await?.status != rules::UserStatus::Invited {
                return Err(gone());
            }
            check_control(conn, &caller.access.permissions, id).await?;
            let entry = Entry { actor: &actor, action: "invitation.revoked", user: id, session: None, reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    Ok(NoContent)
}
