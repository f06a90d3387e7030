//! One node of an installation, put together from its configuration: control plane, router, application.

use std::future::Future;
use std::io;
use std::sync::Arc;

use diesel_async::RunQueryDsl as _;
use futures_util::future::FutureExt as _;

use super::metrics;
use super::parts::{Parts, own_migrations};
use super::server::{Listeners, ServerOptions, serve};
use super::state::{AppState, HttpSettings};
use crate::config::{Config, ConfigError};
use crate::control::ControlPlane;
use crate::control::operators::Operators;
use crate::error::{ApiResult, Code};
use crate::fleet::mail::PostOffice;
use crate::fleet::signup::SignUpSettings;
use crate::fleet::workspaces::Workspaces;
use crate::fleet::{Fleet, FleetSettings};
use crate::kernel::Clock;
use crate::mailer::Mailer;
use crate::outbound::Outbound;
use crate::rest::passwords::{Passwords, Peppers};
use crate::router::migrate::{Applied, MigrateError, MigrateOptions};
use crate::router::{ControlPlaneRegistry, Guards, MainConn, MainDb, Router, RouterConfig, SnapshotSettings};
use crate::telemetry::{self, Metrics};
use crate::tenant::auth::captcha::{Captcha, SiteVerify};
use crate::tenant::auth::{Limits, PasskeySite, delta};
use crate::tenant::mail::Links;
use crate::tenant::{Auth, AuthSettings, SessionAdmission};

/// Connections of one node to the control plane.
const CONTROL_CONNECTIONS: u32 = 8;
/// What nodes are given beyond their own time to let go of connections, before somebody else ends those.
const DRAIN_SLACK: std::time::Duration = std::time::Duration::from_secs(2);

/// A node that has not started: it can prepare the installation.
#[derive(Debug, Clone)]
pub struct Node {
    /// The control plane.
    pub control: ControlPlane,
    /// Works on tenants.
    pub fleet: Fleet,
    /// Hashes passwords, a few at a time.
    pub passwords: Passwords,
    /// The router's guards: all on, unless a test turns one off.
    pub guards: Guards,
    mailer: Option<Mailer>,
}

impl Node {
    /// Whether it could be put together, and run.
    ///
    /// # Errors
    /// As [`Self::open_to_run`].
    pub fn check(config: &Config) -> Result<(), ConfigError> {
        own_migrations(config)?;
        Parts::read(config).map(drop)
    }

    /// As [`Self::open`], for a node that serves or works by itself: it makes tenants, and migrates them, at any time. A
    /// command that does neither needs no migrations.
    ///
    /// # Errors
    /// As [`Self::open`], and if the operator's own migrations are not where the configuration says, or cannot be used.
    pub fn open_to_run(config: &Config) -> Result<Self, ConfigError> {
        own_migrations(config)?;
        Self::open(config)
    }

