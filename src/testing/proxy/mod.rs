//! A TCP proxy in front of a server, whose network then fails on command: the tenants behind it are in trouble, and no
//! others.

mod carry;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::router::Target;
use carry::{Pair, carry};

const BACKLOG: u32 = 256;

/// What a [`FaultProxy`] does to what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: everything passes.
    Pass,
    /// Nobody listens: new connections are refused. Those that are there go on.
    Refuse,
    /// New connections are reset as soon as they are made; those that are there are reset at once.
    Reset,
    /// New connections are taken and never answered. Those that are there go on.
    Hang,
    /// No byte passes and no end is seen, on any connection, and none is closed. What was on its way arrives when the
    /// fault is over, as it does after a cable was out for a moment.
    BlackHole,
    /// Bytes pass in chunks, each held back: latency, and a bandwidth of `chunk` bytes per `delay` in each direction.
    Slow {
        /// How long each chunk is held back.
        delay: Duration,
        /// The most bytes of a chunk.
        chunk: usize,
    },
    /// A connection is reset when this many bytes have passed on it in one direction since the fault began.
    CutAfter(u64),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the application to the server.
    ToServer,
    /// From the server to the application.
    ToClient,
}

/// What holds now. A fault of new connections stands in both directions.
#[derive(Debug, Clone, Copy)]
struct Faults {
    flows: [Fault; 2],
    /// Grows with every command.
    epoch: u64,
    /// The command after which the connections of before were last to be reset.
    cut_at: u64,
}

impl Faults {
    const fn of(&self, direction: Direction) -> Fault {
        self.flows[direction as usize]
    }

    fn holds(&self, direction: Direction) -> bool {
        matches!(self.of(direction), Fault::BlackHole | Fault::Reset)
    }

    fn has(&self, fault: Fault) -> bool {
        self.flows.contains(&fault)
    }
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicUsize,
    passed: [AtomicU64; 2],
}

/// The proxy. It runs in a thread of its own, on a port of its own; dropping it resets what goes through it.
pub struct FaultProxy {
    upstream: Target,
    port: u16,
    faults: watch::Sender<Faults>,
    applied: watch::Receiver<u64>,
    counts: Arc<Counts>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy").field("port", &self.port).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// A proxy in front of a server (reached over TCP), through which everything passes for now.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start(upstream: &Target) -> Self {
        // Bound, never listened on: while nobody listens the port is still ours, and refuses.
        let holder = bind(0).expect("a free port");
        let port = holder.local_addr().expect("it is bound").port();
        let (faults, commands) = watch::channel(Faults { flows: [Fault::Pass; 2], epoch: 0, cut_at: 0 });
        let (apply, applied) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let (server, shared) = ((upstream.host.clone(), upstream.port), counts.clone());
        let (ready, listens) = std::sync::mpsc::channel();
        // Not in the test's runtime: a test that blocks or ends does not hold its proxy up.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async move {
                let listener = listen(port).expect("the port is ours");
                let _ = ready.send(());
                Proxy { port, server, commands, counts: shared }.run(listener, apply).await;
            });
            drop(holder);
        });
        listens.recv().expect("the port listens");
        Self { upstream: upstream.clone(), port, faults, applied, counts }
    }

    /// The server behind it.
    #[must_use]
    pub const fn upstream(&self) -> &Target {
        &self.upstream
    }

    /// The same server, reached through the proxy.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { host: Ipv4Addr::LOCALHOST.to_string(), port: self.port, ..self.upstream.clone() }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on this fault, in both directions. Ends any other.
    pub async fn set(&self, fault: Fault) {
        self.command(|faults| faults.flows = [fault; 2], fault == Fault::Reset).await;
    }

    /// From now on this fault in one direction; the other is as it was. [`Fault::Refuse`], [`Fault::Reset`] and
    /// [`Fault::Hang`] concern new connections, which have no direction yet: they hold for all.
    pub async fn set_one_way(&self, direction: Direction, fault: Fault) {
        self.command(|faults| faults.flows[direction as usize] = fault, fault == Fault::Reset).await;
    }

    /// Resets the connections that are there, once; new ones are not concerned.
    pub async fn reset_open(&self) {
        self.command(|_| (), true).await;
    }

    async fn command(&self, change: impl FnOnce(&mut Faults), cut: bool) {
        let mut epoch = 0;
        self.faults.send_modify(|faults| {
            change(faults);
            faults.epoch += 1;
            epoch = faults.epoch;
            if cut {
                faults.cut_at = epoch;
            }
        });
        // The thread ends with this value, never before.
        let _ = self.applied.clone().wait_for(|applied| *applied >= epoch).await;
    }

    /// Connections taken so far, requests to cancel a statement included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now. One whose client has gone is counted until that can be seen, which a fault may prevent.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Bytes that have passed one way.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.counts.passed[direction as usize].load(Ordering::Relaxed)
    }
}

/// Several sockets may be bound to the port, so that it is never given up.
fn bind(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    bind(port)?.listen(BACKLOG)
}

struct Proxy {
    port: u16,
    server: (String, u16),
    commands: watch::Receiver<Faults>,
    counts: Arc<Counts>,
}

impl Proxy {
    async fn run(mut self, listener: TcpListener, apply: watch::Sender<u64>) {
        let (mut listener, mut cut_at) = (Some(listener), 0);
        let mut connections = JoinSet::new();
        loop {
            let faults = *self.commands.borrow_and_update();
            if faults.has(Fault::Refuse) {
                listener = None;
            } else if listener.is_none() {
                listener = Some(listen(self.port).expect("the port is ours"));
            }
            if faults.cut_at > cut_at {
                cut_at = faults.cut_at;
                connections.shutdown().await;
            }
            apply.send_replace(faults.epoch);
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.commands.changed() => if changed.is_err() { return },
                Some(_) = connections.join_next() => {}
                accepted = accepted => if let Ok((client, _)) = accepted {
                    self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                    let pair = Pair::new(client, self.counts.clone());
                    if !faults.has(Fault::Reset) {
                        connections.spawn(carry(pair, self.server.clone(), self.commands.clone()));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
