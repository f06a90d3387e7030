//! Whose connections a cluster sees. Names of applications are shown to every role.

use std::time::Duration;

use diesel::sql_types::{Array, Text};
use diesel_async::RunQueryDsl;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{APPLICATION, NodeId};
use crate::router::conn::AdminConn;
use crate::router::connect::{ConnectError, ConnectFailure, ConnectOptions, Target};

/// How long a look may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

async fn names(target: &Target, sql: &str, wanted: Vec<String>) -> Result<Vec<String>, ConnectError> {
    let options = ConnectOptions {
        application_name: "tenantry-look".into(),
        connect_timeout: DEADLINE,
        statement_timeout: Some(DEADLINE),
        ..ConnectOptions::default()
    };
    let look = async {
        let mut conn = AdminConn::open(target, &options).await?;
        let rows: Result<Vec<Name>, _> = diesel::sql_query(sql).bind::<Array<Text>, _>(wanted).load(&mut conn).await;
        rows.map_err(|error| ConnectError::new(ConnectFailure::Other, error))
    };
    let rows = timeout(DEADLINE * 2, look).await.map_err(|_| late())??;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Which of these nodes have a connection to any database of the server.
pub(in crate::router) async fn visible(target: &Target, nodes: &[NodeId]) -> Result<Vec<NodeId>, ConnectError> {
    let sql = "SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE application_name = ANY ($1)";
    let found = names(target, sql, nodes.iter().map(|node| node.application_name()).collect()).await?;
    Ok(nodes.iter().copied().filter(|node| found.contains(&node.application_name())).collect())
}

/// Whether any other node has a connection to the server.
pub(super) async fn others_are_there(client: &Client, me: NodeId) -> Result<bool, ConnectError> {
    let sql =
        format!("SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE '{APPLICATION}%'");
    let found = timeout(DEADLINE, client.simple_query(&sql)).await.map_err(|_| late())?;
    let found = found.map_err(|error| ConnectError::new(ConnectFailure::Other, error))?;
    let mine = me.application_name();
    Ok(found.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) != Some(mine.as_str()),
        _ => false,
    }))
}

fn late() -> ConnectError {
    ConnectError::new(ConnectFailure::Unreachable, "no answer within the deadline")
}
