//! Work in the background: what a node does every so often besides serving. Stops when told to, after finishing what is
//! under way.

mod schedule;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::Unit;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use schedule::{schedule, serving};

use crate::fleet::Fleet;
use crate::kernel::crypto::random;

/// How long runs take, and what comes of them.
const DURATION: &str = "tenantry.job.duration";

/// The longest that failures keep a job from its next try, beyond its own period.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

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
        metrics::describe_histogram!(DURATION, Unit::Seconds, "Time that a run of a job took, by job and outcome.");
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for job in self.0 {
            tasks.spawn(repeat(job, stopping.clone()));
        }
        Running { stopping, tasks }
    }
}

async fn repeat(job: Job, stopping: CancellationToken) {
    let mut failures = 0;
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(pause(job.period, failures)) => {}
        }
        let begun = Instant::now();
        // One that panics has failed, as others do: it is not to be gone from this node for good.
        let done = AssertUnwindSafe(async { (job.work)().await }).catch_unwind().await;
        let done = done.unwrap_or_else(|_| Err("it panicked".into()));
        let outcome = if done.is_ok() { "done" } else { "failed" };
        metrics::histogram!(DURATION, "job" => job.name, "outcome" => outcome).record(begun.elapsed());
        match done {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                tracing::warn!(job = job.name, cause = %error, "a job failed; it will be tried again");
            }
        }
    }
}

/// The period, or longer while the work fails: while the control plane is down, it is not asked every second by all.
fn pause(period: Duration, failures: u32) -> Duration {
    let [jitter] = random::<1>();
    let backed_off = LONGEST_BACK_OFF.min(period * 2_u32.saturating_pow(failures.min(10)));
    if failures == 0 { period } else { period.max(backed_off * (896 + u32::from(jitter)) / 1024) }
}

/// Jobs that run. Dropped, they end at once.
#[derive(Debug)]
pub struct Running {
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Begins nothing more in the background, and waits for what is under way, that of the fleet too: at most for `patience`
    /// in all.
    pub async fn finish(self, fleet: &Fleet, patience: Duration) {
        let begun = Instant::now();
        self.stop(patience).await;
        fleet.finish_work(patience.saturating_sub(begun.elapsed())).await;
    }

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

    #[test]
    fn failures_make_pauses_longer_up_to_a_bound() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(600));
        assert_eq!((pause(short, 0), pause(long, 9)), (short, long));
        assert!(pause(short, 2) > short * 3 && pause(short, 2) < short * 5);
        assert!(pause(short, u32::MAX) <= LONGEST_BACK_OFF * 9 / 8);
    }

    #[tokio::test]
    async fn one_that_panics_comes_again() {
        let begun = Arc::new(AtomicU32::new(0));
        let counted = begun.clone();
        let running = Housekeeping::new().every("panics", Duration::from_millis(1), move || {
            let before = counted.fetch_add(1, Ordering::Relaxed);
            async move { if before == 0 { panic!("on purpose") } else { Ok(()) } }
        });
        let running = running.start();
        while begun.load(Ordering::Relaxed) < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        running.stop(Duration::from_secs(5)).await;
    }

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
