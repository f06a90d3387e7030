//! What a cluster's connection budget may be: by what its server has, and by how many nodes share it.

use std::time::Duration;

use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Fleet, admin, refused};
use crate::control::clusters::{self, Cluster};
use crate::error::{ApiError, ApiResult};
use crate::router::{AdminConn, MainConn, Target};

/// Connections that ordinary roles may have. PostgreSQL 16 keeps some for roles of its own, too.
const ROOM: &str = "SELECT current_setting('max_connections')::int AS max, \
    current_setting('superuser_reserved_connections')::int \
    + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved";
/// The share of them that tenants get where nobody says otherwise, in percent: the rest is for provisioning, backups,
/// replication, the control plane's own pool if it lives there, and people.
const SHARE: i32 = 80;
/// How long a look at one server may take when a node starts.
const LOOK: Duration = Duration::from_secs(5);

/// What a server has.
#[derive(Debug, Clone, Copy, diesel::QueryableByName)]
pub(super) struct Room {
    #[diesel(sql_type = Integer)]
    max: i32,
    #[diesel(sql_type = Integer)]
    reserved: i32,
}

impl Room {
    pub(super) async fn read(server: &mut AdminConn) -> ApiResult<Self> {
        diesel::sql_query(ROOM).get_result(server).await.map_err(ApiError::internal)
    }

    async fn of(target: &Target) -> ApiResult<Self> {
        Self::read(&mut admin::open(target).await?).await
    }

    const fn left(self) -> i32 {
        self.max - self.reserved
    }

    /// The budget of a cluster whose operator names none.
    pub(super) const fn budget(self) -> i32 {
        let share = self.left() * SHARE / 100;
        if share < 1 { 1 } else { share }
    }

    fn arithmetic(self) -> String {
        format!("the server has max_connections {} - {} reserved = {}", self.max, self.reserved, self.left())
    }

    /// Refuses a budget that the server cannot keep.
    pub(super) fn allow(self, budget: i32) -> ApiResult<()> {
        if budget <= self.left() {
            return Ok(());
        }
        let said = format!(
            "A connection budget of {budget} cannot be kept: {}. Choose at most {}, or raise max_connections there.",
            self.arithmetic(),
            self.left()
        );
        Err(ApiError::invalid_field("connectionBudget", "too_large", said.clone()).detail(said))
    }
}

/// Whether each of the nodes can have the one connection that it needs at least.
fn floor(name: &str, budget: i32, others: i64) -> ApiResult<()> {
    let nodes = others + 1;
    if i64::from(budget) >= nodes {
        return Ok(());
    }
    Err(refused(format!(
        "Cluster '{name}' has a connection budget of {budget}, and {others} nodes that live + this one = {nodes} nodes \
         need at least 1 connection each. Raise it with `tenantry cluster set {name} --connection-budget {nodes}` or \
         more, or run fewer nodes."
    )))
}

impl Fleet {
    /// Refuses a budget that the cluster's server cannot keep; one that does not answer is believed.
    pub(super) async fn check_budget(&self, admin: &Target, budget: i32) -> ApiResult<()> {
        match Room::of(admin).await {
            Ok(room) => room.allow(budget),
            Err(error) => {
                tracing::warn!(?error, "the server does not answer, so nothing says whether it can keep the budget");
                Ok(())
            }
        }
    }

    /// What has to hold before another node serves: that every cluster with tenants has a connection for each node, and
    /// a budget that its server can keep. What does not answer is not waited for.
    ///
    /// # Errors
    /// 409 with the arithmetic and what to do.
    pub async fn check_budgets(&self, default_budget: u32) -> ApiResult<()> {
        let keys = self.control.keys.clone();
        let read = async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((clusters::list(conn, &keys).await?, clusters::live_nodes(conn).await?))
        };
        let (clusters, others) = match self.control.db.read(read).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(?error, "the control plane does not answer; the connection budgets are not checked");
                return Ok(());
            }
        };
        let default_budget = i32::try_from(default_budget).unwrap_or(i32::MAX);
        let in_use: Vec<_> = clusters.into_iter().filter(|cluster| cluster.tenants > 0).collect();
        for cluster in &in_use {
            floor(&cluster.name, cluster.connection_budget.unwrap_or(default_budget), others)?;
        }
        let looks = in_use.iter().map(|cluster| fits(cluster, cluster.connection_budget.unwrap_or(default_budget)));
        join_all(looks).await.into_iter().collect()
    }
}

async fn fits(cluster: &Cluster, budget: i32) -> ApiResult<()> {
    let Ok(Ok(room)) = timeout(LOOK, Room::of(&cluster.admin)).await else {
        tracing::warn!(cluster = cluster.name, "the server does not answer; its connection budget is not checked");
        return Ok(());
    };
    room.allow(budget).map_err(|_| {
        refused(format!(
            "Cluster '{}' has a connection budget of {budget}, and {}. Lower it with `tenantry cluster set {} \
             --connection-budget {}`, or raise max_connections there.",
            cluster.name,
            room.arithmetic(),
            cluster.name,
            room.budget()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_what_the_server_has() {
        assert_eq!(Room { max: 100, reserved: 3 }.budget(), 77);
        assert_eq!(Room { max: 4, reserved: 3 }.budget(), 1);
        assert!(Room { max: 100, reserved: 3 }.allow(97).is_ok());
        let refused = Room { max: 100, reserved: 3 }.allow(98).unwrap_err();
        assert!(refused.client_detail().contains("max_connections 100 - 3 reserved = 97"), "{refused:?}");
    }

    #[test]
    fn one_connection_for_each_node() {
        assert!(floor("main", 3, 2).is_ok());
        let refused = floor("main", 2, 2).unwrap_err();
        assert!(refused.client_detail().contains("budget of 2, and 2 nodes that live + this one = 3"), "{refused:?}");
    }
}
