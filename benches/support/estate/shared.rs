//! Thousands of tenants on a few hundred databases, to see what a server remembers of many.
//!
//! A database of Tenantry's is one tenant's, and both the registry (a unique index) and the database (its stamp) say so.
//! Here, and only here, the index is dropped and the stamp is a view that names whichever tenant's role is asking, so
//! that every entry of the registry can be served by an unchanged server.

use anyhow::Result;
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::kernel::TenantId;
use tenantry::router::Target;

use super::super::postgres;
use super::plane::{Entry, Plane};
use super::stencil::Stencil;
use super::{in_turns, inside};

/// Owns the databases; every tenant's role is a member.
const OWNER: &str = "bench_shared_owner";
/// Roles of one statement.
const BATCH: usize = 500;

/// See the module.
#[derive(Debug)]
pub struct SharedDatabases {
    names: Vec<String>,
    password: SecretString,
    create_role: String,
    server: Target,
}

impl SharedDatabases {
    /// Makes so many, which answer for tenants of this installation.
    pub(super) async fn new(stencil: &Stencil, server: &Target, owner: &Plane, count: usize) -> Result<Self> {
        let installation = owner.installation;
        let names: Vec<String> = (0..count).map(|number| format!("t_shared_{number:04}")).collect();
        let admin = postgres::connect(server.to_url().expose_secret()).await?;
        admin.batch_execute(&format!("CREATE ROLE {OWNER} NOLOGIN")).await?;
        in_turns(&names, async |name: &str| {
            let admin = postgres::connect(server.to_url().expose_secret()).await?;
            stencil.copy_for(&admin, name, OWNER).await?;
            let stamp = format!(
                "DROP TABLE tenantry.stamp; CREATE VIEW tenantry.stamp AS \
                 SELECT substr(session_user, 3)::uuid AS tenant_id, '{installation}'::uuid AS installation_id; \
                 GRANT SELECT ON tenantry.stamp TO {OWNER}"
            );
            inside(server, name).await?.batch_execute(&stamp).await?;
            Ok(())
        })
        .await?;
        Ok(Self {
            names,
            password: stencil.password(),
            create_role: stencil.create_role("NAME"),
            server: server.clone(),
        })
    }

    /// Writes so many tenants into the registry of an installation; gives their slugs.
    pub async fn register(&self, plane: &Plane, count: usize) -> Result<Vec<String>> {
        let control = postgres::connect(plane.control().db.target().to_url().expose_secret()).await?;
        control.batch_execute("DROP INDEX IF EXISTS tenants_one_database").await?;

        let entries: Vec<Entry> = (0..count)
            .map(|number| {
                let id = TenantId::generate();
                Entry {
                    id,
                    slug: format!("t{number:05}"),
                    database: self.names[number % self.names.len()].clone(),
                    role: format!("t_{}", id.uuid().simple()),
                    password: self.password.clone(),
                }
            })
            .collect();
        let admin = postgres::connect(self.server.to_url().expose_secret()).await?;
        for batch in entries.chunks(BATCH) {
            let roles = batch.iter().map(|entry| {
                let create = self.create_role.replace("NAME", &entry.role);
                format!("{create} IN ROLE {OWNER};")
            });
            admin.batch_execute(&roles.collect::<String>()).await?;
        }
        let slugs = entries.iter().map(|entry| entry.slug.clone()).collect();
        plane.register(entries).await?;
        Ok(slugs)
    }
}