    /// Puts it together; opens no connection.
    ///
    /// # Errors
    /// If the configuration lacks the control plane or its keys, or what it says of mail, storage or peppers cannot be.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        Self::hashing(config, Passwords::new)
    }

    /// The same, as [`Passwords::of_tests`].
    #[cfg(feature = "testing")]
    pub(crate) fn open_beside_others(config: &Config) -> Result<Self, ConfigError> {
        Self::hashing(config, Passwords::of_tests)
    }

    fn hashing(config: &Config, passwords: impl FnOnce(usize, Peppers) -> Passwords) -> Result<Self, ConfigError> {
        let Parts { keys, target, peppers, leaked, storage, mailer } = Parts::read(config)?;
        let control = ControlPlane::new(MainDb::new(target, CONTROL_CONNECTIONS), Arc::new(keys), Clock::system());
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // One is left to requests: with all of them hashing, a storm of logins is every other route's wait.
        let passwords = passwords(cores - 1, peppers);
        let passwords = match leaked {
            Some(leaked) => passwords.without(leaked),
            None => passwords,
        };
        let settings = FleetSettings {
            public_url: config.public_url().to_owned(),
            purge_grace: config.fleet().purge_grace.0,
            operator_migrations: config.tenant_migrations().map(std::path::Path::to_owned),
            storage,
            backup_every: Some(config.backup().every.0).filter(|every| !every.is_zero()),
            backup_keep: config.backup().keep.0,
            export_retention: config.fleet().export_retention.0,
            dump_limit: config.fleet().dump_limit.0 as u64,
            drain_timeout: config.router().drain_timeout.0 + DRAIN_SLACK,
            migrate: MigrateOptions::default(),
            placement: config.fleet().placement,
            ready_tenants: config.fleet().ready_tenants,
            cluster_budget: config.router().cluster_budget,
        };
        let fleet = Fleet::new(control.clone(), passwords.clone(), settings);
        Ok(Self { control, fleet, passwords, guards: Guards::default(), mailer })
    }

    /// Writes mails to the log, if there is no mail server. They have links in them that let anybody in who reads it: for
    /// `tenantry dev` alone.
    pub fn log_mails(&mut self) {
        self.mailer = self.mailer.take().or_else(Mailer::to_the_log);
    }

    /// Brings the control plane's database to the embedded schema.
    ///
    /// # Errors
    /// [`MigrateError`]; migrations before the failed one stay applied.
    pub async fn migrate(&self) -> Result<Applied, MigrateError> {
        ControlPlane::migrate(self.control.db.target()).await
    }

    /// Reads the installation (its identity and keys are made if there are none yet) and starts following its tenants.
    /// While the control plane does not answer, it starts from the registry's snapshot on this machine, if there is one.
    ///
    /// # Errors
    /// If the control plane does not answer and there is no snapshot to start from, if it has no schema, or was sealed
    /// with other master keys.
    pub async fn start(&self, config: &Config) -> ApiResult<Server> {
        metrics::describe();
        let control = &self.control;
        let snapshot = snapshot_settings(config, &control.clock);
        match control.ensure_installation().await {
            // What is missing then is found out, and said, by whoever reads the snapshot.
            Err(error) if snapshot.is_some() && error.code() == Code::ControlPlaneUnavailable => {}
            answer => drop(answer?),
        }
        let registry = ControlPlaneRegistry::new(control.db.clone(), control.keys.clone());
        let registry = Arc::new(match snapshot {
            Some(settings) => registry.with_snapshot(settings),
            None => registry,
        });
        let outbound = Outbound::new(config.outbound().allow.clone());
        let admission = Arc::new(SessionAdmission::new(control.clock.clone()).reaching(outbound.clone()));
        let settings = RouterConfig { guards: self.guards, ..router_config(config, &control.clock) };
        let router = Router::start(registry, admission.clone(), settings).await?;
        router.keep_schemas_by(Arc::new(self.fleet.clone()));
        router.rings_at(Arc::new(self.fleet.clone()));
        if self.mailer.is_none() {
            tracing::info!("mails wait: there is no mail server (TENANTRY_SMTP_URL)");
        }
        let links = Links { app_url: config.app_url().to_owned() };
        let post_office = PostOffice::new(self.fleet.clone(), router.clone(), self.mailer.clone(), links);
        let workspaces = Workspaces::new(self.fleet.clone(), router.clone());
        let auth = Auth::new(self.passwords.clone(), auth_settings(config), control.clock.clone(), admission);
        let (turnstile, hcaptcha) = (config.auth().turnstile_url.clone(), config.auth().hcaptcha_url.clone());
        let (name, origins) = (config.auth().passkey_rp_id.as_deref(), &config.http().cors_origins);
        let auth = auth.with_passkeys(PasskeySite::new(config.public_url(), name, origins));
        let auth = auth.with_captcha(Captcha::new(SiteVerify::new(turnstile, hcaptcha, outbound)));
        let operators =
            Operators::new(control.clone(), self.passwords.clone(), config.public_url(), config.auth().clock_leeway.0);
        let operators = operators.demanding_second_factor(config.auth().operators_need_second_factor);
        let http = config.http();
        let settings = HttpSettings {
            body_limit: http.body_limit.0,
            docs: http.docs,
            cors_origins: http.cors_origins.clone(),
            trusted_proxies: http.trusted_proxies.clone(),
        };
        let db = control.db.clone();
        let state = AppState::new(router, settings)
            .control_plane_probe(move || answers(db.clone()).boxed())
            .with(control.clone())
            .with(self.passwords.clone())
            .with(self.fleet.clone())
            .with(operators)
            .with(sign_up_settings(config))
            .with(auth);
        let options = ServerOptions {
            workers: http.workers,
            request_timeout: http.request_timeout.0,
            keep_alive: http.keep_alive.0,
            shutdown_timeout: http.shutdown_timeout.0,
        };
        Ok(Server { state, options, metrics: telemetry::metrics(), post_office, workspaces })
    }
}

