//! An installation: a control plane's database, its keys, the server as its only cluster.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::config::{Config, Sources};
use tenantry::control::clusters::{ClusterChanges, NewCluster};
use tenantry::control::tenants::{self, NewTenant};
use tenantry::control::{ControlPlane, migration_runs, signing_keys};
use tenantry::error::ApiError;
use tenantry::fleet::migrations;
use tenantry::http::Node;
use tenantry::kernel::{ClusterId, InstallationId, TenantId, crypto};
use tenantry::router::{MainConn, Registration, Target, TenantKind, TenantStatus};

use super::super::postgres;
use super::super::server::Server;

/// The name of the only cluster.
pub const CLUSTER: &str = "local";
/// Where a server finds its control plane.
const DATABASE_URL: &str = "TENANTRY_DATABASE_URL";
/// Entries of one transaction, which has to end within five seconds.
const BATCH: usize = 200;

/// See the module.
#[derive(Debug)]
pub struct Plane {
    /// What `tenantry serve` is put together from.
    pub node: Node,
    /// Its identity, which is in every stamp.
    pub installation: InstallationId,
    cluster: ClusterId,
    environment: Vec<(String, String)>,
}

/// A tenant to be written into the registry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: String,
    /// Its database.
    pub database: String,
    /// Its role.
    pub role: String,
    /// The role's password.
    pub password: SecretString,
}

fn open(environment: &[(String, String)]) -> Result<Node> {
    let variables: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(Node::open(&Config::load(&Sources::from_variables(&variables))?)?)
}

impl Plane {
    /// A new one, in a database of this name.
    pub async fn new(server: &Target, database: &str) -> Result<Self> {
        let admin = postgres::connect(server.to_url().expose_secret()).await?;
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        let url = server.with_database(database.to_owned()).to_url().expose_secret().to_owned();
        let environment = [
            (DATABASE_URL, url),
            ("TENANTRY_MASTER_KEY", BASE64.encode(crypto::random::<32>())),
            ("TENANTRY_PUBLIC_URL", "http://tenantry.test".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let node = open(&environment)?;
        node.migrate().await?;
        let installation = node.control.ensure_installation().await?.id;
        let mut plane = Self { node, installation, cluster: ClusterId::generate(), environment };
        plane.cluster = plane.add_cluster(CLUSTER, server).await?;
        Ok(plane)
    }

    /// The same installation once more, with a control plane of its own in a database of this name: the same tenants,
    /// keys and sessions, and a budget that is shared with nobody here. No server may be up meanwhile.
    pub async fn copy(&self, server: &Target, database: &str) -> Result<Self> {
        let ours = &self.control().db.target().database;
        let admin = postgres::connect(server.to_url().expose_secret()).await?;
        // Nobody may be connected to what is copied; our own node comes back by itself.
        admin.batch_execute(&format!("ALTER DATABASE {ours} ALLOW_CONNECTIONS false")).await?;
        let leave = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        admin.execute(leave, &[ours]).await?;
        admin.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE {ours}")).await?;
        admin.batch_execute(&format!("ALTER DATABASE {ours} ALLOW_CONNECTIONS true")).await?;
        let mut environment = self.environment.clone();
        for (name, value) in &mut environment {
            if name == DATABASE_URL {
                *value = server.with_database(database.to_owned()).to_url().expose_secret().to_owned();
            }
        }
        Ok(Self { node: open(&environment)?, installation: self.installation, cluster: self.cluster, environment })
    }

    /// The control plane.
    pub fn control(&self) -> &ControlPlane {
        &self.node.control
    }

    /// The most connections to tenants' databases that all its servers together may have.
    pub async fn set_budget(&self, connections: usize) -> Result<()> {
        let budget = Some(Some(i32::try_from(connections)?));
        let changes = ClusterChanges { connection_budget: budget, ..ClusterChanges::default() };
        self.node.fleet.set_cluster(CLUSTER, changes).await?;
        Ok(())
    }

    /// Starts a server with these settings besides.
    pub async fn serve(&self, settings: &[(&str, &str)]) -> Result<Server> {
        let mut environment = self.environment.clone();
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Server::start(&environment).await
    }

    /// Takes the server in once more, as another cluster.
    pub async fn add_cluster(&self, name: &str, server: &Target) -> Result<ClusterId> {
        let new = NewCluster {
            name: name.into(),
            admin: server.clone(),
            region: None,
            max_tenants: None,
            connection_budget: None,
        };
        Ok(self.node.fleet.add_cluster(&new).await?.id)
    }

    /// What any command of the program finds it by.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The cluster that there is from the beginning.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Writes tenants into the registry, active, each with its signing key.
    pub async fn register(&self, entries: Vec<Entry>) -> Result<()> {
        self.register_on(self.cluster, entries).await
    }

    /// As [`Self::register`], on this cluster.
    pub async fn register_on(&self, cluster: ClusterId, entries: Vec<Entry>) -> Result<()> {
        let head = migrations::Migrations::load(None).await?.head();
        for batch in entries.chunks(BATCH) {
            let (keys, batch, head) = (self.control().keys.clone(), batch.to_vec(), head.clone());
            let done = self.control().db.transaction(async move |conn: &mut MainConn| {
                for entry in batch {
                    let new = NewTenant {
                        id: entry.id,
                        slug: entry.slug.parse().map_err(ApiError::internal)?,
                        name: entry.slug,
                        kind: TenantKind::Shared,
                        cluster_id: Some(cluster),
                        database_name: entry.database,
                        role_name: entry.role,
                        password: Some(entry.password),
                        url: None,
                        direct_url: None,
                        max_connections: None,
                        registration: Registration::Closed,
                        head: None,
                    };
                    tenants::insert(conn, &keys, &new).await?;
                    signing_keys::ensure(conn, &keys, entry.id).await?;
                    tenants::schema_migrated(conn, entry.id, head.schema_version).await?;
                    migration_runs::at_head(conn, entry.id, &head).await?;
                    tenants::set_status(conn, entry.id, &[TenantStatus::Provisioning], TenantStatus::Active).await?;
                }
                Ok::<_, ApiError>(())
            });
            done.await?;
        }
        Ok(())
    }
}
