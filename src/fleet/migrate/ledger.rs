//! What becomes of each tenant is written down by one task, many tenants in one transaction: the control plane is asked
//! a few times a second, however quick the tenants are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::locks::Locks;
use super::patience::patiently;
use crate::control::ControlPlane;
use crate::control::migration_runs::{self, Finished, Head};
use crate::error::ApiResult;
use crate::kernel::OperationId;
use crate::router::MainConn;

/// Tenants of one transaction, which holds the head of the registry until it ends.
const BATCH: usize = 64;
/// How long a transaction waits for more tenants: one for each tenant would cost a server nearly as much as a migration
/// does. What a run that is killed has not written down is looked at again.
const GATHER: Duration = Duration::from_millis(100);
/// Tenants that wait to be written down.
const WAITING: usize = 512;

/// Takes what became of tenants.
#[derive(Debug)]
pub(super) struct Ledger {
    sender: mpsc::Sender<Finished>,
    taken: AtomicU64,
    written: watch::Receiver<u64>,
    /// Somebody waits for what was taken.
    hurry: Arc<Notify>,
}

impl Ledger {
    /// Starts to write for one run. The task ends when the ledger is dropped, with an error if something could not
    /// be written down.
    pub(super) fn start(
        control: ControlPlane,
        locks: Arc<Locks>,
        run: OperationId,
        head: Head,
    ) -> (Self, JoinHandle<ApiResult<()>>) {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let (tell, written) = watch::channel(0);
        let hurry = Arc::new(Notify::new());
        let hurried = hurry.clone();
        let task = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                gather(&mut receiver, &mut batch, &hurried).await;
                patiently(|| write(&control, run, &head, &batch)).await?;
                let ids: Vec<_> = batch.drain(..).map(|finished| finished.tenant).collect();
                locks.release(&ids).await;
                tell.send_modify(|written| *written += ids.len() as u64);
            }
            Ok(())
        });
        (Self { sender, taken: AtomicU64::new(0), written, hurry }, task)
    }

    /// Takes what became of one. False if nothing can be written down any more.
    pub(super) async fn take(&self, finished: Finished) -> bool {
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.sender.send(finished).await.is_ok()
    }

    /// Waits until everything that was taken is written down. False if it cannot be: the task has ended, and says itself why.
    pub(super) async fn settled(&self) -> bool {
        let taken = self.taken.load(Ordering::Acquire);
        self.hurry.notify_one();
        self.written.clone().wait_for(|written| *written >= taken).await.is_ok()
    }
}

/// Fills a batch with what comes within a moment.
async fn gather(receiver: &mut mpsc::Receiver<Finished>, batch: &mut Vec<Finished>, hurried: &Notify) {
    let over = tokio::time::sleep(GATHER);
    tokio::pin!(over);
    while batch.len() < BATCH {
        tokio::select! {
            () = &mut over => return,
            () = hurried.notified() => return,
            got = receiver.recv_many(batch, BATCH) => if got == 0 { return },
        }
    }
}

/// Two transactions may have waited for one another; the control plane may be away for a moment.
async fn write(control: &ControlPlane, run: OperationId, head: &Head, batch: &[Finished]) -> ApiResult<()> {
    let (head, batch) = (head.clone(), batch.to_vec());
    control
        .db
        .transaction(async move |conn: &mut MainConn| migration_runs::finish(conn, run, &head, &batch).await)
        .await
}
