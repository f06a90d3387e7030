//! Whether the budgets can hold when one more node begins to serve: by what each server has, and by how many share it.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::NodeId;
use crate::kernel::ClusterId;
use crate::kernel::crypto::MasterKeys;
use crate::router::admin_row::AdminRow;
use crate::router::conn::{AdminConn, MainConn};
use crate::router::connect::{ConnectError, ConnectFailure, ConnectOptions, Target};
use crate::router::error::{Error, Result};

/// Connections that ordinary roles may have. PostgreSQL 16 keeps some for roles of its own, too.
const ROOM: &str = "SELECT current_setting('max_connections')::int AS max, \
    current_setting('superuser_reserved_connections')::int \
    + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved";
/// The share of them that tenants get where nobody says otherwise, in percent: the rest is for provisioning, backups,
/// replication, the control plane's own pool if it lives there, and people.
const SHARE: i32 = 80;
/// How long a look at one server may take when a node starts.
const LOOK: Duration = Duration::from_secs(5);

const CLUSTERS: &str = "\
SELECT id, name, connection_budget, host, port, admin_user, admin_password_sealed, admin_database, tls_mode, tls_ca, \
       tls_client_cert, tls_client_key_sealed \
FROM clusters c WHERE EXISTS (SELECT FROM tenants t WHERE t.cluster_id = c.id) ORDER BY name";
const LIVE: &str = "SELECT count(*) FROM budget_nodes WHERE expires_at > now() AND id IS DISTINCT FROM $1";

/// What a server has.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(crate) struct Room {
    #[diesel(sql_type = Integer)]
    max: i32,
    #[diesel(sql_type = Integer)]
    reserved: i32,
}

impl Room {
    pub(crate) async fn read(server: &mut AdminConn) -> Result<Self> {
        Ok(diesel::sql_query(ROOM).get_result(server).await?)
    }

    /// The most connections that tenants could have.
    pub(crate) const fn left(self) -> i32 {
        self.max - self.reserved
    }

    /// The budget of a cluster whose operator names none.
    pub(crate) const fn budget(self) -> i32 {
        let share = self.left() * SHARE / 100;
        if share < 1 { 1 } else { share }
    }

    pub(crate) fn arithmetic(self) -> String {
        format!("the server has max_connections {} - {} reserved = {}", self.max, self.reserved, self.left())
    }
}

#[derive(QueryableByName)]
struct ClusterRow {
    #[diesel(sql_type = SqlUuid)]
    id: ClusterId,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Integer>)]
    connection_budget: Option<i32>,
    #[diesel(embed)]
    admin: AdminRow,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The clusters with tenants, and how many nodes live.
pub(in crate::router) struct Sharing {
    clusters: Vec<ClusterRow>,
    nodes: i64,
}

/// Reads who shares what; the node `before` is known to have ended.
pub(in crate::router) async fn sharing(conn: &mut MainConn, before: Option<NodeId>) -> Result<Sharing> {
    let clusters = diesel::sql_query(CLUSTERS).load(conn).await?;
    let live = diesel::sql_query(LIVE).bind::<Nullable<SqlUuid>, _>(before.map(NodeId::uuid));
    let nodes: Count = live.get_result(conn).await?;
    Ok(Sharing { clusters, nodes: nodes.count })
}

impl Sharing {
    /// Refuses if any cluster has fewer connections than nodes, or a budget that its server cannot keep. A server that
    /// does not answer is believed.
    pub(in crate::router) async fn check(self, keys: &MasterKeys, default_budget: u32) -> Result<()> {
        let default_budget = i32::try_from(default_budget).unwrap_or(i32::MAX);
        let mut looks = Vec::new();
        for cluster in self.clusters {
            let budget = cluster.connection_budget.unwrap_or(default_budget);
            floor(&cluster.name, budget, self.nodes)?;
            looks.push(fits(cluster.name, budget, cluster.admin.read(keys, cluster.id)?));
        }
        join_all(looks).await.into_iter().collect()
    }
}

/// Whether each of the nodes can have the one connection that it needs at least.
fn floor(name: &str, budget: i32, others: i64) -> Result<()> {
    let nodes = others + 1;
    if i64::from(budget) >= nodes {
        return Ok(());
    }
    Err(Error::BudgetCannotHold(format!(
        "Cluster '{name}' has a connection budget of {budget}, and {others} nodes that live + this one = {nodes} nodes \
         need at least 1 connection each. Raise it with `tenantry cluster set {name} --connection-budget {nodes}` or \
         more, or run fewer nodes."
    )))
}

async fn fits(name: String, budget: i32, admin: Target) -> Result<()> {
    let options = ConnectOptions {
        application_name: "tenantry-look".into(),
        connect_timeout: LOOK,
        statement_timeout: Some(LOOK),
        ..ConnectOptions::default()
    };
    let look = async {
        let mut server = AdminConn::open(&admin, &options).await?;
        Room::read(&mut server).await.map_err(|error| ConnectError::new(ConnectFailure::Other, error))
    };
    let Ok(Ok(room)) = timeout(LOOK, look).await else {
        tracing::warn!(cluster = name, "the server does not answer; its connection budget is not checked");
        return Ok(());
    };
    if budget <= room.left() {
        return Ok(());
    }
    Err(Error::BudgetCannotHold(format!(
        "Cluster '{name}' has a connection budget of {budget}, and {}. Lower it with `tenantry cluster set {name} \
         --connection-budget {}`, or raise max_connections there.",
        room.arithmetic(),
        room.budget()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_what_the_server_has() {
        assert_eq!(Room { max: 100, reserved: 3 }.budget(), 77);
        assert_eq!(Room { max: 4, reserved: 3 }.budget(), 1);
        assert_eq!(Room { max: 100, reserved: 3 }.left(), 97);
        assert!(Room { max: 100, reserved: 3 }.arithmetic().contains("max_connections 100 - 3 reserved = 97"));
    }

    #[test]
    fn one_connection_for_each_node() {
        assert!(floor("main", 3, 2).is_ok());
        let refused = floor("main", 2, 2).unwrap_err().to_string();
        assert!(refused.contains("budget of 2, and 2 nodes that live + this one = 3"), "{refused}");
    }
}
