//! "Find my workspaces": whoever has an address is told by mail where it belongs to, and nobody else is told anything.
//!
//! The control plane has a blind index ([`crate::control::addresses`]), kept true by what tenants' databases note
//! of themselves (`carry`). A request writes down the digest of the address that was typed, and is answered; the search
//! is done afterwards (`search`), and believes the index no further than each tenant's own database confirms it.

mod carry;
mod rebuild;
mod search;

pub use rebuild::Indexed;

use std::time::Duration;

use chrono::TimeDelta;

use super::Fleet;
use super::signup::SignUpSettings;
use crate::control::{addresses, searches};
use crate::error::{ApiError, ApiResult, Code};
use crate::router::{MainConn, Router};
use crate::tenant::users::rules::email_key;

/// Searches that one network may ask for within an hour, whatever they are for.
const PER_HOUR: u32 = 30;

/// Carries what tenants' databases note into the blind index, and does the searches, from a node that serves them. Clones
/// share everything.
#[derive(Debug, Clone)]
pub struct Workspaces {
    fleet: Fleet,
    router: Router,
}

impl Workspaces {
    /// Of a node.
    #[must_use]
    pub const fn new(fleet: Fleet, router: Router) -> Self {
        Self { fleet, router }
    }
}

impl Fleet {
    /// Asks for a search, to be done within seconds. The same is done whether anybody has the address or not.
    ///
    /// # Errors
    /// 429 if this network has asked too often; 503 if too many searches wait, or the control plane does not answer.
    pub async fn ask_for_workspaces(
        &self,
        settings: &SignUpSettings,
        network: Option<std::net::IpAddr>,
        address: &str,
    ) -> ApiResult<()> {
        let standing = self.count_from("workspaces network", (PER_HOUR, &settings.unlimited), network).await?;
        if let Some(standing) = standing.filter(|standing| standing.refused) {
            return Err(standing.error("workspaces", "Too many searches from this address within an hour."));
        }
        let (mac, now) = (self.installation().await?.mac.clone(), self.control.clock.now());
        let address = email_key(address);
        let ask = async move |conn: &mut MainConn| -> ApiResult<bool> {
            let keys = addresses::keys(conn).await?;
            let key = keys.iter().find(|key| key.complete).ok_or_else(|| ApiError::internal("no key of addresses"))?;
            Ok(searches::ask(conn, key.id, &key.digest(&mac, &address), now).await?)
        };
        if self.control.db.read(ask).await? {
            return Ok(());
        }
        Err(ApiError::new(Code::Overloaded).retry_after(Duration::from_secs(10)))
    }

    /// Forgets searches that do not count any more, and what is under keys that were retired.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn sweep_workspaces(&self) -> ApiResult<()> {
        let now = self.control.clock.now();
        let sweep = async move |conn: &mut MainConn| -> ApiResult<()> {
            searches::trim(conn, now).await?;
            Ok(addresses::trim(conn, now).await?)
        };
        self.control.db.read(sweep).await
    }
}

/// How long a look or a search may take: then another node may do it.
const LEASE: TimeDelta = TimeDelta::minutes(2);
/// Searches that a node takes at a time, and how often it does so before it waits for its next turn.
const BATCH: i64 = 16;
const BATCHES: usize = 64;
/// Tenants' databases that are asked at the same time.
const AT_ONCE: usize = 4;
