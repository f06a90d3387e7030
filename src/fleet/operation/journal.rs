//! The way along the journal.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{Halt, Progress, StepTime, Steps};
use crate::control::ControlPlane;
use crate::control::operations::{self, Driver, Operation, OperationState};
use crate::error::{ApiError, ApiResult};
use crate::fleet::refused;
use crate::router::MainConn;

/// How often progress within a step is written down at most.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Between two looks beside work that says nothing, whether somebody asked that the operation stop.
const LOOK: Duration = Duration::from_secs(1);

/// One operation's journal, while it is driven; its driver holds the lock of what it works on.
pub(in crate::fleet) struct Journal<'a> {
    pub(in crate::fleet) operation: Operation,
    driver: Driver,
    control: &'a ControlPlane,
    progress: &'a dyn Progress,
    halt: Option<Halt>,
    /// Steps that are done: what each took, and what it found out.
    known: HashMap<String, (i64, Option<Value>)>,
    /// Steps that some run has begun, whatever became of them.
    begun: HashSet<String>,
    under_way: String,
    /// Its place, and how many there are.
    place: (i64, i64),
    /// How far the step under way has come.
    within: (i64, i64),
    output: Option<Value>,
    reported: Option<Instant>,
    cancelled: bool,
    /// Whether the step under way may be stopped.
    can_stop: bool,
}

impl<'a> Journal<'a> {
    /// Reads how far an operation has come, and is its only driver from here on: whoever drove it before stops.
    ///
    /// # Errors
    /// 409 if another process has begun to drive it since it was read.
    pub(in crate::fleet) async fn open(
        control: &'a ControlPlane,
        operation: Operation,
        progress: &'a dyn Progress,
        halt: Option<Halt>,
    ) -> ApiResult<Self> {
        let (id, read) = (operation.id, operation.clone());
        let db = &control.db;
        let driver = db.read(async move |conn: &mut MainConn| operations::drive(conn, &read).await).await?;
        let steps = db.read(async move |conn: &mut MainConn| operations::steps(conn, id).await).await?;
        let begun = steps.iter().map(|step| step.name.clone()).collect();
        let known = steps.into_iter().filter(operations::Step::is_done);
        let known = known.map(|step| (step.name, (step.ms.unwrap_or_default(), step.output))).collect();
        Ok(Self {
            operation,
            driver,
            control,
            progress,
            halt,
            known,
            begun,
            under_way: String::new(),
            place: (0, 1),
            within: (0, 1),
            output: None,
            reported: None,
            cancelled: false,
            can_stop: true,
        })
    }

    /// Who drives it: what must be done by one process alone looks in its transaction whether it still is this one.
    pub(in crate::fleet) fn driver(&self) -> Driver {
        self.driver
    }

    /// Who hears of it.
    pub(in crate::fleet) fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// Keeps what the step under way found out, for later steps: neither secrets nor anything personal.
    pub(in crate::fleet) fn keep(&mut self, found: &impl Serialize) -> ApiResult<()> {
        self.output = Some(serde_json::to_value(found).map_err(ApiError::internal)?);
        Ok(())
    }

    /// What a step that is done found out.
    pub(in crate::fleet) fn kept<T: DeserializeOwned>(&self, step: &str) -> ApiResult<Option<T>> {
        let found = self.known.get(step).and_then(|(_, found)| found.clone());
        found.map(serde_json::from_value).transpose().map_err(ApiError::internal)
    }

    /// Whether a step is done.
    pub(in crate::fleet) fn is_done(&self, step: &str) -> bool {
        self.known.contains_key(step)
    }

    /// Whether a step was ever begun, in this run or another: one that is done again is not done meanwhile, and what it
    /// did before still stands.
    pub(in crate::fleet) fn has_begun(&self, step: &str) -> bool {
        self.begun.contains(step)
    }

    /// Whether it stopped because somebody asked for it.
    pub(in crate::fleet) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Passes it on to the operation's parts, which have journals of their own, if somebody asked that it stop.
    pub(in crate::fleet) async fn cancel_parts(&self) {
        if !self.cancelled {
            return;
        }
        let whole = self.operation.id;
        let db = &self.control.db;
        let passed_on = db.read(async move |conn: &mut MainConn| operations::cancel_parts(conn, whole).await).await;
        if let Err(error) = passed_on {
            tracing::warn!(job = %whole, %error, "parts of a cancelled job come to their end");
        }
    }

