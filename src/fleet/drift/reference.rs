//! What the migrations make on a server: a scratch database with a scratch role, made as a tenant's is, looked at, and
//! dropped. A copy kept in a file would be one server release's: each writes definitions in its own way.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use secrecy::ExposeSecret;
use tokio::time::timeout;
use uuid::Uuid;

use super::catalog::{Catalog, expect};
use crate::control::clusters::Cluster;
use crate::error::{ApiError, ApiResult};
use crate::fleet::migrations::Migrations;
use crate::fleet::{admin, scram, sql, template};
use crate::kernel::crypto::{hex, random};
use crate::router::AdminConn;

/// What scratch databases and roles are called.
pub(in crate::fleet) const PREFIX: &str = "tenantry_reference_";

/// The catalog of a tenant's database on this cluster at the head of these migrations. To be run as a task of its own:
/// it clears up whatever becomes of whoever waits for it.
pub(super) async fn catalog(cluster: Cluster, migrations: Migrations, deadline: Duration) -> ApiResult<Catalog> {
    let mut server = admin::open(&cluster.admin).await?;
    let name = format!("{PREFIX}{}", hex(&random::<6>()));
    let read = timeout(deadline, look(&mut server, &cluster, &migrations, &name)).await;
    drop(server);
    let cleared = timeout(deadline, drop_scratch(&cluster, &name)).await;
    if let Err(error) = cleared.unwrap_or_else(|_| Err(super::silent(deadline))) {
        let cause = error.cause();
        tracing::warn!(%error, ?cause, name, "a scratch database stays; `tenantry fleet doctor` says how to drop it");
    }
    read.unwrap_or_else(|_| Err(super::silent(deadline)))
}

/// Over a connection of its own: the one that the database was made over may have broken.
async fn drop_scratch(cluster: &Cluster, name: &str) -> ApiResult<()> {
    let mut server = admin::open(&cluster.admin).await?;
    for statement in ["DROP DATABASE IF EXISTS :\"name\" WITH (FORCE)", "DROP ROLE IF EXISTS :\"name\""] {
        server.batch_execute(&sql::fill(statement, &[("name", name)])).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

async fn look(server: &mut AdminConn, cluster: &Cluster, migrations: &Migrations, name: &str) -> ApiResult<Catalog> {
    let verifier = scram::verifier(&scram::generate_password());
    let variables = [("role", name), ("verifier", verifier.expose_secret()), ("connection_limit", "0")];
    admin::run(server, sql::ROLE, &variables).await?;
    template::build(server, cluster, migrations, name).await?;
    let target = cluster.admin.with_database(name);
    let mut inside = admin::open(&target).await?;
    let nobody = Uuid::nil().to_string();
    let variables = [("role", name), ("tenant_id", &*nobody), ("installation_id", &*nobody)];
    admin::run(&mut inside, sql::STAMP, &variables).await?;
    let owner = sql::fill("ALTER DATABASE :\"name\" OWNER TO :\"name\"", &[("name", name)]);
    server.batch_execute(&owner).await.map_err(ApiError::internal)?;
    let mut catalog = Catalog::read(&mut inside, name).await?;
    for set in [&migrations.built_in, &migrations.operator] {
        expect(set, &mut catalog);
    }
    Ok(catalog)
}
