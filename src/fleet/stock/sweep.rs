//! What nobody will take: never finished, of other migrations, or on a cluster that drains.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::control::clusters::Cluster;
use crate::control::ready::{self, ReadyState, StockRoom, Stocked};
use crate::error::{ApiResult, Code};
use crate::fleet::Fleet;
use crate::fleet::lock::{self, Lock};
use crate::fleet::migrations::Migrations;
use crate::router::MainConn;

/// How old a ready tenant of other operator's migrations has to be to go. Nodes whose directories differ for a moment,
/// while somebody copies files there, do not drop each other's.
const DIFFERENT_FOR: TimeDelta = TimeDelta::seconds(30);

/// How long a stock that goes may take in which somebody still makes one.
const CLEARED_IN: Duration = Duration::from_secs(10);

/// What this node is at.
struct Head<'a> {
    version: i32,
    hash: &'a str,
    now: DateTime<Utc>,
}

/// Whether one that is ready will be taken by nobody. A newer release's is left to the nodes that run it.
fn is_stale(stocked: &Stocked, head: &Head<'_>) -> bool {
    stocked.migrations != head.hash
        && (stocked.schema_version < head.version
            || (stocked.schema_version == head.version && stocked.created_at + DIFFERENT_FOR <= head.now))
}

impl Fleet {
    /// Which of the stock have to go.
    pub(super) async fn unwanted(
        &self,
        migrations: &Migrations,
        rooms: &[StockRoom],
        stock: &[Stocked],
    ) -> ApiResult<Vec<Stocked>> {
        let hash = migrations.hash();
        let head = Head { version: migrations.built_in.head(), hash: &hash, now: self.control.clock.now() };
        let drains =
            |stocked: &Stocked| rooms.iter().any(|room| room.cluster_id == stocked.cluster_id && room.draining);
        let gone: Vec<Stocked> = stock
            .iter()
            .filter(|stocked| stocked.state != ReadyState::Ready || is_stale(stocked, &head) || drains(stocked))
            .cloned()
            .collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let held = lock::held(&self.control).await?;
        Ok(gone.into_iter().filter(|stocked| !held.contains(&lock::tenant_key(stocked.id))).collect())
    }

    /// Drops ready tenants of one cluster, and gives how many went, and what the first one said that did not: one that
    /// stays keeps no other.
    pub(super) async fn drop_stock(&self, cluster: &Cluster, gone: &[Stocked]) -> (usize, ApiResult<()>) {
        let (mut dropped, mut all) = (0, Ok(()));
        for stocked in gone {
            match self.drop_one(cluster, stocked).await {
                Ok(went) => dropped += usize::from(went),
                Err(error) => {
                    tracing::warn!(cluster = %cluster.name, database = stocked.database_name, %error,
                        cause = ?error.cause(), "a ready tenant nobody will take was not dropped; it is tried again");
                    all = all.and(Err(error));
                }
            }
        }
        (dropped, all)
    }

    async fn drop_one(&self, cluster: &Cluster, stocked: &Stocked) -> ApiResult<bool> {
        let (id, seen) = (stocked.id, stocked.state);
        let _lock = match Lock::tenant(&self.control, id).await {
            Ok(lock) => lock,
            Err(error) if error.code() == Code::Conflict => return Ok(false),
            Err(error) => return Err(error),
        };
        let db = &self.control.db;
        // Taken meanwhile, it is a tenant; finished meanwhile by whoever held the lock, it is a good one.
        if !db.read(async move |conn: &mut MainConn| ready::start_drop(conn, id, seen).await).await? {
            return Ok(false);
        }
        self.unmake_ready(cluster, &stocked.database_name, &stocked.role_name).await?;
        db.read(async move |conn: &mut MainConn| ready::remove(conn, id).await).await?;
        tracing::info!(cluster = %cluster.name, database = stocked.database_name, "a ready tenant nobody will take was dropped");
        Ok(true)
    }

    /// Drops a cluster's whole stock, before the cluster is forgotten. A server that does not answer keeps what is on it.
    /// One that is being made is waited for, for a while: its maker has the right to it, and leaves another state than was
    /// seen.
    pub(in crate::fleet) async fn clear_stock(&self, cluster: &Cluster) -> ApiResult<()> {
        let begun = Instant::now();
        while !self.clear_once(cluster).await? && begun.elapsed() < CLEARED_IN {}
        Ok(())
    }

    /// Says whether all went that was seen.
    async fn clear_once(&self, cluster: &Cluster) -> ApiResult<bool> {
        let (here, mut all) = (cluster.id, true);
        let db = &self.control.db;
        let stock = db.read(async |conn: &mut MainConn| ready::list(conn).await).await?;
        for stocked in stock.iter().filter(|stocked| stocked.cluster_id == here) {
            match self.drop_one(cluster, stocked).await {
                Ok(went) => all &= went,
                Err(error) if error.code() == Code::TenantDatabaseUnavailable => {
                    tracing::warn!(cluster = %cluster.name, database = stocked.database_name,
                        "the server does not answer; a ready tenant's database stays there");
                    let id = stocked.id;
                    db.read(async move |conn: &mut MainConn| ready::remove(conn, id).await).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Clock, ClusterId, TenantId};

    #[test]
    fn what_no_node_will_take_is_stale() {
        let now = Clock::system().now();
        let stocked = |version, hash: &str, age| Stocked {
            id: TenantId::generate(),
            cluster_id: ClusterId::generate(),
            state: ReadyState::Ready,
            migrations: hash.into(),
            schema_version: version,
            database_name: "t".into(),
            role_name: "t".into(),
            created_at: now - TimeDelta::seconds(age),
        };
        let head = Head { version: 3, hash: "here", now };
        assert!(!is_stale(&stocked(3, "here", 3600), &head));
        assert!(is_stale(&stocked(2, "before", 0), &head));
        assert!(!is_stale(&stocked(4, "newer release", 3600), &head));
        assert!(is_stale(&stocked(3, "other files", 31), &head));
        assert!(!is_stale(&stocked(3, "other files", 5), &head));
    }
}
