//! One private PostgreSQL server for the whole test process, started by the first test that asks.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use diesel::result::Error as QueryError;
use diesel_async::SimpleAsyncConnection;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::dev::{LocalPostgres, LocalPostgresOptions};
use crate::kernel::crypto::{hex, random};
use crate::router::{AdminConn, ConnectOptions, Target};

const DIR_PREFIX: &str = "tenantry-test-";
const MAX_CONNECTIONS: u32 = 300;

/// The server. It goes away with the process, however the process ends, and takes its files along.
#[derive(Debug)]
pub struct TestCluster {
    server: LocalPostgres,
    dropper: UnboundedSender<Leavings>,
    databases: AtomicU32,
}

/// What a test leaves on the server.
#[derive(Debug)]
enum Leavings {
    /// A database.
    Database(String),
    /// The databases of the tenants in this control plane.
    Tenants(Target),
}

static CLUSTER: OnceLock<TestCluster> = OnceLock::new();

impl TestCluster {
    /// The server of this process; the first call starts it (about two seconds).
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub async fn get() -> &'static Self {
        if let Some(cluster) = CLUSTER.get() {
            return cluster;
        }
        tokio::task::spawn_blocking(|| CLUSTER.get_or_init(Self::start)).await.expect("the test server starts")
    }

    fn start() -> Self {
        let root = std::env::temp_dir();
        sweep(&root);
        let server = LocalPostgres::start(&LocalPostgresOptions {
            durable: false,
            ephemeral: true,
            max_connections: MAX_CONNECTIONS,
            // The databases of tests are gone before it would help them.
            settings: vec![("autovacuum".into(), "off".into())],
            ..LocalPostgresOptions::new(scratch_dir(&root))
        })
        .unwrap_or_else(|error| panic!("{error}"));
        let dropper = start_dropper(server.target().clone());
        Self { server, dropper, databases: AtomicU32::new(0) }
    }

    /// A directory for a further server of a test, removed as the cluster's own is.
    #[must_use]
    pub fn scratch_dir() -> PathBuf {
        scratch_dir(&std::env::temp_dir())
    }

    /// The superuser, at database `postgres`.
    #[must_use]
    pub fn admin(&self) -> Target {
        self.server.target().clone()
    }

    /// A fresh database whose name begins with `prefix`. Dropped with the value.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn database(&'static self, prefix: &str) -> TestDatabase {
        self.make_database(prefix, "template0").await
    }

    /// A fresh copy of a database that nobody is connected to. Dropped with the value.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn database_from(&'static self, prefix: &str, template: &str) -> TestDatabase {
        self.make_database(prefix, template).await
    }

    async fn make_database(&'static self, prefix: &str, template: &str) -> TestDatabase {
        let name = format!("{prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let statement = format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(template));
        // A connection to the template that is just closing counts for a moment more.
        let mut attempts = 0;
        while let Err(error) = self.execute(&statement).await {
            attempts += 1;
            assert!(attempts < 20 && error.to_string().contains("being accessed"), "{statement}: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        TestDatabase { target: self.server.target().with_database(name), cluster: self }
    }

    /// Runs statements as the superuser in database `postgres`.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn execute(&self, sql: &str) -> Result<(), QueryError> {
        execute(self.server.target(), sql).await
    }
}

/// Runs statements over a connection of their own, as `psql -c` would.
///
/// # Errors
/// Whatever the server says.
async fn execute(target: &Target, sql: &str) -> Result<(), QueryError> {
    let options = ConnectOptions { statement_timeout: None, ..ConnectOptions::default() };
    let mut conn =
        AdminConn::open(target, &options).await.map_err(|error| QueryError::QueryBuilderError(Box::new(error)))?;
    conn.batch_execute(sql).await
}

/// One database of the test's own.
#[derive(Debug)]
pub struct TestDatabase {
    target: Target,
    cluster: &'static TestCluster,
}

impl TestDatabase {
    /// The superuser, at this database.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.target.database
    }

    /// Runs statements as the superuser.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn execute(&self, sql: &str) -> Result<(), QueryError> {
        execute(&self.target, sql).await
    }

    /// Of a control plane: drops the databases that its tenants have on this server, in the background.
    pub(super) fn forget_tenants(&self) {
        let _ = self.cluster.dropper.send(Leavings::Tenants(self.target.clone()));
    }

    /// Drops it now and waits for that, connections or not.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn remove(self) -> Result<(), QueryError> {
        self.cluster.execute(&drop_statement(self.name())).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The dropper ends with the process; then the whole server goes.
        let _ = self.cluster.dropper.send(Leavings::Database(self.target.database.clone()));
    }
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Drops databases beside the tests: `Drop` cannot wait, and each test's runtime ends with the test.
fn start_dropper(admin: Target) -> UnboundedSender<Leavings> {
    let (sender, mut left) = unbounded_channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            while let Some(left) = left.recv().await {
                let names = match left {
                    Leavings::Database(name) => vec![name],
                    Leavings::Tenants(control) => tenants_of(&control).await.unwrap_or_default(),
                };
                for name in names {
                    if let Err(error) = execute(&admin, &drop_statement(&name)).await {
                        tracing::warn!(%error, "a test database stays");
                    }
                }
            }
        });
    });
    sender
}

