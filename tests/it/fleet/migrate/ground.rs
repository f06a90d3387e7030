//! An installation with some tenants, and a directory of the operator's migrations.

use secrecy::ExposeSecret as _;
use serde_json::Value;
use tempfile::TempDir;
use tenantry::fleet::{CreateTenant, Silent};
use tenantry::router::Target;
use tenantry::testing::TestApp;
use tokio::process::Child;

use crate::support::binary::{Said, program, run_with};
use crate::support::{db, eventually, seconds};

/// See the module.
pub(super) struct Ground {
    pub(super) app: TestApp,
    directory: TempDir,
}

impl Ground {
    /// So many tenants without people, called `t00`, `t01` and so on.
    pub(super) async fn new(tenants: usize) -> Self {
        let app = TestApp::builder().start().await;
        let directory = tempfile::tempdir().expect("a directory");
        let ground = Self { app, directory };
        for number in 0..tenants {
            ground.provision(&format!("t{number:02}x")).await;
        }
        ground
    }

    /// A tenant made by a program that knows of none of the operator's migrations.
    pub(super) async fn provision(&self, slug: &str) {
        let wanted = CreateTenant::named(slug.parse().expect("a slug"));
        self.app.fleet().create(&wanted, &Default::default(), &Silent).await.expect("a tenant");
    }

    /// Writes one of the operator's migrations, or writes it anew.
    pub(super) fn write(&self, file: &str, sql: &str) {
        std::fs::write(self.directory.path().join(file), sql).expect("a file");
    }

    /// The directory of the operator's migrations.
    pub(super) fn path(&self) -> &str {
        self.directory.path().to_str().expect("a path")
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.app.environment();
        environment.push(("TENANTRY_TENANT_MIGRATIONS".into(), self.path().to_owned()));
        environment
    }

    /// `fleet …`, to its end.
    pub(super) async fn fleet(&self, arguments: &[&str]) -> Said {
        let arguments: Vec<_> = ["fleet"].iter().chain(arguments).chain(&["--output", "json"]).copied().collect();
        run_with(&self.environment(), &arguments).await
    }

    /// `fleet migrate …`, as it ends with this exit code.
    pub(super) async fn migrate(&self, arguments: &[&str], code: i32) -> Value {
        let arguments: Vec<_> = ["migrate"].iter().chain(arguments).copied().collect();
        self.fleet(&arguments).await.expect(code).json()
    }

    /// `fleet migrate …`, begun.
    pub(super) fn begin(&self, arguments: &[&str]) -> Child {
        self.begin_over(self.app.control_database(), arguments)
    }

    /// `fleet migrate …`, begun, with the control plane at this address.
    pub(super) fn begin_over(&self, control: &Target, arguments: &[&str]) -> Child {
        let arguments: Vec<_> = ["fleet", "migrate", "--output", "json"].iter().chain(arguments).copied().collect();
        let mut environment = self.environment();
        environment.push(("TENANTRY_DATABASE_URL".into(), control.to_url().expose_secret().to_owned()));
        let mut program = program(&environment, &arguments);
        program.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        program.spawn().expect("the program runs")
    }

    /// The control plane's answer to `SELECT … AS word`.
    pub(super) async fn asked(&self, sql: &str) -> Vec<String> {
        db::words(self.app.control_database(), sql).await
    }

    /// Waits until so many tenants of a run are in this state.
    pub(super) async fn until(&self, state: &str, count: usize) {
        let sql = format!("SELECT slug AS word FROM migration_tenants WHERE state = '{state}'");
        eventually(seconds(30), &format!("{count} are {state}"), async || self.asked(&sql).await.len() >= count).await;
    }

    /// A tenant's database, as the server's superuser.
    pub(super) async fn database(&self, slug: &str) -> Target {
        let name = format!("SELECT database_name AS word FROM tenants WHERE slug = '{slug}'");
        let name = self.asked(&name).await.pop().expect("a tenant");
        self.app.server().with_database(name)
    }

    /// Every tenant's database.
    pub(super) async fn databases(&self) -> Vec<Target> {
        let names = self.asked("SELECT database_name AS word FROM tenants ORDER BY slug").await;
        names.into_iter().map(|name| self.app.server().with_database(name)).collect()
    }

    /// How many of the databases say yes to `SELECT … AS word`.
    pub(super) async fn count(&self, sql: &str) -> usize {
        let mut count = 0;
        for database in self.databases().await {
            count += usize::from(["t", "true", "1"].contains(&db::word(&database, sql).await.as_str()));
        }
        count
    }
}

/// Whether a table is there, once in the history, and the owner's of the database.
pub(super) fn has(table: &str) -> String {
    format!(
        "SELECT (count(*) = 1)::text AS word FROM pg_tables t, tenantry.operator_history h \
         WHERE t.tablename = '{table}' AND t.tableowner = 'pg_database_owner' AND h.name = '{table}'"
    )
}