    /// Says how far the step under way has come; written down every so often. A safe point to stop at.
    ///
    /// # Errors
    /// 409 if somebody asked that the operation stop: return it, and the operation ends as cancelled.
    pub(in crate::fleet) async fn advance(&mut self, done: i64, total: i64) -> ApiResult<()> {
        self.within = (done, total);
        self.progress.advanced(&self.under_way, done, total);
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) && done < total {
            return Ok(());
        }
        self.reported = Some(Instant::now());
        self.note_progress(done, total).await
    }

    /// Waits for work that may say nothing for long, such as that of another server, and looks beside it whether somebody
    /// asked that the operation stop; then the work is dropped where it is.
    ///
    /// # Errors
    /// Those of the work; 409 as [`Self::advance`].
    pub(in crate::fleet) async fn beside<T>(&mut self, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(LOOK, &mut work).await {
                return done;
            }
            let (done, total) = self.within;
            match self.note_progress(done, total).await {
                Ok(()) => {}
                Err(error) if self.cancelled || operations::is_taken_over(&error) => return Err(error),
                // The work needs no control plane.
                Err(error) => tracing::debug!(%error, cause = ?error.cause(), "nobody could be asked whether to go on"),
            }
        }
    }

    /// How far the whole has come, in thousandths of steps.
    async fn note_progress(&mut self, done: i64, total: i64) -> ApiResult<()> {
        let by = self.driver;
        let within = done.clamp(0, total).saturating_mul(1000) / total.max(1);
        let progress = (self.place.0 * 1000 + within, self.place.1 * 1000);
        let db = &self.control.db;
        let asked = db.read(async move |conn: &mut MainConn| operations::report(conn, by, progress).await).await?;
        self.cancelled = asked && self.can_stop;
        if self.cancelled { Err(refused("The job was cancelled.")) } else { Ok(()) }
    }

    /// Drives `list` to its end, passing over what is done already, and gives what each step took. The journal ends as
    /// done, cancelled, or failed at a step: asking for the same again goes on there.
    pub(in crate::fleet) async fn drive<S: Steps>(
        &mut self,
        work: &mut S,
        list: &[S::Step],
    ) -> ApiResult<Vec<StepTime>> {
        let by = self.driver;
        let db = self.control.db.clone();
        if !db.read(async move |conn: &mut MainConn| operations::start(conn, by).await).await? {
            return Err(refused("The job has ended."));
        }
        self.place.1 = i64::try_from(list.len()).unwrap_or(i64::MAX);
        let mut times = Vec::with_capacity(list.len());
        for (step, position) in list.iter().copied().zip(0_i32..) {
            if work.is_left_out(step) {
                continue;
            }
            let name = step.to_string();
            if let Some((ms, _)) = self.known.get(&name).filter(|_| !work.is_repeated(step)) {
                times.push(StepTime { name, ms: *ms });
                continue;
            }
            match self.one(work, step, position, name).await {
                Ok(time) => times.push(time),
                Err(error) if work.is_left_open(&error) => {
                    let (id, step) = (self.operation.id, &self.under_way);
                    tracing::warn!(job = %id, step, %error, cause = ?error.cause(), "a step was interrupted");
                    self.progress.note(&format!("step {step} was interrupted; the same command goes on there"));
                    return Err(error);
                }
                Err(error) => return Err(self.fail(error).await),
            }
        }
        db.read(async move |conn: &mut MainConn| operations::finish_driven(conn, by, OperationState::Done, None).await)
            .await?;
        Ok(times)
    }

    async fn one<S: Steps>(&mut self, work: &mut S, step: S::Step, position: i32, name: String) -> ApiResult<StepTime> {
        let (id, by, db) = (self.operation.id, self.driver, self.control.db.clone());
        self.progress.started(&name);
        self.under_way.clone_from(&name);
        (self.output, self.reported, self.within) = (None, None, (0, 1));
        self.place.0 = i64::from(position);
        self.can_stop = work.can_stop(step);
        self.note_progress(0, 1).await?;
        let begun = Instant::now();
        let written = name.clone();
        db.transaction(async move |conn: &mut MainConn| {
            operations::is_driven(conn, by).await?;
            operations::step_started(conn, id, position, &written).await
        })
        .await?;
        self.begun.insert(name.clone());
        work.perform(step, self).await?;
        let halts = self.halt.as_ref().filter(|halt| halt.after == name);
        if halts.is_some_and(|halt| halt.before_journal) {
            std::process::abort();
        }
        let ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (written, output) = (name.clone(), self.output.clone());
        db.transaction(async move |conn: &mut MainConn| {
            operations::is_driven(conn, by).await?;
            operations::step_done(conn, id, position, &written, ms, output.as_ref()).await
        })
        .await?;
        if halts.is_some() {
            std::process::abort();
        }
        self.known.insert(name.clone(), (ms, self.output.take()));
        let time = StepTime { name, ms };
        self.progress.done(&time);
        Ok(time)
    }

    /// Notes in the journal which step failed and how; nothing if another process drives it by now, which is said.
    async fn fail(&self, error: ApiError) -> ApiError {
        let (id, by, step) = (self.operation.id, self.driver, &self.under_way);
        let kind = self.operation.kind;
        let state = if self.cancelled { OperationState::Cancelled } else { OperationState::Failed };
        let note = format!("{step}: {}", error.client_detail());
        tracing::warn!(job = %id, %kind, step, %error, cause = ?error.cause(), "a step did not come to its end");
        let noted = self
            .control
            .db
            .read(async move |conn: &mut MainConn| operations::finish_driven(conn, by, state, Some(&note)).await)
            .await;
        match noted {
            Err(taken_over) if operations::is_taken_over(&taken_over) => return taken_over,
            Err(error) => tracing::warn!(%error, "could not note the failure in the journal"),
            Ok(()) => {}
        }
        self.progress.note(&format!("step {step} failed; the same command goes on there"));
        error
    }

    /// Keeps what came of the operation.
    pub(in crate::fleet) async fn set_result(&self, result: &impl Serialize) -> ApiResult<()> {
        let by = self.driver;
        let result = serde_json::to_value(result).map_err(ApiError::internal)?;
        self.control
            .db
            .read(async move |conn: &mut MainConn| operations::set_driven_result(conn, by, &result).await)
            .await
    }
}
