//! What the migrations make on a server: a scratch database with a scratch role, made as a tenant's is, looked at, and
//! dropped. A copy kept in a file would be one server release's: each writes definitions in its own way.

use diesel_async::SimpleAsyncConnection;
use secrecy::ExposeSecret;
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

/// The catalog of a tenant's database on this cluster at the head of these migrations.
pub(super) async fn catalog(cluster: &Cluster, migrations: &Migrations) -> ApiResult<Catalog> {
    let mut server = admin::open(&cluster.admin).await?;
    let name = format!("{PREFIX}{}", hex(&random::<6>()));
    let read = look(&mut server, cluster, migrations, &name).await;
    for statement in ["DROP DATABASE IF EXISTS :\"name\" WITH (FORCE)", "DROP ROLE IF EXISTS :\"name\""] {
        if let Err(error) = server.batch_execute(&sql::fill(statement, &[("name", &name)])).await {
            tracing::warn!(%error, name, "a scratch database stays; `tenantry fleet doctor` says how to drop it");
        }
    }
    read
}

async fn look(server: &mut AdminConn, cluster: &Cluster, migrations: &Migrations, name: &str) -> ApiResult<Catalog> {
    let verifier = scram::verifier(&scram::generate_password());
    let variables = [("role", name), ("verifier", verifier.expose_secret()), ("connection_limit", "0")];
    admin::run(server, sql::ROLE, &variables).await?;
    template::build(server, cluster, migrations, name).await?;
    let target = cluster.admin.with_database(name);
    let mut inside = admin::open(&target).await?;
    admin::run(&mut inside, sql::GRANTS, &[("role", name)]).await?;
    let nobody = Uuid::nil().to_string();
    let variables = [("role", name), ("tenant_id", &nobody), ("installation_id", &nobody)];
    admin::run(&mut inside, sql::STAMP, &variables).await?;
    let owner = sql::fill("ALTER DATABASE :\"name\" OWNER TO :\"name\"", &[("name", name)]);
    server.batch_execute(&owner).await.map_err(ApiError::internal)?;
    let revoke = sql::fill("REVOKE ALL ON DATABASE :\"name\" FROM PUBLIC, tenantry_template_owner", &[("name", name)]);
    server.batch_execute(&revoke).await.map_err(ApiError::internal)?;
    let mut catalog = Catalog::read(&mut inside, name).await?;
    for set in [&migrations.built_in, &migrations.operator] {
        expect(set, &mut catalog);
    }
    Ok(catalog)
}
