//! What strangers have left behind.

use chrono::TimeDelta;

use crate::control::{requests, signups};
use crate::error::{ApiResult, Code};
use crate::fleet::Fleet;
use crate::router::MainConn;

/// How long an interrupted sign-up can be gone on with by whoever sends it again.
const UNFINISHED_FOR: TimeDelta = TimeDelta::minutes(10);
/// How long somebody waits for an operator.
const WAITS_FOR: TimeDelta = TimeDelta::days(30);

impl Fleet {
    /// Takes back sign-ups that were interrupted and never sent again, so that their slugs are free; forgets who was
    /// decided about or has waited for too long, old answers and old counts.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn sweep_sign_ups(&self) -> ApiResult<()> {
        let now = self.control.clock.now();
        let unfinished = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                signups::purge(conn, now - WAITS_FOR).await?;
                signups::trim(conn, now).await?;
                requests::trim(conn, now).await?;
                signups::unfinished(conn, now - UNFINISHED_FOR).await
            })
            .await?;
        for tenant in unfinished {
            match self.delete_unfinished(tenant).await {
                Ok(()) => tracing::info!(%tenant, "a sign-up that was never finished was taken back"),
                // Somebody works on it after all.
                Err(error) if matches!(error.code(), Code::Conflict | Code::NotFound) => {}
                Err(error) => tracing::warn!(%tenant, %error, cause = ?error.cause(), "a sign-up was not taken back"),
            }
        }
        Ok(())
    }
}
