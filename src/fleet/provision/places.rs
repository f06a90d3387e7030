//! Who begins to make a tenant next: a few at a time, a bounded number waits, and a line that stands still is told so.
//! Strangers never hold every place, so that operators are not stuck behind them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{ApiError, ApiResult, Code};

/// When whoever found no place may come again.
const AGAIN: Duration = Duration::from_secs(10);

/// The places of one node.
#[derive(Debug)]
pub(in crate::fleet) struct Places {
    all: Line,
    strangers: Line,
    /// Those who have a place, and those who wait.
    room: Arc<Semaphore>,
    patience: Duration,
}

/// Places that are given in the order in which they are asked for.
#[derive(Debug)]
struct Line {
    free: Arc<Semaphore>,
    /// How often one was given.
    given: AtomicU64,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _room: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    _strangers: Option<OwnedSemaphorePermit>,
}

impl Line {
    fn new(places: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(places)), given: AtomicU64::new(0) }
    }

    async fn take(&self) -> ApiResult<OwnedSemaphorePermit> {
        let taken = self.free.clone().acquire_owned().await.map_err(ApiError::internal)?;
        self.given.fetch_add(1, Ordering::Relaxed);
        Ok(taken)
    }

    fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

impl Places {
    /// So many places, half of them for strangers; so many wait at most, and for so long while nobody else gets one.
    pub(in crate::fleet) fn new(places: usize, waiting: usize, patience: Duration) -> Self {
        let room = Arc::new(Semaphore::new(places + waiting));
        Self { all: Line::new(places), strangers: Line::new(places.div_ceil(2)), room, patience }
    }

    /// The next place.
    ///
    /// # Errors
    /// 503 `overloaded` if too many wait, or none gets a place in time.
    pub(super) async fn take(&self, is_stranger: bool) -> ApiResult<Place> {
        let full = || ApiError::new(Code::Overloaded).retry_after(AGAIN);
        let room = self.room.clone().try_acquire_owned().map_err(|_| full())?;
        let mut coming = pin!(async {
            // First among themselves: so that never more of them stand before an operator than may have a place.
            let strangers = if is_stranger { Some(self.strangers.take().await?) } else { None };
            Ok::<_, ApiError>((self.all.take().await?, strangers))
        });
        let line = if is_stranger { &self.strangers } else { &self.all };
        loop {
            let seen = line.given();
            match timeout(self.patience, coming.as_mut()).await {
                Ok(taken) => {
                    return taken.map(|(all, strangers)| Place { _room: room, _all: all, _strangers: strangers });
                }
                // A crowd that is served one after the other waits for as long as that takes.
                Err(_) if line.given() != seen => {}
                Err(_) => return Err(full()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(10);

    fn is_overloaded(taken: ApiResult<Place>) -> bool {
        taken.is_err_and(|error| error.code() == Code::Overloaded && error.retry_after_value() == Some(AGAIN))
    }

    #[tokio::test]
    async fn a_line_that_stands_still_is_told_so() {
        let places = Places::new(1, 5, SHORT);
        let held = places.take(false).await.expect("a place");
        assert!(is_overloaded(places.take(false).await));
        drop(held);
        drop(places.take(false).await.expect("it is free again"));
    }

    #[tokio::test]
    async fn a_crowd_that_is_served_waits_for_longer() {
        let patience = Duration::from_secs(1);
        let places = Places::new(1, 10, patience);
        let one = || async {
            let _place = places.take(false).await.expect("each comes to its turn");
            timeout(patience / 3, pending::<()>()).await.expect_err("so long it takes");
        };
        join_all((0..5).map(|_| one())).await;
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let places = Places::new(1, 1, LONG);
        let held = places.take(false).await.expect("a place");
        let mut waits = pin!(places.take(false));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(is_overloaded(places.take(false).now_or_never().expect("at once")));
        drop(held);
        drop(waits.await.expect("its turn"));
    }

    #[tokio::test]
    async fn operators_are_not_stuck_behind_strangers() {
        let places = Places::new(4, 100, SHORT);
        let _strangers = [places.take(true).await.expect("a place"), places.take(true).await.expect("a place")];
        let mut crowd = pin!(join_all((0..20).map(|_| places.take(true))));
        assert!(crowd.as_mut().now_or_never().is_none());
        let at_once = || places.take(false).now_or_never().expect("at once").expect("a place");
        let _operators = [at_once(), at_once()];
        assert!(crowd.await.into_iter().all(is_overloaded), "strangers have no more than half");
    }
}
