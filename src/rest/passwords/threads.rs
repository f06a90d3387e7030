//! The threads that hash. They give way to those that answer requests: a storm of logins takes what processor time the
//! others leave, and is no wait for them.

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Of an hour that both want, such a thread gets some six minutes and any other the rest (`sched(7)`): enough that a login
/// is answered on a busy machine, too.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Threads of their own.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// So many, which give way or do not.
    pub(super) fn new(parallel: usize, gives_way: bool) -> Self {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(parallel).thread_name("password-hash");
        if gives_way {
            threads.on_thread_start(give_way);
        }
        Self(Some(threads.build().expect("a process can start threads")))
    }

    /// Works on one of them.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let threads = self.0.as_ref().expect("it is there until it is dropped");
        threads.spawn(async move { work() })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever lets go of it may be asynchronous, and cannot wait.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Linux keeps a priority for each thread. Elsewhere it is the whole process that has one.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None).and_then(|now| setpriority_process(None, NICE.max(now)));
        if let Err(error) = lowered {
            tracing::warn!(%error, "threads that hash passwords do not give way to others");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    #[cfg(target_os = "linux")]
    async fn they_give_way_and_nobody_else_does() {
        let nice = || rustix::process::getpriority_process(None).expect("one's own priority");
        let threads = Threads::new(1, true);
        let here = nice();
        assert_eq!(threads.run(nice).await.expect("it is done"), here.max(NICE));
        assert_eq!(nice(), here);
    }
}
