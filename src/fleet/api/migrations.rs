//! The fleet's migration for operators.

use std::time::Duration;

use actix_web::{HttpResponse, get, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::jobs::{JobView, accepted};
use super::{ChangeRefusals, Refusals, spans};
use crate::control::operators::{Operator, Survey};
use crate::error::{ApiError, ApiResult};
use crate::fleet::migrate::{DryRun, FleetStatus};
use crate::fleet::{Fleet, MigrateFleet};
use crate::kernel::{LONGEST_WAIT, Slug};
use crate::rest::{Answer, Envelope, Idempotency, Json, NoQuery, Reply};

/// What a run over the fleet is asked for; what is left out is as `tenantry fleet migrate` has it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMigration {
    /// How many tenants go first, and are watched; 0: nobody does. One in a hundred, at least one, if left out. Where all of
    /// them fail, the run stops and nobody else has a turn; one or two that were not asked for stop nothing. Where none comes
    /// through and some are put aside, for a lock say, others go first in their place.
    #[garde(skip)]
    pub canary: Option<usize>,
    /// How many tenants a wave has.
    #[garde(inner(range(min = 1)))]
    pub wave: Option<usize>,
    /// How many tenants of one cluster are migrated at the same time.
    #[garde(inner(range(min = 1, max = 100)))]
    pub concurrency: Option<usize>,
    /// These tenants alone.
    #[garde(skip)]
    pub only: Option<Vec<Slug>>,
    /// How long a statement waits for a lock, such as `3s`.
    #[garde(skip)]
    pub lock_timeout: Option<String>,
    /// How long a statement may take, such as `15m`.
    #[garde(skip)]
    pub statement_timeout: Option<String>,
    /// Stop when so many tenants have failed.
    #[garde(inner(range(min = 1)))]
    pub max_failures: Option<usize>,
    /// How long the canary is watched at most, such as `10s`.
    #[garde(skip)]
    pub soak: Option<String>,
    /// Say what would be done, and do nothing of it.
    #[garde(skip)]
    #[serde(default)]
    pub dry_run: bool,
}

fn time(field: &'static str, text: Option<&str>, usual: Duration) -> ApiResult<Duration> {
    text.map_or(Ok(usual), |text| spans::within(field, text, (Duration::ZERO..=LONGEST_WAIT, "At most 24d.")))
}

/// What PostgreSQL is given as a bound: nothing at all would be none.
fn bound(field: &'static str, text: Option<&str>, usual: Duration) -> ApiResult<Duration> {
    let bounds = Duration::from_millis(1)..=LONGEST_WAIT;
    text.map_or(Ok(usual), |text| spans::within(field, text, (bounds, "From 1ms to 24d.")))
}

impl NewMigration {
    fn read(self) -> ApiResult<MigrateFleet> {
        let usual = MigrateFleet::default();
        Ok(MigrateFleet {
            canary: self.canary,
            wave: self.wave.unwrap_or(usual.wave),
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            only: self.only.unwrap_or_default(),
            max_failures: self.max_failures,
            lock_timeout: bound("lockTimeout", self.lock_timeout.as_deref(), usual.lock_timeout)?,
            statement_timeout: bound("statementTimeout", self.statement_timeout.as_deref(), usual.statement_timeout)?,
            soak: time("soak", self.soak.as_deref(), usual.soak)?,
        })
    }
}

/// Has a worker bring every tenant to the head of the migrations, in waves. With `dryRun` nothing is done, and the answer
/// is what would be: per tenant the migrations that it lacks, per migration the locks that it takes.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminMigrateFleet",
    params(("Idempotency-Key" = Option<String>, Header, description = "Does it once, however often it is sent")),
    request_body(content = NewMigration, example = json!({"canary": 1, "wave": 50, "soak": "10s", "dryRun": true})),
    responses(
        (status = 200, description = "What would be done (`dryRun`)", body = Envelope<DryRun>),
        (status = 202, description = "It is a job now", body = Envelope<JobView>),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/fleet/migrations")]
pub async fn migrate_fleet(
    _: NoQuery,
    operator: Operator,
    fleet: web::Data<Fleet>,
    idempotency: Idempotency,
    body: Json<NewMigration>,
) -> ApiResult<HttpResponse> {
    let who = operator.id;
    let plans = body.0.dry_run;
    let wanted = body.0.read()?;
    if !plans {
        let effect =
            async move |fleet: Fleet| -> ApiResult<_> { Ok(accepted(fleet.migrate_later(&wanted, Some(who)).await?)) };
        return fleet.once(who, idempotency, effect).await;
    }
    // Apart: whoever hangs up leaves no database behind that the migrations were tried in.
    let plan = tokio::spawn(async move { fleet.plan_migration(&wanted).await });
    idempotency.respond(Answer::ok(plan.await.map_err(ApiError::internal)??), false)
}

/// How many tenants are at what version, and which of them failed.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetFleetStatus",
    responses((status = 200, description = "How the fleet stands", body = Envelope<FleetStatus>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/fleet/status")]
pub async fn get_fleet_status(
    _: NoQuery,
    _: Operator<Survey>,
    fleet: web::Data<Fleet>,
) -> ApiResult<Reply<FleetStatus>> {
    Ok(Reply(fleet.migration_status().await?))
}
