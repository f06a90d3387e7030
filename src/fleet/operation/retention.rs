//! What operations leave behind: their rows, and what those that were given up did not clear up.

use chrono::TimeDelta;

use crate::control::operations;
use crate::error::{ApiResult, Code};
use crate::fleet::Fleet;
use crate::router::MainConn;

/// How long an operation that ended can be looked at.
const KEPT: TimeDelta = TimeDelta::days(90);
/// How many rows one sweep takes away.
const AT_ONCE: i64 = 1000;
/// How long something that was interrupted, or failed, can be gone on with where it stopped. After that it is taken for
/// given up: what it holds is taken away, and going on with it begins there anew.
pub(in crate::fleet) const ABANDONED: TimeDelta = TimeDelta::hours(1);

impl Fleet {
    /// Forgets operations that ended long ago, but for the certificates of erasures and whatever is still looked back to.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn sweep_operations(&self) -> ApiResult<usize> {
        let before = self.control.clock.now() - KEPT;
        self.control.db.read(async move |conn: &mut MainConn| operations::trim(conn, before, AT_ONCE).await).await
    }

    /// Takes away backups that nobody makes any more, and the dumps of clones that were given up.
    ///
    /// # Errors
    /// If the control plane does not answer. What the storage does not let go now goes the next time.
    pub async fn sweep_left_behind(&self) -> ApiResult<()> {
        if self.settings.storage.is_none() {
            return Ok(());
        }
        self.sweep_backups().await?;
        self.sweep_dumps().await
    }
}

/// What became of taking one thing away: somebody works on it after all, or it goes the next time.
pub(in crate::fleet) fn tell(what: &str, done: ApiResult<()>) {
    match done {
        Ok(()) => tracing::info!("{what} was taken away"),
        Err(error) if matches!(error.code(), Code::Conflict | Code::NotFound) => {}
        Err(error) => tracing::warn!(%error, cause = ?error.cause(), "{what} stays for now"),
    }
}
