//! The listeners: the public one, and that of management. Several servers may run in one process.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::{App, HttpServer, web};
use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use super::app::create_app;
use super::state::AppState;
use super::{health, metrics};
use crate::telemetry::Metrics;

/// How clients are served.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Threads; 0 is one per core.
    pub workers: usize,
    /// How long a client may take to send the head of a request.
    pub request_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long requests under way may take to finish at the end.
    pub shutdown_timeout: Duration,
}

/// Sockets that listen already, so that a taken port is known before anything else starts.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    management: Option<TcpListener>,
}

impl Listeners {
    /// Opens them. Port 0 takes a free one; see [`Self::public_address`].
    ///
    /// # Errors
    /// With the address that cannot be had.
    pub fn open(public: SocketAddr, management: Option<SocketAddr>) -> Result<Self, (SocketAddr, io::Error)> {
        let open = |address| TcpListener::bind(address).map_err(|error| (address, error));
        Ok(Self { public: open(public)?, management: management.map(open).transpose()? })
    }

    /// As [`Self::open`], with management on a free port of loopback where another server of this machine has its own.
    ///
    /// # Errors
    /// With the address that cannot be had.
    pub fn open_beside(public: SocketAddr, management: SocketAddr) -> Result<Self, (SocketAddr, io::Error)> {
        let taken = match Self::open(public, Some(management)) {
            Err((address, error)) if address == management => error,
            done => return done,
        };
        let opened = Self::open(public, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let instead = opened.management_address().map_err(|error| (management, error))?;
        tracing::warn!(%management, error = %taken, instead = instead.map(tracing::field::display), "the address of \
            metrics cannot be opened: they are on a free port; TENANTRY_MANAGEMENT_LISTEN chooses one");
        Ok(opened)
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where Prometheus connects.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn management_address(&self) -> io::Result<Option<SocketAddr>> {
        self.management.as_ref().map(TcpListener::local_addr).transpose()
    }
}

/// Serves until `stop` resolves; then `/readyz` says 503, no connection is taken any more, requests under way finish
/// within the shutdown timeout, and the router closes its pools. Beside the requests, and before the pools are closed,
/// `work` comes to its end: what else is done with them.
///
/// # Errors
/// If a listener fails.
pub async fn serve(
    state: AppState,
    options: ServerOptions,
    listeners: Listeners,
    metrics: Option<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
    work: impl Future<Output = ()>,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let signal = stopping.clone();
    let health = state.health.clone();
    let router = state.router.clone();
    let watch = tokio::spawn(async move {
        stop.await;
        tracing::info!("stopping: requests under way may finish");
        health.drain();
        signal.cancel();
    });

    let app_state = state;
    let public = HttpServer::new(move || create_app(&app_state))
        .workers(worker_threads(options.workers))
        .client_request_timeout(options.request_timeout)
        .keep_alive(KeepAlive::Timeout(options.keep_alive))
        // A client that has gone away is noticed while its request runs: nobody waits for the statement any more.
        .h1_allow_half_closed(false)
        .shutdown_timeout(options.shutdown_timeout.as_secs().max(1))
        .disable_signals()
        .shutdown_signal(stopping.clone().cancelled_owned())
        .listen(listeners.public)?
        .run();
    let management = match (listeners.management, metrics) {
        (Some(listener), Some(metrics)) => Some(tokio::spawn(manage(listener, metrics, false, stopping.clone())?)),
        _ => None,
    };

    let requests = async {
        let done = public.await;
        // The public listener may have failed on its own.
        stopping.cancel();
        done
    };
    let work = async {
        stopping.cancelled().await;
        work.await;
    };
    let (done, ()) = join(requests, work).await;
    watch.abort();
    if let Some(management) = management {
        management.await.map_err(io::Error::other)??;
    }
    router.shutdown().await;
    tracing::info!("stopped");
    done
}

/// The listener of management of a process that takes no other requests: its metrics, and `/livez`. Until `stopping`.
///
/// # Errors
/// If the address cannot be had.
pub fn manage_alone(address: SocketAddr, metrics: Metrics, stopping: CancellationToken) -> io::Result<Server> {
    manage(TcpListener::bind(address)?, metrics, true, stopping)
}

/// The listener of management. It has no authentication: it belongs on an internal network.
fn manage(listener: TcpListener, metrics: Metrics, alone: bool, stopping: CancellationToken) -> io::Result<Server> {
    let metrics = web::Data::new(metrics);
    let routes = move |config: &mut web::ServiceConfig| {
        config.app_data(metrics.clone()).service(metrics::show);
        if alone {
            config.service(health::livez);
        }
    };
    Ok(HttpServer::new(move || App::new().configure(&routes))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .shutdown_signal(stopping.clone().cancelled_owned())
        .listen(listener)?
        .run())
}

fn worker_threads(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(2, std::num::NonZero::get) }
}
