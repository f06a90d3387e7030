//! What nodes of one test installation share: the control plane's database, its master key, a cluster, an operator.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::sync::OnceCell;

use super::persona::Login;
use super::{TestCluster, TestDatabase};
use crate::control::ControlPlane;
use crate::control::clusters::{NewCluster, Placement};
use crate::control::operators::{OperatorRole, Operators};
use crate::fleet::{Fleet, FleetSettings};
use crate::kernel::Clock;
use crate::kernel::crypto::{MasterKeys, random};
use crate::rest::passwords::{Passwords, Peppers};
use crate::router::migrate::MigrateOptions;
use crate::router::{MainDb, Target};
use crate::storage::Storage;

/// The issuer base of every test installation. Nobody resolves it; subdomains come in the `Host` header.
pub(super) const PUBLIC_URL: &str = "http://tenantry.test";
/// The operator of every test installation.
const OPERATOR: (&str, &str) = ("operator@tenantry.test", "the operator of this installation");
/// The cluster's name.
pub(super) const CLUSTER: &str = "local";

/// The control plane's schema, made once per process and copied for each installation.
static TEMPLATE: OnceCell<TestDatabase> = OnceCell::const_new();

/// See the module.
pub(super) struct Ground {
    database: Option<TestDatabase>,
    pub(super) control: Target,
    pub(super) server: Target,
    pub(super) master_key: SecretString,
    pub(super) operator: Arc<Login>,
    /// Where each cluster is, past any proxy.
    clusters: Mutex<HashMap<String, Target>>,
    tenants: AtomicU32,
    storage: tempfile::TempDir,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ground({:?})", self.control)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            database.forget_tenants();
        }
    }
}

impl Ground {
    /// An installation whose tenants live on the process's own server; with `control`, its control plane is there.
    pub(super) async fn new(control: Option<Target>, budget: Option<i32>) -> Self {
        let cluster = TestCluster::get().await;
        let template = TEMPLATE.get_or_init(async || {
            let database = cluster.database("control_template").await;
            ControlPlane::migrate(database.target()).await.expect("the control plane's schema");
            database
        });
        let (database, control) = match control {
            Some(control) => {
                ControlPlane::migrate(&control).await.expect("the control plane's schema");
                (None, control)
            }
            None => {
                let database = cluster.database_from("control", template.await.name()).await;
                let target = database.target().clone();
                (Some(database), target)
            }
        };
        let (email, password) = OPERATOR;
        let operator = Login {
            path: "/api/v1/admin/auth/login",
            body: json!({"email": email, "password": password}),
            made_by: None,
            answer: OnceCell::new(),
        };
        let ground = Self {
            database,
            control,
            server: cluster.admin(),
            master_key: BASE64.encode(random::<32>()).into(),
            operator: Arc::new(operator),
            clusters: Mutex::default(),
            tenants: AtomicU32::new(0),
            storage: tempfile::Builder::new().prefix("tenantry-storage-").tempdir().expect("a directory"),
        };
        let plane = ground.control(Clock::system());
        plane.ensure_installation().await.expect("an installation");
        let passwords = Passwords::of_tests(2, Peppers::default());
        Operators::create(&plane, &passwords, email, password.into(), OperatorRole::Admin, Vec::new())
            .await
            .expect("an operator");
        ground.add_cluster(CLUSTER, ground.server.clone(), &ground.server, budget).await;
        ground
    }

    /// A cluster that is reached at `admin`, and by the tests themselves at `server`.
    pub(super) async fn add_cluster(&self, name: &str, admin: Target, server: &Target, budget: Option<i32>) {
        let new =
            NewCluster { name: name.to_owned(), admin, region: None, max_tenants: None, connection_budget: budget };
        self.fleet(Clock::system(), None).add_cluster(&new).await.expect("a cluster");
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).insert(new.name, server.clone());
    }

    /// The superuser of a cluster's server, past any proxy.
    pub(super) fn server_of(&self, cluster: &str) -> Target {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.get(cluster).cloned().unwrap_or_else(|| panic!("there is no cluster '{cluster}'"))
    }

    /// The control plane, over connections of the caller's runtime.
    pub(super) fn control(&self, clock: Clock) -> ControlPlane {
        ControlPlane::new(MainDb::new(self.control.clone(), 4), Arc::new(self.keys()), clock)
    }

    /// Where its backups are; gone with it.
    pub(super) fn storage(&self) -> std::path::PathBuf {
        self.storage.path().to_owned()
    }

    fn keys(&self) -> MasterKeys {
        MasterKeys::parse(&self.master_key).expect("a key of 32 bytes")
    }

    /// The fleet, over connections of the caller's runtime: as a command in another process works.
    pub(super) fn fleet(&self, clock: Clock, operator_migrations: Option<std::path::PathBuf>) -> Fleet {
        self.fleet_with_stock(clock, operator_migrations, 0)
    }

    /// The same, keeping so many ready tenants on each cluster whenever it is told to.
    pub(super) fn fleet_with_stock(
        &self,
        clock: Clock,
        operator_migrations: Option<std::path::PathBuf>,
        ready_tenants: u32,
    ) -> Fleet {
        let settings = FleetSettings {
            public_url: PUBLIC_URL.to_owned(),
            purge_grace: Duration::from_secs(7 * 24 * 60 * 60),
            operator_migrations,
            storage: Some(Storage::directory(self.storage())),
            backup_every: None,
            backup_keep: Duration::from_secs(30 * 24 * 60 * 60),
            export_retention: Duration::from_secs(7 * 24 * 60 * 60),
            dump_limit: 256 << 20,
            drain_timeout: Duration::from_secs(12),
            migrate: MigrateOptions::default(),
            placement: Placement::Databases,
            ready_tenants,
            cluster_budget: 80,
        };
        Fleet::new(self.control(clock), Passwords::of_tests(2, Peppers::default()), settings)
    }

    /// A slug that no other tenant has.
    pub(super) fn slug(&self, name: &str) -> String {
        format!("{name}-{}", self.tenants.fetch_add(1, Ordering::Relaxed))
    }

    /// The variables with which any command of the program finds this installation.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("TENANTRY_DATABASE_URL".into(), self.control.to_url().expose_secret().to_owned()),
            ("TENANTRY_MASTER_KEY".into(), self.master_key.expose_secret().to_owned()),
            ("TENANTRY_PUBLIC_URL".into(), PUBLIC_URL.into()),
            ("TENANTRY_STORAGE_URL".into(), format!("file://{}", self.storage().display())),
            // A test that wants a stock keeps one: see `TestApp::fleet_with_stock`.
            ("TENANTRY_FLEET__READY_TENANTS".into(), "0".into()),
        ]
    }

    /// Whether its control plane's database goes with it.
    pub(super) const fn owns_database(&self) -> bool {
        self.database.is_some()
    }
}
