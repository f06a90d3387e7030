//! Work in the background: what a node does every so often besides serving. Stops when told to, after finishing what is
//! under way.

mod schedule;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use schedule::schedule;

type Work = Arc<dyn Fn() -> BoxFuture<'static, Result<(), JobError>> + Send + Sync>;
/// Why a run of a job failed. It goes to the log; the next run comes in its time.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

struct Job {
    name: &'static str,
    period: Duration,
    work: Work,
}

/// Jobs to run, each in its own period.
#[derive(Default)]
pub struct Housekeeping(Vec<Job>);

impl fmt::Debug for Housekeeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|job| job.name)).finish()
    }
}

impl Housekeeping {
    /// No jobs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job. Its first run comes after one period, and no two runs of it overlap.
    #[must_use]
    pub fn every<F, Fut>(mut self, name: &'static str, period: Duration, work: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.0.push(Job { name, period, work: Arc::new(move || Box::pin(work())) });
        self
    }

    /// Starts them all.
    #[must_use]
    pub fn start(self) -> Running {
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for job in self.0 {
            tasks.spawn(repeat(job, stopping.clone()));
        }
        Running { stopping, tasks }
    }
}

async fn repeat(job: Job, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(job.period) => {}
        }
        if let Err(error) = (job.work)().await {
            tracing::warn!(job = job.name, cause = %error, "a job failed; it will be tried again");
        }
    }
}

/// Jobs that run. Dropped, they end at once.
#[derive(Debug)]
pub struct Running {
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Begins no further run, and waits for those under way; after `patience` they are dropped.
    pub async fn stop(mut self, patience: Duration) {
        self.stopping.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            tracing::warn!("jobs did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn repeats_after_failures_and_finishes_what_is_under_way() {
        let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (b, e) = (begun.clone(), ended.clone());
        let running = Housekeeping::new()
            .every("count", Duration::from_millis(5), move || {
                let (b, e) = (b.clone(), e.clone());
                async move {
                    b.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                    e.fetch_add(1, Ordering::Relaxed);
                    Err("on purpose".into())
                }
            })
            .start();
        while begun.load(Ordering::Relaxed) < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        running.stop(Duration::from_secs(5)).await;
        assert_eq!(begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    }
}
