//! What the demo installation consists of besides tenants: the control plane's database on the local server, that
//! server as the cluster `local`, and an operator.

use anyhow::Context as _;
use diesel::sql_types::{Bool, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use secrecy::ExposeSecret;

use super::directory::Login;
use crate::control::clusters::{ClusterChanges, NewCluster};
use crate::control::operators::{OperatorRole, Operators};
use crate::error::Code;
use crate::fleet::{Fleet, scram};
use crate::http::Node;
use crate::router::{AdminConn, ConnectOptions, Target};

/// The cluster's name.
pub(super) const CLUSTER: &str = "local";
/// The control plane's database, and the role that owns it.
const CONTROL: &str = "tenantry_control";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    role: bool,
    #[diesel(sql_type = Bool)]
    database: bool,
}

/// Makes the control plane's role and database where they are missing.
pub(super) async fn ensure_control_database(superuser: &Target, password: &str) -> anyhow::Result<Target> {
    let target = Target { user: CONTROL.into(), password: password.into(), ..superuser.with_database(CONTROL) };
    let mut conn = AdminConn::open(superuser, &ConnectOptions::default()).await?;
    let found: Found = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS role, \
         EXISTS (SELECT FROM pg_database WHERE datname = $1) AS database",
    )
    .bind::<Text, _>(CONTROL)
    .get_result(&mut conn)
    .await?;
    if !found.role {
        // The password itself never travels; a verifier has no quote in it.
        let verifier = scram::verifier(&target.password);
        let create = format!("CREATE ROLE {CONTROL} LOGIN PASSWORD '{}'", verifier.expose_secret());
        conn.batch_execute(&create).await?;
    }
    if !found.database {
        conn.batch_execute(&format!("CREATE DATABASE {CONTROL} OWNER {CONTROL}")).await?;
        conn.batch_execute(&format!("REVOKE CONNECT ON DATABASE {CONTROL} FROM PUBLIC")).await?;
    }
    Ok(target)
}

/// Takes the local server in, or follows it to the port it had to change to.
pub(super) async fn ensure_cluster(fleet: &Fleet, superuser: &Target) -> anyhow::Result<()> {
    let known = fleet.clusters().await.context("cannot list the clusters")?;
    match known.into_iter().find(|cluster| cluster.name == CLUSTER) {
        None => {
            let new = NewCluster {
                name: CLUSTER.into(),
                admin: superuser.clone(),
                region: None,
                max_tenants: None,
                connection_budget: None,
            };
            fleet.add_cluster(&new).await.context("cannot take the local server in as a cluster")?;
        }
        Some(cluster) if cluster.admin.port != superuser.port => {
            let changes = ClusterChanges { admin: Some(superuser.clone()), ..ClusterChanges::default() };
            fleet.set_cluster(CLUSTER, changes).await.context("cannot move the cluster to the server's new port")?;
        }
        Some(_) => {}
    }
    Ok(())
}

/// Makes the operator at the first start.
pub(super) async fn ensure_operator(node: &Node, login: &Login) -> anyhow::Result<()> {
    let password = login.password.clone().into();
    let made =
        Operators::create(&node.control, &node.passwords, &login.email, password, OperatorRole::Admin, Vec::new())
            .await;
    match made {
        Err(error) if error.code() == Code::AlreadyExists => Ok(()),
        other => other.map(|_| ()).context("cannot make the operator"),
    }
}
