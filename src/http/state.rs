//! What an application is built from.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::web;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::openapi;
use crate::config::Network;
use crate::router::Router;

/// How long the answer of a probe is repeated, so that strangers cannot make work with `/readyz`.
const PROBE_KEPT: Duration = Duration::from_secs(1);
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// Settings of the application.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The most bytes of a body.
    pub body_limit: usize,
    /// Whether `/openapi.json` and `/docs` are served.
    pub docs: bool,
    /// Origins of browser apps that may call.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { body_limit: 1024 * 1024, docs: true, cors_origins: Vec::new(), trusted_proxies: Vec::new() }
    }
}

type Provide = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;
type Probe = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// What every worker's application shares. Clones share it.
#[derive(Clone)]
pub struct AppState {
    pub(super) router: Router,
    pub(super) settings: HttpSettings,
    pub(super) health: Health,
    provided: Vec<Provide>,
    document: Arc<OnceLock<web::Bytes>>,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AppState {
    /// An application on a router that has started.
    #[must_use]
    pub fn new(router: Router, settings: HttpSettings) -> Self {
        Self { router, settings, health: Health::default(), provided: Vec::new(), document: Arc::default() }
    }

    /// Gives handlers something to work with, as `web::Data<T>`.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(mut self, shared: T) -> Self {
        let data = web::Data::new(shared);
        self.provided.push(Arc::new(move |config| {
            config.app_data(data.clone());
        }));
        self
    }

    /// How `/readyz` finds out whether the control plane answers. It is reported, and does not make a node unready:
    /// known tenants are served without it.
    #[must_use]
    pub fn control_plane_probe(mut self, probe: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        self.health.0 = Arc::new(HealthInner { probe: Some(Arc::new(probe)), ..HealthInner::default() });
        self
    }

    /// The OpenAPI document as JSON, if it is served: written once for all workers.
    pub(super) fn document(&self) -> Option<web::Bytes> {
        self.settings
            .docs
            .then(|| self.document.get_or_init(|| openapi::json(&self.router.config().public_url)).clone())
    }

    pub(super) fn provide(&self, config: &mut web::ServiceConfig) {
        for provide in &self.provided {
            provide(config);
        }
    }
}

/// Whether this node takes requests.
#[derive(Clone, Default)]
pub(super) struct Health(Arc<HealthInner>);

#[derive(Default)]
struct HealthInner {
    draining: AtomicBool,
    probe: Option<Probe>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Health {
    /// From now on `/readyz` says 503, so that load balancers look elsewhere.
    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Whether the control plane answers; `None` where nobody can tell.
    pub(super) async fn control_plane(&self) -> Option<bool> {
        let probe = self.0.probe.as_ref()?;
        let mut last = self.0.last.lock().await;
        if let Some((when, answer)) = *last
            && when.elapsed() < PROBE_KEPT
        {
            return Some(answer);
        }
        let answer = timeout(PROBE_DEADLINE, probe()).await.unwrap_or(false);
        *last = Some((Instant::now(), answer));
        Some(answer)
    }
}
