//! An installation with tenants on two clusters, and the operator's directory of migrations.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio_postgres::Client;

use crate::support::estate::{Entry, Estate, Plane};
use crate::support::postgres;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");
/// Databases that are looked into at once.
const LOOKS: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Installed {
    plane: Plane,
    /// A superuser's connection to each server, and its URL.
    servers: Vec<Server>,
    folder: tempfile::TempDir,
    /// The number of the latest migration.
    latest: Cell<u32>,
}

/// One of the two.
#[derive(Debug)]
pub struct Server {
    /// The superuser, at database `postgres`.
    pub client: Client,
    urls: Vec<String>,
}

/// How `fleet migrate` ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    output: String,
}

impl Said {
    /// What it printed.
    pub fn report(&self) -> Result<Value> {
        serde_json::from_str(&self.output).context("a report")
    }
}

impl Installed {
    /// Registers the first databases on the first server, and the others on the other.
    pub async fn new(plane: Plane, one: &Estate, ours: Vec<Entry>, two: &Estate, theirs: Vec<Entry>) -> Result<Self> {
        let registry = postgres::connect(plane.control().db.target().to_url().expose_secret()).await?;
        registry.batch_execute("DELETE FROM tenants").await?;
        let second = plane.add_cluster("second", two.server()).await?;
        let mut servers = Vec::new();
        for (estate, entries, cluster) in [(one, ours, plane.cluster()), (two, theirs, second)] {
            let url = |entry: &Entry| estate.server().with_database(entry.database.clone()).to_url();
            let urls = entries.iter().map(|entry| url(entry).expose_secret().to_owned()).collect();
            servers.push(Server { client: postgres::connect(&estate.server_url()).await?, urls });
            plane.register_on(cluster, entries).await?;
        }
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        std::fs::create_dir(folder.path().join("migrations"))?;
        Ok(Self { plane, servers, folder, latest: Cell::new(0) })
    }

    /// A place for files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Both servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn migrations(&self) -> PathBuf {
        self.folder.path().join("migrations")
    }

    /// Writes the next migration; gives its file's name.
    pub fn write(&self, sql: &str) -> Result<String> {
        self.latest.set(self.latest.get() + 1);
        let name = format!("V{}__step.sql", self.latest.get());
        std::fs::write(self.migrations().join(&name), sql)?;
        Ok(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["fleet", "migrate", "--output", "json"])
            .args(arguments)
            .env_clear()
            .envs(self.plane.environment().iter().map(|(name, value)| (name, value)))
            .env("TENANTRY_TENANT_MIGRATIONS", self.migrations())
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// `fleet migrate`, begun.
    pub fn begin(&self, arguments: &[&str]) -> Result<Child> {
        self.command(arguments).spawn().context("the program")
    }

    /// `fleet migrate`, to its end.
    pub async fn migrate(&self, arguments: &[&str]) -> Result<Said> {
        self.ended(self.begin(arguments)?).await
    }

    /// Waits for its end.
    pub async fn ended(&self, child: Child) -> Result<Said> {
        let output = child.wait_with_output().await?;
        Ok(Said { status: output.status, output: String::from_utf8_lossy(&output.stdout).into_owned() })
    }

    /// The control plane's answer, a number.
    pub async fn asked(&self, sql: &str) -> Result<i64> {
        let client = postgres::connect(self.plane.control().db.target().to_url().expose_secret()).await?;
        Ok(client.query_one(sql, &[]).await?.get(0))
    }

    /// How many runs there have been.
    pub async fn runs(&self) -> Result<i64> {
        self.asked("SELECT count(*) FROM operations WHERE kind = 'migrate'").await
    }

    /// How many tenants of the run after so many others are done.
    pub async fn done(&self, after: i64) -> Result<i64> {
        let run = format!("SELECT id FROM operations WHERE kind = 'migrate' ORDER BY id OFFSET {after} LIMIT 1");
        self.asked(&format!("SELECT count(*) FROM migration_tenants WHERE state = 'done' AND run_id = ({run})")).await
    }

    /// A tenant's database by its number, as the superuser.
    pub async fn inside(&self, number: usize) -> Result<Client> {
        let urls: Vec<&String> = self.servers.iter().flat_map(|server| &server.urls).collect();
        postgres::connect(urls.get(number).context("no such tenant")?).await
    }

    /// In how many databases this is true.
    pub async fn count(&self, sql: &str) -> Result<usize> {
        let all: Vec<&String> = self.servers.iter().flat_map(|server| &server.urls).collect();
        let look = async |url: &String| -> Result<bool> {
            Ok(postgres::connect(url).await?.query_one(sql, &[]).await?.get(0))
        };
        let found: Vec<bool> = stream::iter(all).map(look).buffer_unordered(LOOKS).try_collect().await?;
        ensure!(!found.is_empty(), "no databases");
        Ok(found.into_iter().filter(|yes| *yes).count())
    }
}
