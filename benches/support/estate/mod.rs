//! Many tenants on one private server: the databases that every contender reads, made once per run.

mod plane;
mod shared;
mod stencil;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::dev::{LocalPostgres, LocalPostgresOptions};
use tenantry::router::Target;

use super::observer::Observer;
use super::postgres;
use super::server::Server;

pub use plane::{Entry, Plane};
pub use shared::SharedDatabases;
use stencil::{ADMIN_EMAIL, ADMIN_PASSWORD, Stencil};

/// Enough for a pool of four connections for each of 300 tenants, and everyone else.
const MAX_CONNECTIONS: u32 = 2400;
/// Databases are made, and people signed in, so many at a time.
const AT_A_TIME: usize = 3;
/// No section asks for a token twice.
pub const TOKEN_LIFE: (&str, &str) = ("TENANTRY_AUTH__ACCESS_TOKEN_TTL", "1d");

/// See the module. Its server and files go when this is dropped.
#[derive(Debug)]
pub struct Estate {
    /// The installation that the tenants belong to.
    pub plane: Plane,
    tenants: Vec<TenantOf>,
    stencil: Stencil,
    server: Target,
    _postgres: LocalPostgres,
    _folder: tempfile::TempDir,
}

/// One tenant with a database of its own.
#[derive(Clone, Debug)]
pub struct TenantOf {
    slug: String,
    /// The name of its database, which is that of its role.
    pub database: String,
    authorization: String,
}

