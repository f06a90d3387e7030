//! Drives a list of steps along the journal.

use std::collections::HashMap;
use std::time::Instant;

use super::run::Run;
use super::{Halt, Provisioned, Step, StepTime, steps, verify};
use crate::control::provisionings::{self, ProvisioningState};
use crate::error::{ApiError, ApiResult};
use crate::router::MainConn;

impl Step {
    /// Does the step. Doing it again changes nothing.
    async fn perform(self, run: &mut Run<'_>) -> ApiResult<()> {
        match self {
            // The transaction that made the journal made the entry.
            Self::Reserve => Ok(()),
            Self::SigningKey => steps::signing_key(run).await,
            Self::Role => steps::role(run).await,
            Self::Database => steps::database(run).await,
            Self::Grants => steps::grants(run).await,
            Self::Stamp => steps::stamp(run).await,
            Self::Migrations => steps::migrations(run).await,
            Self::OperatorMigrations => steps::operator_migrations(run).await,
            Self::Seed => steps::seed(run).await,
            Self::FirstAdmin => steps::first_admin(run).await,
            Self::Verify => verify::verify(run).await,
            Self::Activate => steps::activate(run).await,
        }
    }

    /// Whether it is done again although the journal has it: the caller lost the password that was made, and nothing
    /// is activated that was not looked at by the one who activates it.
    const fn is_repeated(self) -> bool {
        matches!(self, Self::FirstAdmin | Self::Verify)
    }
}

/// Drives `list` to its end, passing over what the journal says is done.
pub(super) async fn drive(mut run: Run<'_>, list: &[Step], halt: Option<Halt>) -> ApiResult<Provisioned> {
    let id = run.journal.id;
    let db = run.fleet.control.db.clone();
    let known = db.read(async move |conn: &mut MainConn| provisionings::steps(conn, id).await).await?;
    let known: HashMap<String, i64> =
        known.into_iter().filter(|s| s.is_done()).map(|s| (s.name, s.ms.unwrap_or_default())).collect();
    let mut times = Vec::with_capacity(list.len());
    for (step, position) in list.iter().copied().zip(0_i32..) {
        if step == Step::FirstAdmin && run.first_admin.is_none() {
            continue;
        }
        let name = step.as_str();
        if let Some(ms) = known.get(name).filter(|_| !step.is_repeated()) {
            times.push(StepTime { name: name.into(), ms: *ms });
            continue;
        }
        run.progress.started(name);
        let begun = Instant::now();
        db.read(async move |conn: &mut MainConn| provisionings::step_started(conn, id, position, name).await).await?;
        if let Err(error) = step.perform(&mut run).await {
            return Err(fail(&run, step, error).await);
        }
        let halt = halt.filter(|halt| halt.after == step);
        if halt.is_some_and(|halt| halt.before_journal) {
            std::process::abort();
        }
        let ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        db.read(async move |conn: &mut MainConn| provisionings::step_done(conn, id, position, name, ms).await).await?;
        if halt.is_some() {
            std::process::abort();
        }
        let time = StepTime { name: name.into(), ms };
        run.progress.done(&time);
        times.push(time);
    }
    let tenant_id = run.tenant.id;
    let tenant = db
        .read(async move |conn: &mut MainConn| {
            provisionings::finish(conn, id, ProvisioningState::Done, None).await?;
            crate::control::tenants::get(conn, tenant_id).await
        })
        .await?;
    tracing::info!(tenant = %tenant.id, slug = %tenant.slug, "provisioned");
    Ok(Provisioned { tenant, steps: times, admin_password: run.generated })
}

/// Notes in the journal which step failed and how; the same command resumes it.
async fn fail(run: &Run<'_>, step: Step, error: ApiError) -> ApiError {
    let id = run.journal.id;
    let note = format!("{step}: {}", error.client_detail());
    tracing::warn!(tenant = %run.tenant.id, %step, %error, cause = ?error.cause(), "a provisioning step failed");
    let noted = run
        .fleet
        .control
        .db
        .read(async move |conn: &mut MainConn| {
            provisionings::finish(conn, id, ProvisioningState::Failed, Some(&note)).await
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(%error, "could not note the failure in the journal");
    }
    let slug = &run.tenant.slug;
    run.progress.note(&format!(
        "step {step} failed; the same command resumes, `tenantry tenant delete {slug} --now` takes everything back"
    ));
    error
}
