//! What operators did. An action is written down before it is done, so that none is done unseen.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::Serialize;
use tokio::runtime::Handle;
use utoipa::ToSchema;

use crate::control::schema::operator_audit as a;
use crate::control::{ControlPlane, fault};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{AuditId, OperatorId};
use crate::router::MainConn;
use crate::router::tenant::words;

words! {
    /// What became of an action.
    Outcome {
        /// It was done, or is under way as a job.
        Done = "done",
        /// It was not allowed, or not possible as asked.
        Refused = "refused",
        /// It did not come to its end.
        Failed = "failed",
    }
}

impl Outcome {
    /// By the status of an answer.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            0..400 => Self::Done,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// An action to be.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The operator; none on the command line.
    pub operator: Option<OperatorId>,
    /// An operator's address, or `cli:` and the account of the machine.
    pub actor: String,
    /// `POST /api/v1/admin/tenants/{id}/suspend`, or `tenant suspend`.
    pub action: String,
    /// What it is done to, as it was named.
    pub target: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// The request.
    pub request_id: Option<String>,
}

/// An action that was written down and has no outcome yet. Dropped without one, because its handler panicked or whoever
/// asked went away, it has failed.
#[derive(Debug)]
pub struct Begun(Option<Unfinished>);

#[derive(Debug)]
struct Unfinished {
    id: AuditId,
    control: ControlPlane,
}

/// An action.
#[derive(Debug, Clone, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = a)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Identity.
    pub id: AuditId,
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// The operator; null on the command line.
    pub operator_id: Option<OperatorId>,
    /// An operator's address, or `cli:` and the account of the machine.
    pub actor: String,
    /// The route, or the command.
    pub action: String,
    /// What it was done to, as it was named.
    pub target: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// `done`, `refused` or `failed`; null while it is under way, or if the node died over it.
    pub outcome: Option<String>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Writes down that an action begins.
///
/// # Errors
/// 503 if the control plane does not answer: then nothing is to be done.
pub async fn begin(control: &ControlPlane, entry: Entry) -> ApiResult<Begun> {
    let id = AuditId::generate();
    control
        .db
        .read(async move |conn: &mut MainConn| {
            diesel::insert_into(a::table)
                .values((
                    a::id.eq(id),
                    a::operator_id.eq(entry.operator),
                    a::actor.eq(entry.actor),
                    a::action.eq(entry.action),
                    a::target.eq(entry.target),
                    a::address.eq(entry.address),
                    a::request_id.eq(entry.request_id),
                ))
                .execute(conn)
                .await?;
            Ok::<_, ApiError>(())
        })
        .await
        .map_err(fault)?;
    Ok(Begun(Some(Unfinished { id, control: control.clone() })))
}

impl Begun {
    /// Writes down what became of it. If that cannot be written, the action stays without an outcome.
    pub async fn end(mut self, outcome: Outcome) {
        if let Some(action) = self.0.take() {
            action.end(outcome).await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let (Some(action), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(action.end(Outcome::Failed));
        }
    }
}

impl Unfinished {
    async fn end(self, outcome: Outcome) {
        let Self { id, control } = self;
        let written = control
            .db
            .read(async move |conn: &mut MainConn| {
                diesel::update(a::table.find(id))
                    .set((a::outcome.eq(outcome.as_str()), a::finished_at.eq(diesel::dsl::now)))
                    .execute(conn)
                    .await?;
                Ok::<_, ApiError>(())
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(action = %id, %outcome, %error, "the outcome of an operator's action could not be written");
        }
    }
}

/// Which actions to list, the latest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this actor only.
    pub actor: Option<String>,
    /// Done to what is named so.
    pub target: Option<String>,
    /// At most so many.
    pub limit: i64,
    /// Those before this one.
    pub after: Option<AuditId>,
    /// Those after this one, the nearest first.
    pub before: Option<AuditId>,
}

/// A boxed query for those actions only that a filter lets through, on whatever page they are.
macro_rules! narrowed {
    ($query:expr, $filter:expr) => {{
        let (mut query, filter) = ($query, $filter);
        if let Some(actor) = &filter.actor {
            query = query.filter(a::actor.eq(actor));
        }
        if let Some(target) = &filter.target {
            query = query.filter(a::target.eq(target));
        }
        query
    }};
}

/// Actions, the latest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn, filter: &AuditFilter) -> ApiResult<Vec<Action>> {
    let mut query = narrowed!(a::table.select(Action::as_select()).into_boxed(), filter);
    query = match filter.before {
        Some(before) => query.filter(a::id.gt(before)).order(a::id.asc()),
        None => query.order(a::id.desc()),
    };
    if let Some(after) = filter.after {
        query = query.filter(a::id.lt(after));
    }
    Ok(query.limit(filter.limit).load(conn).await?)
}

/// How many actions a filter lets through, on whatever page they are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn, filter: &AuditFilter) -> ApiResult<i64> {
    Ok(narrowed!(a::table.select(diesel::dsl::count_star()).into_boxed(), filter).get_result(conn).await?)
}