/// The databases that the program itself has made for the tenants of a control plane, on whatever server.
async fn tenants_of(control: &Target) -> Option<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Name {
        #[diesel(sql_type = diesel::sql_types::Text)]
        database_name: String,
    }
    let made =
        "SELECT database_name FROM tenants WHERE cluster_id IS NOT NULL UNION SELECT database_name FROM ready_tenants";
    let mut conn = AdminConn::open(control, &ConnectOptions::default()).await.ok()?;
    let names: Vec<Name> = diesel_async::RunQueryDsl::load(diesel::sql_query(made), &mut *conn).await.ok()?;
    Some(names.into_iter().map(|name| name.database_name).collect())
}

fn scratch_dir(root: &Path) -> PathBuf {
    root.join(format!("{DIR_PREFIX}{}-{}", std::process::id(), hex(&random::<4>())))
}

/// Removes what test processes left that are gone: their watchdogs were killed too, or the machine stopped.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(DIR_PREFIX)).and_then(|n| n.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse().ok()) else { continue };
        if nix::sys::signal::kill(nix::unistd::Pid::from_raw(owner), None) == Err(nix::errno::Errno::ESRCH)
            && LocalPostgres::may_have_made(&entry.path())
            && let Err(error) = LocalPostgres::destroy(&entry.path())
        {
            tracing::debug!(%error, "an earlier run's server stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_come_and_go() {
        let cluster = TestCluster::get().await;
        let one = cluster.database("one").await;
        one.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
        let copy = cluster.database_from("copy", one.name()).await;
        copy.execute("SELECT 1 / count(*) FROM t").await.unwrap();
        assert!(cluster.execute("SELECT * FROM t").await.is_err(), "another database");
        copy.remove().await.unwrap();
    }

    #[test]
    fn keeps_data_and_port_and_stops_by_itself() {
        let options = LocalPostgresOptions { durable: false, ..LocalPostgresOptions::new(TestCluster::scratch_dir()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = LocalPostgres::start(&options).unwrap();
        let port = first.target().port;
        runtime.block_on(execute(first.target(), "CREATE TABLE kept ()")).unwrap();
        assert!(LocalPostgres::start(&options).is_err(), "in use");
        first.stop().unwrap();
        let second = LocalPostgres::start(&options).unwrap();
        assert_eq!(second.target().port, port);
        runtime.block_on(execute(second.target(), "SELECT * FROM kept")).unwrap();
        drop(second);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        LocalPostgres::destroy(&options.dir).unwrap();
        assert!(!options.dir.exists());
    }

    #[test]
    fn removes_no_strangers_files() {
        let dir = TestCluster::scratch_dir();
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("precious"), "").unwrap();
        assert!(matches!(LocalPostgres::destroy(&dir), Err(crate::dev::PostgresError::NotOurs(_))));
        assert!(dir.join("precious").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// As another local user could write it beside ours.
    fn note(dir: &Path, names: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("lock"), "").unwrap();
        std::fs::write(dir.join("pgdata"), names.as_os_str().as_encoded_bytes()).unwrap();
    }

    #[test]
    fn follows_no_note_to_strangers_files() {
        let root = TestCluster::scratch_dir();
        let (dir, precious) = (root.join("server"), root.join("precious"));
        std::fs::create_dir_all(&precious).unwrap();
        note(&dir, &precious);
        assert!(matches!(LocalPostgres::destroy(&dir), Err(crate::dev::PostgresError::NotOurs(_))));
        assert!(precious.exists());
        note(&dir, &dir.canonicalize().unwrap().join("cluster"));
        LocalPostgres::destroy(&dir).unwrap();
        assert!(!dir.exists() && precious.exists());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn sweeps_what_is_ours_alone() {
        let root = TestCluster::scratch_dir();
        // No process has such an id.
        let [ours, link, theirs] = ["x", "y", "z"].map(|end| root.join(format!("{DIR_PREFIX}{}-{end}", i32::MAX)));
        let elsewhere = root.join("elsewhere");
        for dir in [&ours, &elsewhere] {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(dir.join("lock"), "").unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::fs::create_dir(&theirs).unwrap();
            std::fs::write(theirs.join("lock"), "").unwrap();
            std::os::unix::fs::chown(&theirs, Some(4003), None).unwrap();
        }
        sweep(&root);
        assert!(!ours.exists() && elsewhere.join("lock").exists() && theirs.exists() == is_root);
        std::fs::remove_dir_all(root).unwrap();
    }
}
