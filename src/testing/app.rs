//! The real application on a real port, with a router, a fleet and a control plane of its own.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OnceCell, oneshot};

use super::ground::{CLUSTER, Ground};
use super::persona::{Persona, Proof};
use super::{FaultProxy, Tenant};
use crate::config::{Config, Sources};
use crate::control::ControlPlane;
use crate::fleet::Fleet;
use crate::http::{Listeners, Node};
use crate::jobs::{Housekeeping, serving};
use crate::kernel::Clock;
use crate::router::{Guards, Registration, Router, Target};
use crate::telemetry;

/// The application that tests share which do not need one of their own.
static SHARED: OnceCell<TestApp> = OnceCell::const_new();

/// How long a node may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// One node of a test installation. It runs in a thread of its own, so that tests with runtimes of their own can share
/// it; dropping it stops it.
pub struct TestApp {
    url: String,
    management_url: String,
    router: Router,
    clock: Clock,
    ground: Arc<Ground>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for TestApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestApp({})", self.url)
    }
}

/// How a [`TestApp`] is to be.
#[derive(Debug, Default)]
pub struct TestAppBuilder {
    guards: Guards,
    variables: Vec<(String, String)>,
    ground: Option<Arc<Ground>>,
    control: Option<Target>,
    budget: Option<i32>,
    named: bool,
}

impl TestAppBuilder {
    /// Other guards than all of them.
    #[must_use]
    pub fn guards(self, guards: Guards) -> Self {
        Self { guards, ..self }
    }

    /// A setting, by its variable: `("TENANTRY_AUTH__REFRESH_GRACE", "0s")`.
    #[must_use]
    pub fn set(mut self, variable: &str, value: &str) -> Self {
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// A further node of that installation, instead of an installation of its own.
    #[must_use]
    pub fn beside(self, app: &TestApp) -> Self {
        Self { ground: Some(app.ground.clone()), ..self }
    }

    /// The control plane in this database, instead of one on the process's own server.
    #[must_use]
    pub fn control_database(self, control: Target) -> Self {
        Self { control: Some(control), ..self }
    }

    /// The budget of connections of the cluster on which tenants are made.
    #[must_use]
    pub fn connection_budget(self, budget: i32) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// With `http://localhost:port` for its public address: what is for a name alone, as passkeys are, and for pages that a
    /// browser trusts.
    #[must_use]
    pub fn named(self) -> Self {
        Self { named: true, ..self }
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(self) -> TestApp {
        let ground = match self.ground {
            Some(ground) => ground,
            None => Arc::new(Ground::new(self.control, self.budget).await),
        };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listeners = Listeners::open(any, Some(any)).expect("free ports");
        let public = listeners.public_address().expect("an address");
        let management = listeners.management_address().expect("an address").expect("opened above");
        let (url, management) = (format!("http://{public}"), format!("http://{management}"));
        let mut variables = ground.environment();
        variables.push(("TENANTRY_HTTP__WORKERS".into(), "2".into()));
        if self.named {
            variables.push(("TENANTRY_PUBLIC_URL".into(), format!("http://localhost:{}", public.port())));
        }
        variables.extend(self.variables);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = Config::load(&Sources::from_variables(&variables)).unwrap_or_else(|error| panic!("{error}"));
        let guards = self.guards;
        // One recorder for all nodes of this process; the first one installs it.
        let _ = telemetry::install_metrics();
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let mut node = Node::open_beside_others(&config).expect("a configuration with everything");
                node.guards = guards;
                let server = node.start(&config).await;
                let server = server.unwrap_or_else(|error| panic!("the node does not start: {error:?}"));
                if started.send((server.router().clone(), node.control.clock.clone())).is_err() {
                    return;
                }
                let stop = async {
                    let _ = stopped.await;
                };
                let jobs =
                    serving(Housekeeping::new(), server.post_office().clone(), server.workspaces().clone()).start();
                server.serve(listeners, stop, jobs.stop(Duration::from_secs(5))).await.expect("the node ends well");
            });
        });
        let (router, clock) = starting.await.expect("the node starts");
        TestApp { url, management_url: management, router, clock, ground, stop: Some(stop), thread: Some(thread) }
    }
}

