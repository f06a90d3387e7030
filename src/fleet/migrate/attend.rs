//! Looks up from the work of a run now and then: how far it is, whether it is to stop, and what the nodes see.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::patience::Away;
use super::turns::Turns;
use super::watch::Watch;
use crate::control::operations;
use crate::error::ApiResult;
use crate::fleet::operation::Journal;

/// How often a run looks up from its work.
pub(super) const LOOK_UP: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Attendant<'r, 'j> {
    journal: &'r mut Journal<'j>,
    pub(super) turns: &'r Arc<Turns>,
    pub(super) watch: Watch,
    /// How many tenants the run is about.
    pub(super) total: i64,
    away: Away,
}

impl<'r, 'j> Attendant<'r, 'j> {
    pub(super) fn new(journal: &'r mut Journal<'j>, turns: &'r Arc<Turns>, watch: Watch, total: i64) -> Self {
        Self { journal, turns, watch, total, away: Away::default() }
    }

    /// Looks up from `work` until it ends.
    ///
    /// # Errors
    /// 409 if somebody asked that the run stop, or drives it by now; 503 if the control plane was away for too long.
    pub(super) async fn during(&mut self, work: impl Future<Output = ()>) -> ApiResult<()> {
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(LOOK_UP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Ok(true);
        loop {
            tokio::select! {
                () = &mut work => break,
                _ = ticks.tick(), if heard.is_ok() => {
                    heard = self.look_up().await;
                    match &heard {
                        Err(_) => self.turns.stop.cancel(),
                        Ok(true) => if let Some(why) = self.watch.look().await {
                            self.turns.stop_for(why);
                        },
                        Ok(false) => {}
                    }
                }
            }
        }
        heard?;
        self.look_up().await.map(drop)
    }

    /// Says how far the run is. False if the control plane does not hear it just now, which ends no run.
    async fn look_up(&mut self) -> ApiResult<bool> {
        let over = self.turns.over.load(Ordering::Relaxed);
        match self.journal.advance(over, self.total.max(over)).await {
            Ok(()) => self.away.is_back(),
            Err(error) if self.journal.is_cancelled() || operations::is_taken_over(&error) => return Err(error),
            Err(error) => {
                self.away.bear(error)?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}
