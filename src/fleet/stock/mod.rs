//! The stock of ready tenants: on each cluster a few databases that are made, migrated and seeded before anybody asks
//! for them, so that a new tenant takes milliseconds. Any number of nodes keep it together.

mod fill;
mod sweep;

use futures_util::stream::{self, StreamExt as _};

use super::Fleet;
use super::migrations::Migrations;
use crate::control::clusters::{self, Cluster};
use crate::control::ready::{self, StockRoom};
use crate::error::{ApiError, ApiResult};
use crate::router::MainConn;

/// Clusters that are worked on at the same time; each has one database made or dropped at a time by one node.
const CLUSTERS: usize = 4;

/// What one round of keeping the stock did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Ready tenants that were made.
    pub made: usize,
    /// Those that were dropped: never finished, of old migrations, or on a cluster that drains.
    pub dropped: usize,
}

impl Fleet {
    /// Brings every cluster's stock to its size, at the head of the migrations as they are now, and drops what nobody
    /// will take.
    ///
    /// # Errors
    /// If the control plane does not answer, or what one cluster said first; whatever else could be done is done then.
    pub async fn keep_stock(&self) -> ApiResult<Kept> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let (hash, size) = (migrations.hash(), i64::from(self.settings.ready_tenants));
        let keys = self.control.keys.clone();
        let (rooms, stock) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let rooms = ready::rooms(conn, &hash, size).await?;
                Ok::<_, ApiError>((rooms, ready::list(conn).await?))
            })
            .await?;
        let gone = self.unwanted(&migrations, &rooms, &stock).await?;
        if gone.is_empty() && rooms.iter().all(|room| room.missing == 0) {
            return Ok(Kept::default());
        }
        let clusters = self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await?;
        let rounds = clusters.into_iter().map(|cluster| {
            let room = rooms.iter().find(|room| room.cluster_id == cluster.id).cloned();
            let gone: Vec<_> = gone.iter().filter(|stocked| stocked.cluster_id == cluster.id).cloned().collect();
            let migrations = migrations.clone();
            async move {
                let (dropped, all) = self.drop_stock(&cluster, &gone).await;
                // Who comes next is served from the stock, whatever is left over of it.
                let filled = self.fill(&cluster, room.as_ref(), &migrations).await;
                all.and(filled).map(|made| Kept { made, dropped })
            }
        });
        let done: Vec<ApiResult<Kept>> = stream::iter(rounds).buffer_unordered(CLUSTERS).collect().await;
        let mut all = Kept::default();
        for kept in done {
            let kept = kept?;
            all = Kept { made: all.made + kept.made, dropped: all.dropped + kept.dropped };
        }
        Ok(all)
    }

    async fn fill(&self, cluster: &Cluster, room: Option<&StockRoom>, migrations: &Migrations) -> ApiResult<usize> {
        let mut made = 0;
        for _ in 0..room.map_or(0, |room| room.missing) {
            if !self.stock_one(cluster, migrations).await? {
                break;
            }
            made += 1;
        }
        Ok(made)
    }
}
