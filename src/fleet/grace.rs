//! Whether a machine can tell that a grace period is over: what is dropped by a date is dropped for good.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl as _;

use super::Fleet;
use crate::error::ApiResult;
use crate::kernel::Clock;
use crate::router::MainConn;

/// The most by which this machine's clock and the control plane's may differ, the way there included.
const APART: TimeDelta = TimeDelta::minutes(1);

#[derive(diesel::QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

fn agree(ours: DateTime<Utc>, theirs: DateTime<Utc>) -> bool {
    (ours - theirs).abs() <= APART
}

impl Fleet {
    /// Whether this machine's clock is right as far as the control plane's can tell. Where it is not, nothing is dropped by
    /// a date here, and the log says why.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(super) async fn tells_time(&self) -> ApiResult<bool> {
        let theirs = async |conn: &mut MainConn| -> ApiResult<DateTime<Utc>> {
            let now: Now = diesel::sql_query("SELECT clock_timestamp() AS now").get_result(conn).await?;
            Ok(now.now)
        };
        let theirs = self.control.db.read(theirs).await?;
        // The machine's, where a test has moved ours.
        let ours = Clock::system().now();
        let right = agree(ours, theirs);
        if !right {
            tracing::error!(%ours, %theirs, "this machine's clock is not the control plane's: nothing whose time may be over \
                is dropped from here before they agree (`timedatectl set-ntp true`)");
        }
        Ok(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_within_a_minute() {
        let ours = Clock::system().now();
        for (apart, agrees) in [(0, true), (59, true), (-59, true), (61, false), (-61, false), (86_400 * 30, false)] {
            assert_eq!(agree(ours, ours + TimeDelta::seconds(apart)), agrees, "{apart} s");
        }
    }
}
