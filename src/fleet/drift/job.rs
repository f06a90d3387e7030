//! The comparison as a job: what was found stands in its result.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::DriftReport;
use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind, OperationState};
use crate::error::ApiResult;
use crate::fleet::lock::Lock;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, Silent, refused};
use crate::kernel::{OperatorId, Slug};
use crate::router::MainConn;
use crate::router::tenant::words;

/// How long whoever wants the job to stop waits for a database that does not answer.
const UNHEARD: Duration = Duration::from_secs(1);
/// The most tenants that a result lists.
const MOST: usize = 1000;

words! {
    /// A step's name, as it is journaled and shown.
    Step {
        /// Every tenant's catalog with the one that its migrations make.
        Compare = "compare",
    }
}

/// The journal's input.
#[derive(Serialize, Deserialize)]
struct Input {
    /// These tenants alone; all of them if there are none.
    only: Vec<Slug>,
}

struct Run<'a> {
    fleet: &'a Fleet,
    only: Vec<String>,
}

impl Run<'_> {
    async fn compare(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let tenants = self.fleet.chosen(&self.only).await?;
        let references = self.fleet.references().await?;
        let (total, mut done) = (i64::try_from(tenants.len()).unwrap_or(i64::MAX), 0);
        let mut report = DriftReport::default();
        let mut looked = pin!(self.fleet.compared(&tenants, &references));
        loop {
            match timeout(UNHEARD, looked.next()).await {
                Ok(Some(found)) => {
                    done += 1;
                    report.take_in(found);
                }
                Ok(None) => break,
                Err(_) => {}
            }
            journal.advance(done, total).await?;
        }
        let listed = &report.tenants[..report.tenants.len().min(MOST)];
        let left_out = report.tenants.len() - listed.len();
        journal.set_result(&json!({"compared": report.compared, "tenants": listed, "leftOut": left_out})).await
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Compare => self.compare(journal).await,
        }
    }
}

impl Fleet {
    /// As [`Fleet::drift`], left to a worker.
    ///
    /// # Errors
    /// 404 for a slug that nobody has; 409 while another comparison is on.
    pub async fn drift_later(&self, only: Vec<Slug>, requested_by: Option<OperatorId>) -> ApiResult<Operation> {
        for slug in &only {
            self.get(slug.as_str()).await?;
        }
        let kind = OperationKind::Drift;
        for state in [OperationState::Running, OperationState::Queued] {
            let filter = OperationFilter { kind: Some(kind), state: Some(state), ..OperationFilter::default() };
            let db = &self.control.db;
            let open = db.read(async move |conn: &mut MainConn| operations::list(conn, &filter).await).await?;
            if let Some(open) = open.first() {
                let said = format!("Another comparison is on (job {}); wait for it to end, or cancel it.", open.id);
                return Err(refused(said));
            }
        }
        let input = json!(Input { only });
        self.enqueue(NewOperation { kind, tenant: None, input, background: true, requested_by }).await
    }

    /// Drives a comparison that was left to a worker.
    pub(in crate::fleet) async fn carry_out_drift(&self, operation: &Operation) -> ApiResult<()> {
        let _lock = Lock::operation(&self.control, operation).await?;
        let Input { only } =
            serde_json::from_value(operation.input.clone()).map_err(crate::error::ApiError::internal)?;
        let mut run = Run { fleet: self, only: only.iter().map(ToString::to_string).collect() };
        Journal::open(&self.control, operation.clone(), &Silent, None).await?.drive(&mut run, Step::ALL).await.map(drop)
    }
}
