//! Steps that are done in one go, and journaled together with the transaction that makes the tenant routable. The journal
//! is open from the first moment: a crash leaves a tenant that is being made, and the same command does every step again,
//! each of which finds what is there.

use std::time::Instant;

use super::{CREATE, Provisioned, Step, steps};
use crate::control::migration_runs::Head;
use crate::control::operations::{self, Operation, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::provision::run::Run;
use crate::fleet::{Fleet, Halt, Progress, StepTime};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// The steps so far, as they are shown and journaled.
pub(super) struct Trail<'a> {
    done: Vec<(i32, StepTime)>,
    since: Instant,
    halt: Option<&'a Halt>,
    progress: &'a dyn Progress,
}

impl<'a> Trail<'a> {
    pub(super) fn new(since: Instant, halt: Option<&'a Halt>, progress: &'a dyn Progress) -> Self {
        Self { done: Vec::new(), since, halt, progress }
    }

    /// The effect of a step is there.
    pub(super) fn done(&mut self, position: i32, name: &str) {
        let ms = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.since = Instant::now();
        let step = StepTime { name: name.to_owned(), ms };
        self.progress.done(&step);
        self.done.push((position, step));
        if self.halt.is_some_and(|halt| halt.after == name) {
            std::process::abort();
        }
    }

    fn journal(&self) -> Vec<(i32, String, i64)> {
        self.done.iter().map(|(position, step)| (*position, step.name.clone(), step.ms)).collect()
    }
}

impl Fleet {
    /// The last step: routable, with the journal closed, from the moment this commits.
    pub(super) async fn activate(
        &self,
        operation: &Operation,
        id: TenantId,
        head: Head,
        mut trail: Trail<'_>,
    ) -> ApiResult<Provisioned> {
        const NAME: &str = Step::Activate.as_str();
        if trail.halt.is_some_and(|halt| halt.after == NAME && halt.before_journal) {
            std::process::abort();
        }
        let position = trail.done.last().map_or(0, |(position, _)| position + 1);
        let job = operation.id;
        let mut journal = trail.journal();
        journal.push((position, NAME.to_owned(), 0));
        let made = self
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                operations::steps_done(conn, job, &journal).await?;
                operations::finish(conn, job, OperationState::Done, None).await?;
                tenants::activate(conn, id, &head).await
            })
            .await;
        let tenant = match made {
            Ok(tenant) => tenant,
            // It may have committed though nobody heard of it in time.
            Err(error) => self.active_after_all(job, id).await.ok_or(error)?,
        };
        trail.done(position, NAME);
        let steps = trail.done.into_iter().map(|(_, step)| step).collect();
        Ok(Provisioned { tenant, steps, admin_password: None, first_session: None })
    }

    async fn active_after_all(&self, job: OperationId, id: TenantId) -> Option<TenantRecord> {
        let found = self.control.db.transaction(async move |conn: &mut MainConn| {
            let is_done = operations::is_done_after_all(conn, job).await?;
            Ok::<_, ApiError>(if is_done { tenants::find(conn, id).await? } else { None })
        });
        let found = found.await.inspect_err(|error| tracing::warn!(%job, %error, "nobody knows whether it is active"));
        found.ok().flatten()
    }

    /// Makes a tenant that was just reserved; the caller holds its lock.
    pub(super) async fn make(
        &self,
        mut run: Run<'_>,
        operation: &Operation,
        mut trail: Trail<'_>,
    ) -> ApiResult<Provisioned> {
        let id = run.tenant.id;
        let before_last = CREATE.iter().copied().zip(0_i32..).filter(|(step, _)| *step != Step::Activate);
        for (step, position) in before_last {
            if run.leaves_out(step) {
                continue;
            }
            trail.progress.started(step.as_str());
            if let Err(error) = run.perform_one(step).await {
                return Err(self.fail(operation, step, &trail, error).await);
            }
            trail.done(position, step.as_str());
        }
        let progress = trail.progress;
        let head = match steps::catch_up(&mut run).await {
            Ok(head) => head,
            Err(error) => return Err(self.fail(operation, Step::Activate, &trail, error).await),
        };
        match self.activate(operation, id, head, trail).await {
            Ok(made) => {
                tracing::info!(tenant = %id, slug = %made.tenant.slug, "provisioned");
                Ok(Provisioned { admin_password: run.generated, first_session: run.first_session, ..made })
            }
            Err(error) => {
                Err(self.fail(operation, Step::Activate, &Trail::new(Instant::now(), None, progress), error).await)
            }
        }
    }

    /// Notes in the journal which step failed, and why. The steps before it are not noted: not all of their commits
    /// are known to be durable, and each may be done again.
    async fn fail(&self, operation: &Operation, step: Step, trail: &Trail<'_>, error: ApiError) -> ApiError {
        let job = operation.id;
        let note = format!("{step}: {}", error.client_detail());
        tracing::warn!(%job, %step, %error, cause = ?error.cause(), "a step did not come to its end");
        let noted =
            self.control.db.transaction(async move |conn: &mut MainConn| operations::fail_open(conn, job, &note).await);
        if let Err(error) = noted.await {
            tracing::warn!(%error, "could not note the failure in the journal");
        }
        let slug = operation.tenant.as_ref().map_or_else(String::new, |(_, slug)| slug.to_string());
        trail.progress.note(&format!("step {step} failed; the same command goes on there"));
        trail.progress.note(&format!("`tenantry tenant delete {slug} --now` takes back what was made"));
        error
    }
}
