//! Which step is done how.

use super::run::Run;
use super::{Provisioned, Step, steps, verify};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::operation::{Journal, Steps};
use crate::router::MainConn;

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, _: &mut Journal<'_>) -> ApiResult<()> {
        self.perform_one(step).await
    }

    /// The caller of an interrupted run lost the password that was made, and nothing is activated that was not looked
    /// at by the one who activates it.
    fn is_repeated(&self, step: Step) -> bool {
        matches!(step, Step::FirstAdmin | Step::Verify)
    }

    fn is_left_out(&self, step: Step) -> bool {
        self.leaves_out(step)
    }
}

impl Run<'_> {
    /// Does a step. Doing it again changes nothing.
    pub(super) async fn perform_one(&mut self, step: Step) -> ApiResult<()> {
        match step {
            // The transaction that made the journal made the entry.
            Step::Reserve => Ok(()),
            Step::SigningKey => steps::signing_key(self).await,
            Step::Role => steps::role(self).await,
            Step::Database => steps::database(self).await,
            Step::Grants => steps::grants(self).await,
            Step::Stamp => steps::stamp(self).await,
            Step::Migrations => steps::migrations(self).await,
            Step::OperatorMigrations => steps::operator_migrations(self).await,
            Step::Seed => steps::seed(self).await,
            Step::FirstAdmin => steps::first_admin(self).await,
            Step::Verify => verify::verify(self).await,
            Step::Activate => steps::activate(self).await,
        }
    }

    /// Whether there is nothing to do for it.
    pub(super) fn leaves_out(&self, step: Step) -> bool {
        step == Step::FirstAdmin && self.first_admin.is_none()
    }
}

/// Drives `list` to its end.
pub(super) async fn drive(mut run: Run<'_>, list: &[Step], mut journal: Journal<'_>) -> ApiResult<Provisioned> {
    let slug = journal.operation.tenant.as_ref().map_or_else(String::new, |(_, slug)| slug.to_string());
    let steps = match journal.drive(&mut run, list).await {
        Ok(steps) => steps,
        Err(error) => {
            let remedy = format!("`tenantry tenant delete {slug} --now` takes back what was made");
            journal.progress().note(&remedy);
            return Err(error);
        }
    };
    let id = run.tenant.id;
    let db = &run.fleet.control.db;
    let tenant = db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
    tracing::info!(tenant = %tenant.id, %slug, "provisioned");
    Ok::<_, ApiError>(Provisioned { tenant, steps, admin_password: run.generated, first_session: None })
}