impl TestApp {
    /// The application of this process: for tests that bring their own tenants and change nothing for others.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(async || Self::builder().start().await).await
    }

    /// One of the test's own.
    #[must_use]
    pub fn builder() -> TestAppBuilder {
        TestAppBuilder::default()
    }

    /// Where it listens: `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its metrics are. They are those of all nodes in this process together.
    #[must_use]
    pub fn management_url(&self) -> &str {
        &self.management_url
    }

    /// Its router, to look at. Its connections belong to the node: do not ask it for any.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// Its clock, to move.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The control plane, over connections of this test's own.
    #[must_use]
    pub fn control(&self) -> ControlPlane {
        self.ground.control(self.clock.clone())
    }

    /// The control plane's database, as its owner.
    #[must_use]
    pub fn control_database(&self) -> &Target {
        &self.ground.control
    }

    /// The fleet, as a command in another process has it.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        self.ground.fleet(self.clock.clone(), None).serving_at(&self.router.config().public_url)
    }

    /// The fleet with the operator's own migrations in a directory.
    #[must_use]
    pub fn fleet_with_migrations(&self, directory: &std::path::Path) -> Fleet {
        self.ground.fleet(self.clock.clone(), Some(directory.to_owned()))
    }

    /// The directory that its backups are kept in.
    #[must_use]
    pub fn storage(&self) -> std::path::PathBuf {
        self.ground.storage()
    }

    /// The fleet with a stock of so many ready tenants on each cluster, kept by
    /// [`keep_stock`](crate::fleet::Fleet::keep_stock); and with the operator's own migrations, if there are any.
    #[must_use]
    pub fn fleet_with_stock(&self, size: u32, migrations: Option<&std::path::Path>) -> Fleet {
        self.ground.fleet_with_stock(self.clock.clone(), migrations.map(std::path::Path::to_owned), size)
    }

    /// The superuser of the server that tenants are made on, at database `postgres`.
    #[must_use]
    pub fn server(&self) -> Target {
        self.ground.server.clone()
    }

    /// The variables with which any command of the program finds this installation.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.ground.environment()
    }

    /// A new tenant that nobody may register with. Its slug is `name` with a number.
    pub async fn tenant(&self, name: &str) -> Tenant {
        self.tenant_with(name, Registration::Closed).await
    }

    /// A new tenant with another registration policy.
    pub async fn tenant_with(&self, name: &str, registration: Registration) -> Tenant {
        Tenant::create(&self.ground, &self.url, CLUSTER, name, registration).await
    }

    /// A new tenant on a further cluster: see [`Self::cluster`] and [`Self::cluster_behind`].
    ///
    /// # Panics
    /// If the installation has no such cluster from here.
    pub async fn tenant_on(&self, cluster: &str, name: &str) -> Tenant {
        Tenant::create(&self.ground, &self.url, cluster, name, Registration::Closed).await
    }

    /// Takes a further server in as a cluster: one of the test's own.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn cluster(&self, name: &str, server: &Target) {
        self.ground.add_cluster(name, server.clone(), server, None).await;
    }

    /// Takes the server behind a proxy in as a cluster: whatever the application does there goes through the proxy, what
    /// a test looks at over [`Tenant::database`] does not.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn cluster_behind(&self, name: &str, proxy: &FaultProxy) {
        self.ground.add_cluster(name, proxy.target(), proxy.upstream(), None).await;
    }

    /// A tenant of another node of the same installation, asked here.
    #[must_use]
    pub fn at(&self, tenant: &Tenant) -> Tenant {
        tenant.at(&self.url)
    }

    /// Somebody without a token.
    #[must_use]
    pub fn anonymous(&self) -> Persona {
        Persona::new(&self.url, Proof::Nothing)
    }

    /// The operator of the installation.
    #[must_use]
    pub fn operator(&self) -> Persona {
        Persona::new(&self.url, Proof::Login(self.ground.operator.clone()))
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        // The database may go only when nobody is left in it.
        if self.ground.owns_database() {
            let begun = std::time::Instant::now();
            while !thread.is_finished() && begun.elapsed() < STOP_DEADLINE {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
