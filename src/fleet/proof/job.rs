//! The proof as a job: each of its parts is a step, and the signed report stands in its result.

use std::pin::Pin;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Report;
use crate::control::operations::{NewOperation, Operation, OperationKind};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::web::Client;
use crate::fleet::{Fleet, Progress, Silent, StepTime};
use crate::kernel::OperatorId;
use crate::router::tenant::words;

words! {
    /// A step's name, as it is journaled and shown: the proof's parts, by their own names, and what comes after them.
    Step {
        /// Each tenant's database carries its stamp.
        Stamps = "stamps",
        /// What servers grant.
        Grants = "grants",
        /// Roles against databases that are not theirs.
        Roles = "roles",
        /// What no two tenants may share.
        Keys = "keys",
        /// Two tenants of the proof's own.
        Canaries = "canaries",
        /// One against the other.
        Attacks = "attacks",
        /// One is measured while the other is noisy.
        NoisyNeighbour = "noisy_neighbour",
        /// The canaries gone, the report signed.
        Report = "report",
    }
}

type Proving<'a> = Pin<Box<dyn Future<Output = ApiResult<Report>> + Send + 'a>>;

/// Passes on which parts are done.
struct Parts(UnboundedSender<String>);

impl Progress for Parts {
    fn done(&self, part: &StepTime) {
        // Of one that was stopped nobody wants to know any more.
        let _ = self.0.send(part.name.clone());
    }
}

struct Run<'a> {
    fleet: &'a Fleet,
    stop: &'a CancellationToken,
    parts: UnboundedReceiver<String>,
    /// The proof, until it has come to its end.
    proving: Option<Proving<'a>>,
    report: Option<Report>,
}

impl Run<'_> {
    /// Goes on with the proof until this part of it is done, or all of it.
    async fn until(&mut self, part: &str) -> ApiResult<()> {
        let Self { parts, proving, report, .. } = self;
        while let Some(under_way) = proving.as_mut() {
            tokio::select! {
                biased;
                Some(done) = parts.recv() => {
                    if done == part {
                        break;
                    }
                }
                ended = under_way => {
                    *proving = None;
                    *report = Some(ended?);
                }
            }
        }
        Ok(())
    }

    /// Has the proof come to its end without asking anything more: its canaries, and those of earlier ones, go.
    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(proving) = self.proving.take() {
            drop(proving.await);
        }
    }

    async fn put_down(&mut self, journal: &Journal<'_>) -> ApiResult<()> {
        let mut report = self.report.take().ok_or_else(|| ApiError::internal("a proof without its report"))?;
        report.shorten();
        let (document, signature) = self.fleet.sign_report(&report).await?;
        // As text alone: JSON that was read and written anew is not what was signed.
        let result = json!({"passed": report.passed, "document": document, "signature": signature});
        journal.set_result(&result).await
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        let done = journal.beside(self.until(step.as_str())).await;
        if done.is_err() {
            // Whoever hears that it was cancelled finds no canary.
            self.end().await;
            return done;
        }
        match step {
            Step::Report => self.put_down(journal).await,
            _ => Ok(()),
        }
    }

    /// A proof is of one go.
    fn is_repeated(&self, _: Step) -> bool {
        true
    }
}

impl Fleet {
    /// As [`Fleet::prove`], left to a worker: of the server at the public URL, and no other.
    ///
    /// # Errors
    /// 409 while another proof waits for a worker, or is under way.
    pub async fn verify_later(&self, requested_by: Option<OperatorId>) -> ApiResult<Operation> {
        let (kind, input) = (OperationKind::Verify, json!({}));
        self.enqueue(NewOperation { kind, tenant: None, input, background: true, requested_by }).await
    }

    /// Drives a proof that was left to a worker; one that another began is begun anew.
    pub(in crate::fleet) async fn carry_out_verify(&self, operation: &Operation) -> ApiResult<()> {
        let _lock = Lock::operation(&self.control, operation).await?;
        let client = self.at_public_url()?;
        let (done, parts) = unbounded_channel();
        let (heard, stop) = (Parts(done), CancellationToken::new());
        let mut journal = Journal::open(&self.control, operation.clone(), &Silent, None).await?;
        let proving: Proving<'_> = Box::pin(self.prove(&client, &heard, &stop));
        let mut run = Run { fleet: self, stop: &stop, parts, proving: Some(proving), report: None };
        let driven = journal.drive(&mut run, Step::ALL).await.map(drop);
        if driven.is_err() {
            // Also where it was cancelled before its first step: a worker that was killed has left canaries.
            run.end().await;
        }
        driven
    }

    /// Canaries sign in there, with passwords that are told nobody else.
    fn at_public_url(&self) -> ApiResult<Client> {
        let unusable = "The server cannot be asked at its public URL.";
        let url = Url::parse(&self.settings.public_url).map_err(|error| ApiError::internal(error).detail(unusable))?;
        Client::new(url, None).map_err(|error| ApiError::internal(error).detail(unusable))
    }
}
