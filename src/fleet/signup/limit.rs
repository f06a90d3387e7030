//! How often one address may ask.

use std::net::IpAddr;
use std::time::Duration;

use super::SignUpSettings;
use crate::config::Network;
use crate::control::signups;
use crate::error::{ApiError, ApiResult, Code, Limit};
use crate::fleet::Fleet;
use crate::rest::customer;
use crate::router::MainConn;

/// How an address stands, for the headers of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How often it may ask within an hour.
    pub limit: u32,
    /// How often it still may.
    pub left: i64,
    /// Seconds until it begins anew.
    pub reset: i64,
    /// It has asked too often.
    pub refused: bool,
}

impl Standing {
    /// The error of one who has asked too often.
    ///
    /// # Errors
    /// 429 `rate_limited`.
    pub fn check(&self) -> ApiResult<()> {
        if !self.refused {
            return Ok(());
        }
        Err(self.error("sign-up", "Too many sign-ups from this address within an hour."))
    }

    /// 429 `rate_limited`, by the limit of this name, and until when.
    pub(in crate::fleet) fn error(&self, name: &'static str, said: &'static str) -> ApiError {
        let wait = Duration::from_secs(u64::try_from(self.reset).unwrap_or(1).max(1));
        let limit = Limit { name, quota: self.limit, window: Duration::from_hours(1) };
        ApiError::new(Code::RateLimited).detail(said).retry_after(wait).limited(limit)
    }
}

impl Fleet {
    /// Counts one more attempt from an address; `None` if it may ask as often as it likes. The count is that of all
    /// nodes.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn count_sign_up(
        &self,
        settings: &SignUpSettings,
        address: Option<IpAddr>,
    ) -> ApiResult<Option<Standing>> {
        self.count_from("sign-up address", (settings.per_hour, &settings.unlimited), address).await
    }

    /// Counts one more of anything that an address may do so often within an hour, but for networks without a limit.
    pub(in crate::fleet) async fn count_from(
        &self,
        what: &'static str,
        (per_hour, unlimited): (u32, &[Network]),
        address: Option<IpAddr>,
    ) -> ApiResult<Option<Standing>> {
        let Some(address) = address else { return Ok(None) };
        if unlimited.iter().any(|network| network.contains(address)) {
            return Ok(None);
        }
        let subject = self.installation().await?.mac.digest(what, &[customer(address).as_bytes()]);
        let now = self.control.clock.now();
        let db = &self.control.db;
        let used = db.read(async move |conn: &mut MainConn| signups::attempt(conn, &subject, now).await).await?;
        let left = i64::from(per_hour) - used.count;
        Ok(Some(Standing {
            limit: per_hour,
            left: left.max(0),
            reset: (used.until - now).num_seconds().max(1),
            refused: left < 0,
        }))
    }
}