async fn answers(db: MainDb) -> bool {
    let asked = db.read(async |conn: &mut MainConn| -> Result<usize, crate::router::Error> {
        Ok(diesel::sql_query("SELECT 1").execute(conn).await?)
    });
    asked.await.is_ok()
}

/// Where the registry's snapshot is kept; `None`, and a line in the log, where there is no place for it.
fn snapshot_settings(config: &Config, clock: &Clock) -> Option<SnapshotSettings> {
    let max_age = config.router().snapshot_max_age.0;
    let path = config.snapshot_path().filter(|_| !max_age.is_zero());
    if path.is_none() {
        tracing::info!(
            "no registry snapshot is kept (router.snapshot_path): this node cannot start without the control plane"
        );
    }
    path.map(|path| SnapshotSettings { max_age, clock: clock.clone(), ..SnapshotSettings::new(path) })
}

fn router_config(config: &Config, clock: &Clock) -> RouterConfig {
    let router = config.router();
    RouterConfig {
        clock: clock.clone(),
        clock_leeway: config.auth().clock_leeway.0,
        cluster_budget: router.cluster_budget,
        tenant_max_connections: router.tenant_max_connections,
        acquire_timeout: router.acquire_timeout.0,
        idle_timeout: router.idle_timeout.0,
        connect_timeout: router.connect_timeout.0,
        statement_timeout: router.statement_timeout.0,
        drain_timeout: router.drain_timeout.0,
        hold_timeout: router.hold_timeout.0,
        slice_ttl: router.slice_ttl.0,
        ..RouterConfig::new(config.public_url())
    }
}

fn sign_up_settings(config: &Config) -> SignUpSettings {
    let signup = config.signup();
    SignUpSettings { mode: signup.mode, per_hour: signup.per_hour, unlimited: signup.unlimited.clone() }
}

fn auth_settings(config: &Config) -> AuthSettings {
    let auth = config.auth();
    AuthSettings {
        access_token_ttl: auth.access_token_ttl.0,
        refresh_token_ttl: auth.refresh_token_ttl.0,
        refresh_grace: auth.refresh_grace.0,
        limits: Limits {
            account: auth.lockout_failures as usize,
            address: auth.address_failures as usize,
            tenant: auth.tenant_failures as usize,
            window: delta(auth.lockout_window.0),
        },
        ..AuthSettings::default()
    }
}

/// A node that knows its tenants and can serve.
#[derive(Debug)]
pub struct Server {
    state: AppState,
    options: ServerOptions,
    metrics: Option<Metrics>,
    post_office: PostOffice,
    workspaces: Workspaces,
}

impl Server {
    /// What the application is built from.
    #[must_use]
    pub const fn state(&self) -> &AppState {
        &self.state
    }

    /// Its router.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.state.router
    }

    /// Sends the mail of the tenants.
    #[must_use]
    pub const fn post_office(&self) -> &PostOffice {
        &self.post_office
    }

    /// Has people find their workspaces.
    #[must_use]
    pub const fn workspaces(&self) -> &Workspaces {
        &self.workspaces
    }

    /// Serves until `stop` resolves, then ends gracefully, and `work` with it; see [`serve`].
    ///
    /// # Errors
    /// If a listener fails.
    pub async fn serve(
        self,
        listeners: Listeners,
        stop: impl Future<Output = ()> + Send + 'static,
        work: impl Future<Output = ()>,
    ) -> io::Result<()> {
        serve(self.state, self.options, listeners, self.metrics, stop, work).await
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