impl Estate {
    /// A server without tenants. Nothing on it outlives a crash of the machine, and nobody vacuums meanwhile.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        let options = LocalPostgresOptions {
            durable: false,
            ephemeral: true,
            max_connections: MAX_CONNECTIONS,
            settings: vec![("autovacuum".into(), "off".into())],
            ..LocalPostgresOptions::new(folder.path().join("postgres"))
        };
        super::installation::open_to_all(folder.path())?;
        let postgres = tokio::task::spawn_blocking(move || LocalPostgres::start(&options)).await??;
        let server = postgres.target().clone();
        let plane = Plane::new(&server, "bench_control").await?;
        let stencil = Stencil::new(&plane, &server).await?;
        Ok(Self { plane, tenants: Vec::new(), stencil, server, _postgres: postgres, _folder: folder })
    }

    /// Makes tenants until there are so many, each with a database of its own and somebody signed in.
    pub async fn grow(&mut self, count: usize) -> Result<()> {
        let missing: Vec<String> = (self.tenants.len()..count).map(|number| format!("t{number:05}")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("  making {} tenants …", missing.len());
        let begun = Instant::now();
        let (plane, stencil, server) = (&self.plane, &self.stencil, &self.server);
        let copy = async |slug: &str| stencil.copy(server, slug, plane.installation).await;
        let entries = in_turns(&missing, copy).await?;
        let made: Vec<String> = entries.iter().map(|entry| entry.database.clone()).collect();
        plane.register(entries).await.context("the registry")?;
        let copied_in = begun.elapsed();
        // Nobody shall wait for a connection here.
        plane.set_budget(400).await?;
        let node = plane.serve(&[TOKEN_LIFE]).await?;
        let signed_in = in_turns(&missing, async |slug: &str| sign_in(&node, slug).await).await?;
        eprintln!(
            "  … copied and registered in {:.0} s, all ready in {:.0} s",
            copied_in.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
        let made = missing.into_iter().zip(made).zip(signed_in);
        self.tenants.extend(made.map(|((slug, database), authorization)| TenantOf { slug, database, authorization }));
        Ok(())
    }

    /// The first so many tenants' `Authorization` headers.
    pub fn authorizations(&self, count: usize) -> Vec<String> {
        self.tenants.iter().take(count).map(|tenant| tenant.authorization.clone()).collect()
    }

    /// A tenant by its number.
    pub fn tenant(&self, number: usize) -> Result<&TenantOf> {
        self.tenants.get(number).context("no such tenant")
    }

    /// The first so many tenants' databases by tenant, as a role of that yardstick's own. Its password is of the usual
    /// kind: 4,096 iterations.
    pub async fn databases(&self, count: usize, yardstick: &str) -> Result<BTreeMap<String, String>> {
        let role = yardstick_role(yardstick);
        let admin = postgres::connect(&self.server_url()).await?;
        admin
            .batch_execute(&format!(
                "DO $$ BEGIN CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{YARDSTICK_PASSWORD}'; \
                 EXCEPTION WHEN duplicate_object THEN END $$"
            ))
            .await?;
        let target = Target { user: role, password: YARDSTICK_PASSWORD.to_owned().into(), ..self.server.clone() };
        let url = |name: &str| target.with_database(name.to_owned()).to_url().expose_secret().to_owned();
        Ok(self.tenants.iter().take(count).map(|tenant| (tenant.slug.clone(), url(&tenant.database))).collect())
    }

    /// The server's superuser, at database `postgres`.
    pub fn server_url(&self) -> String {
        self.server.to_url().expose_secret().to_owned()
    }

    /// The superuser in a tenant's database.
    pub async fn inside(&self, tenant: &TenantOf) -> Result<tokio_postgres::Client> {
        inside(&self.server, &tenant.database).await
    }

    /// Counts the connections of these roles until told to stop.
    pub fn observe(&self, roles: &str, every: Duration) -> Observer {
        Observer::start(&self.server_url(), roles, every)
    }

    /// The databases of so many tenants of an installation, in no registry yet; their slugs begin like this.
    pub async fn unregistered(&self, of: &Plane, prefix: &str, count: usize) -> Result<Vec<Entry>> {
        let names: Vec<String> = (0..count).map(|number| format!("{prefix}{number:05}")).collect();
        in_turns(&names, async |slug: &str| self.stencil.copy(&self.server, slug, of.installation).await).await
    }

    /// The server's superuser, at database `postgres`.
    pub const fn server(&self) -> &Target {
        &self.server
    }

    /// Databases of another installation's that each stand for many of its tenants; see [`SharedDatabases`].
    pub async fn shared_databases(&self, owner: &Plane, count: usize) -> Result<SharedDatabases> {
        SharedDatabases::new(&self.stencil, &self.server, owner, count).await
    }

    /// A further installation on the same server.
    pub async fn another_plane(&self, name: &str) -> Result<Plane> {
        Plane::new(&self.server, name).await
    }

    /// The same installation once more, with budgets of its own; see [`Plane::copy`].
    pub async fn copy_of_plane(&self, name: &str) -> Result<Plane> {
        self.plane.copy(&self.server, name).await
    }
}

/// Guards a server that lasts for minutes on this machine's loopback.
const YARDSTICK_PASSWORD: &str = "yardstick-of-a-few-minutes";

/// What a yardstick connects as, so that its connections can be told from everyone else's.
pub fn yardstick_role(yardstick: &str) -> String {
    format!("yardstick_{yardstick}")
}

/// The `Authorization` header of the tenant's first admin.
pub async fn sign_in(node: &Server, slug: &str) -> Result<String> {
    let body = json!({"tenant": slug, "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
    let request = reqwest::Client::new().post(format!("{}/api/v1/auth/login", node.url())).json(&body);
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "the login at {slug} was answered {status}: {}", answer.text().await?);
    let body: Value = answer.json().await?;
    Ok(format!("Bearer {}", body["data"]["accessToken"].as_str().context("a login without a token")?))
}

/// Does something for each name, [`AT_A_TIME`]; the results are in the order of the names.
pub async fn in_turns<T>(names: &[String], work: impl AsyncFn(&str) -> Result<T>) -> Result<Vec<T>> {
    let work = &work;
    let lanes = (0..AT_A_TIME).map(|lane| async move {
        let mut done = Vec::new();
        for (number, name) in names.iter().enumerate().skip(lane).step_by(AT_A_TIME) {
            done.push((number, work(name).await.with_context(|| name.clone())?));
        }
        anyhow::Ok(done)
    });
    let mut done: Vec<_> = try_join_all(lanes).await?.into_iter().flatten().collect();
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

async fn inside(server: &Target, database: &str) -> Result<tokio_postgres::Client> {
    postgres::connect(server.with_database(database.to_owned()).to_url().expose_secret()).await
}
