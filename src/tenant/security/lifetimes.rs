//! How long sessions live, and how many a person may have.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::claims::ClaimRules;
use super::store::{PolicyRow, security_policy as p};
use crate::rest::Patch;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::auth::rules::Presented;

/// The built-in schema that has them (`V11__throttling.sql`).
const SINCE: i32 = 11;

/// How long sessions live; null where the installation decides.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicy {
    /// Minutes after which a session ends that is not refreshed.
    #[schema(example = 480)]
    pub idle_minutes: Option<i32>,
    /// Hours after which it ends, however often it is refreshed.
    #[schema(example = 720)]
    pub absolute_hours: Option<i32>,
    /// How many a person may have at the same time: who signs in once more ends the oldest. Null for as many as they like.
    #[schema(example = 5)]
    pub max_per_person: Option<i32>,
}

impl SessionPolicy {
    pub(super) const fn of(row: &PolicyRow) -> Self {
        Self {
            idle_minutes: row.session_idle_minutes,
            absolute_hours: row.session_absolute_hours,
            max_per_person: row.session_max_per_person,
        }
    }
}

/// A change of it. Null gives it back to the installation.
#[derive(Debug, Clone, Copy, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchSession {
    /// Minutes after which a session ends that is not refreshed: 5 to 129600.
    #[serde(default)]
    #[garde(inner(range(min = 5, max = 129_600)))]
    #[schema(value_type = Option<i32>, example = 480)]
    pub idle_minutes: Patch<i32>,
    /// Hours after which it ends, however often it is refreshed: 1 to 2160.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 2_160)))]
    #[schema(value_type = Option<i32>, example = 720)]
    pub absolute_hours: Patch<i32>,
    /// How many a person may have at the same time: 1 to 100; null for as many as they like. It holds from each person's next
    /// sign-in on.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 100)))]
    #[schema(value_type = Option<i32>, example = 5)]
    pub max_per_person: Patch<i32>,
}

/// What the policy has to say to a session, read in one statement.
#[derive(Debug, Clone)]
pub(crate) struct SessionRules {
    /// How long it lives.
    pub lifetimes: Lifetimes,
    /// How many of them a person may have.
    pub most: Option<i32>,
    /// What its tokens say besides.
    pub claims: ClaimRules,
    /// Of people with which roles a second factor is demanded; not read before [`super::SINCE`].
    pub factor_of: Vec<String>,
}

/// How long a session of this tenant lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// After its last refresh.
    pub idle: TimeDelta,
    /// After it was opened.
    pub absolute: TimeDelta,
}

impl Lifetimes {
    /// The shorter of what the installation and the organisation say.
    fn within(self, idle_minutes: Option<i32>, absolute_hours: Option<i32>) -> Self {
        let minutes = idle_minutes.map_or(self.idle, |n| TimeDelta::minutes(n.into()));
        let hours = absolute_hours.map_or(self.absolute, |n| TimeDelta::hours(n.into()));
        Self { idle: self.idle.min(minutes), absolute: self.absolute.min(hours) }
    }

    /// When a session ends that was opened then and is used now.
    pub fn end(self, opened: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        (opened + self.absolute).min(now + self.idle)
    }

    /// What of a refresh token holds that was given then, of what was opened then: it may have been longer lives that it
    /// was given for.
    pub fn clip(self, token: Presented, opened: DateTime<Utc>, given: DateTime<Utc>) -> Presented {
        Presented {
            expires_at: token.expires_at.min(given + self.idle),
            session_expires_at: token.session_expires_at.min(opened + self.absolute),
            ..token
        }
    }
}

/// What the policy has to say to sessions of this tenant, which live at most as long as the installation says.
pub(crate) async fn session_rules(
    conn: &mut TenantConn,
    db: &TenantDb,
    (idle, absolute): (Duration, Duration),
) -> QueryResult<SessionRules> {
    let delta = crate::tenant::auth::delta;
    let lifetimes = Lifetimes { idle: delta(idle), absolute: delta(absolute) };
    let plain = SessionRules { lifetimes, most: None, claims: ClaimRules::default(), factor_of: Vec::new() };
    let times = (p::session_idle_minutes, p::session_absolute_hours);
    match db.tenant().schema_version {
        ..SINCE => Ok(plain),
        SINCE..super::SINCE => {
            let (idle, absolute) = p::table.find(true).select(times).first(conn).await?;
            Ok(SessionRules { lifetimes: lifetimes.within(idle, absolute), ..plain })
        }
        super::SINCE.. => {
            type Row = ((Option<i32>, Option<i32>), Option<i32>, serde_json::Value, Vec<String>);
            let columns = (times, p::session_max_per_person, p::token_claims, p::mfa_required_roles);
            let row: Row = p::table.find(true).select(columns).first(conn).await?;
            let ((idle, absolute), most, claims, factor_of) = row;
            let lifetimes = lifetimes.within(idle, absolute);
            Ok(SessionRules { lifetimes, most, claims: ClaimRules::read(claims), factor_of })
        }
    }
}

/// Changes them. Sessions that are older than what they may be now end; the others, and what refreshes them, end earlier.
/// Where nothing gets shorter nobody's session is touched: every refresh would wait for it.
pub(super) async fn set(
    conn: &mut TenantConn,
    row: &PolicyRow,
    change: PatchSession,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let idle = change.idle_minutes.apply(row.session_idle_minutes);
    let absolute = change.absolute_hours.apply(row.session_absolute_hours);
    let most = change.max_per_person.apply(row.session_max_per_person);
    diesel::update(p::table.find(true))
        .set((
            p::session_idle_minutes.eq(idle),
            p::session_absolute_hours.eq(absolute),
            p::session_max_per_person.eq(most),
        ))
        .execute(conn)
        .await?;
    let limited = change.idle_minutes.value().is_some() || change.absolute_hours.value().is_some();
    if limited { shorten(conn, (idle, absolute), now).await } else { Ok(()) }
}

/// What is open ends when these say so, if not before.
async fn shorten(
    conn: &mut TenantConn,
    (idle, absolute): (Option<i32>, Option<i32>),
    now: DateTime<Utc>,
) -> QueryResult<()> {
    // Sessions before their tokens, as by whoever refreshes one. Nulls do not count in `least`.
    diesel::sql_query(
        "UPDATE sessions SET expires_at = least(last_used_at + make_interval(mins => $1), \
                                                created_at + make_interval(hours => $2)) \
         WHERE revoked_at IS NULL AND expires_at > $3 \
         AND expires_at > least(last_used_at + make_interval(mins => $1), created_at + make_interval(hours => $2))",
    )
    .bind::<Nullable<Integer>, _>(idle)
    .bind::<Nullable<Integer>, _>(absolute)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE sessions SET revoked_at = $1, revoked_reason = 'lifetime_shortened' \
         WHERE revoked_at IS NULL AND expires_at <= $1 \
         AND expires_at IN (last_used_at + make_interval(mins => $2), created_at + make_interval(hours => $3))",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Nullable<Integer>, _>(idle)
    .bind::<Nullable<Integer>, _>(absolute)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE refresh_tokens SET expires_at = created_at + make_interval(mins => $1) \
         WHERE expires_at > created_at + make_interval(mins => $1)",
    )
    .bind::<Nullable<Integer>, _>(idle)
    .execute(conn)
    .await
    .map(drop)
}
