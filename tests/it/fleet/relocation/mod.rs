//! A tenant to another server: under writes, after a crash at any step, and when something is in the way.

mod clients;
mod compare;
mod crash;
mod drain;
mod faults;
mod large;
mod obstacles;
mod planted;
mod settled;
mod writes;

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;
use tenantry::fleet::relocate::Step;
use tenantry::router::Target;
use tenantry::testing::{FaultProxy, Tenant, TestApp};

use crate::support::binary::{Said, program, run};
use crate::support::db;
use crate::support::servers::Server;

const CONTACTS: &str = "/api/v1/contacts";

/// A server that others can subscribe to, and that subscribes again at once when it has failed.
async fn logical() -> Server {
    let settings = [
        ("wal_level", "logical"),
        ("max_wal_senders", "30"),
        ("max_replication_slots", "40"),
        ("max_worker_processes", "40"),
        ("max_logical_replication_workers", "30"),
        ("wal_retrieve_retry_interval", "100ms"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Server::start_with(|options| tenantry::dev::LocalPostgresOptions { settings: settings.into(), ..options }).await
}

/// Two servers that a tenant can be moved between.
struct Ground {
    app: TestApp,
    servers: Vec<(&'static str, Server)>,
    /// What stands in front of each server, for the application and for the other server.
    proxies: Vec<FaultProxy>,
}

impl Ground {
    async fn new() -> Self {
        Self::on(logical().await, logical().await).await
    }

    /// The first is `east`, the other `west`.
    async fn on(east: Server, west: Server) -> Self {
        Self::of(TestApp::builder().start().await, east, west).await
    }

    /// The same for an installation that is there.
    async fn of(app: TestApp, east: Server, west: Server) -> Self {
        let (mut servers, mut proxies) = (Vec::new(), Vec::new());
        for (name, server) in [("east", east), ("west", west)] {
            let proxy = FaultProxy::start(&server.target());
            app.cluster_behind(name, &proxy).await;
            servers.push((name, server));
            proxies.push(proxy);
        }
        Self { app, servers, proxies }
    }

    /// The network of a server.
    fn network(&self, name: &str) -> &FaultProxy {
        &self.proxies[self.servers.iter().position(|(known, _)| *known == name).expect("east or west")]
    }

    fn server(&self, name: &str) -> Target {
        self.servers.iter().find(|(known, _)| *known == name).expect("east or west").1.target()
    }

    /// Where the tenant's role may log in, and where its database is.
    async fn there(&self, tenant: &Tenant) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut open, mut databases) = (Vec::new(), Vec::new());
        for (name, server) in &self.servers {
            let role =
                format!("SELECT 'open' AS word FROM pg_roles WHERE rolname = '{}' AND rolcanlogin", tenant.role());
            let database = format!("SELECT datname::text AS word FROM pg_database WHERE datname = '{}'", tenant.role());
            open.extend((!db::words(&server.target(), &role).await.is_empty()).then_some(*name));
            databases.extend((!db::words(&server.target(), &database).await.is_empty()).then_some(*name));
        }
        (open, databases)
    }

    /// What replication makes for a tenant, anywhere.
    async fn leftovers(&self, tenant: &Tenant) -> Vec<String> {
        let move_of = tenant.role().replacen("t_", "tenantry_move_", 1);
        let query = format!(
            "SELECT rolname::text AS word FROM pg_roles WHERE rolname = '{move_of}' \
             UNION ALL SELECT slot_name::text FROM pg_replication_slots WHERE database = '{}' \
             UNION ALL SELECT subname::text FROM pg_subscription WHERE subname = '{move_of}'",
            tenant.role()
        );
        let mut all = Vec::new();
        for (_, server) in &self.servers {
            all.extend(db::words(&server.target(), &query).await);
        }
        all
    }

    async fn moving(&self, tenant: &Tenant, more: &[&str]) -> Said {
        let arguments = [&["tenant", "move", tenant.slug.as_str(), "--yes", "--output", "json"], more].concat();
        run(&self.app, &arguments).await
    }

    async fn crash(&self, tenant: &Tenant, more: &[&str], step: Step, before_journal: bool) {
        let mut arguments = vec!["tenant", "move", tenant.slug.as_str(), "--halt-after", step.as_str()];
        arguments.extend(more);
        if before_journal {
            arguments.push("--halt-before-journal");
        }
        let output = program(&self.app.environment(), &arguments).output().await.expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal().is_some(), "{step}: it was to die: {:?} {said}", output.status);
    }
}

/// A statement that makes contacts whose notes are so many lines of random letters: 1.5 kB a row of eight, which stands
/// in the table itself; larger ones do not.
fn filler(lines: u32, count: u32) -> String {
    format!(
        "INSERT INTO contacts (id, last_name, notes) SELECT gen_random_uuid(), 'filler', \
         (SELECT string_agg(replace(encode(sha512((random()::text || i || j)::bytea), 'base64'), E'\\n', ''), '') \
          FROM generate_series(1, {lines}) j) FROM generate_series(1, {count}) i"
    )
}

fn is_moved(view: &Value, to: &str) {
    assert_eq!((&view["cluster"], &view["to"]), (&Value::from(to), &Value::from(to)), "{view}");
    assert!(view["pauseMs"].as_u64().is_some_and(|ms| ms > 0), "{view}");
    assert!(view["checksums"].as_array().is_some_and(|tables| tables.len() > 5), "{view}");
}
