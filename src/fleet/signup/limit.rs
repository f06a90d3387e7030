//! How often one address may ask.

use std::net::IpAddr;
use std::time::Duration;

use super::SignUpSettings;
use crate::config::Network;
use crate::control::signups;
use crate::error::{ApiError, ApiResult, Code, Limit};
use crate::fleet::Fleet;
use crate::rest::{customer, site};
use crate::router::MainConn;

/// How many times what one customer may, all those of one site may together: nobody has as many addresses as they like.
const SITE: u32 = 10;

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
    /// Counts one more attempt from an address, and from the site that it is of; `None` if it may ask as often as it likes.
    /// The count is that of all nodes.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn count_sign_up(
        &self,
        settings: &SignUpSettings,
        address: Option<IpAddr>,
    ) -> ApiResult<Option<Standing>> {
        let own = self.count_from("sign-up address", (settings.per_hour, &settings.unlimited), address).await?;
        // One customer alone does not use up what its site may.
        let Some(site) = own.filter(|own| !own.refused).and(address).and_then(site) else { return Ok(own) };
        let all = self.count_one("sign-up site", settings.per_hour.saturating_mul(SITE), &site).await?;
        Ok(if all.refused { Some(all) } else { own })
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
        self.count_one(what, per_hour, &customer(address)).await.map(Some)
    }

    async fn count_one(&self, what: &'static str, per_hour: u32, whose: &str) -> ApiResult<Standing> {
        let subject = self.installation().await?.mac.digest(what, &[whose.as_bytes()]);
        let now = self.control.clock.now();
        let db = &self.control.db;
        let used = db.read(async move |conn: &mut MainConn| signups::attempt(conn, &subject, now).await).await?;
        let left = i64::from(per_hour) - used.count;
        Ok(Standing {
            limit: per_hour,
            left: left.max(0),
            reset: (used.until - now).num_seconds().max(1),
            refused: left < 0,
        })
    }
}
