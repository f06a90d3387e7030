//! One connection through the proxy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::{Counts, Direction, Fault, Faults};

const BUFFER: usize = 16 * 1024;

/// Both ends of a connection. Unless it ended well, they are reset, not closed.
pub(super) struct Pair {
    client: TcpStream,
    server: Option<TcpStream>,
    ended_well: bool,
    counts: Arc<Counts>,
}

impl Pair {
    pub(super) fn new(client: TcpStream, counts: Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self { client, server: None, ended_well: false, counts }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.ended_well {
            for end in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
                // A socket that cannot be told is closed in the usual way.
                let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
            }
        }
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries one connection to its end, or until it is dropped.
pub(super) async fn carry(mut pair: Pair, server: (String, u16), mut faults: watch::Receiver<Faults>) {
    let answered = |faults: &Faults| !faults.has(Fault::Hang) && !faults.holds(Direction::ToServer);
    if faults.wait_for(answered).await.is_err() {
        return;
    }
    let Ok(upstream) = TcpStream::connect(server).await else { return };
    // Latency is what the fault says, not Nagle's.
    let _ = (pair.client.set_nodelay(true), upstream.set_nodelay(true));
    let Pair { client, server, counts, .. } = &mut pair;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.insert(upstream).split();
    let up = Flow::new(Direction::ToServer, faults.clone(), counts);
    let down = Flow::new(Direction::ToClient, faults, counts);
    let both = tokio::try_join!(up.pump(from_client, to_server), down.pump(from_server, to_client));
    pair.ended_well = both.is_ok();
}

/// One direction of one connection.
struct Flow<'a> {
    direction: Direction,
    faults: watch::Receiver<Faults>,
    total: &'a AtomicU64,
    /// Bytes passed since the command of this epoch.
    passed: (u64, u64),
}

impl<'a> Flow<'a> {
    fn new(direction: Direction, faults: watch::Receiver<Faults>, counts: &'a Counts) -> Self {
        let epoch = faults.borrow().epoch;
        Self { direction, faults, total: &counts.passed[direction as usize], passed: (epoch, 0) }
    }

    /// The fault that holds, once bytes may pass at all.
    async fn fault(&mut self) -> io::Result<Fault> {
        let direction = self.direction;
        let faults = *self.faults.wait_for(|faults| !faults.holds(direction)).await.map_err(io::Error::other)?;
        if self.passed.0 != faults.epoch {
            self.passed = (faults.epoch, 0);
        }
        Ok(faults.of(direction))
    }

    async fn pump(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let most = match self.fault().await? {
                Fault::Slow { chunk, .. } => chunk.clamp(1, BUFFER),
                _ => BUFFER,
            };
            let read = tokio::select! {
                read = from.read(&mut buffer[..most]) => read?,
                changed = self.faults.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
            };
            // A fault that began meanwhile holds for these bytes too.
            let fault = self.fault().await?;
            if read == 0 {
                return to.shutdown().await;
            }
            if let Fault::Slow { delay, .. } = fault {
                tokio::time::sleep(delay).await;
            }
            let left = match fault {
                Fault::CutAfter(most) => usize::try_from(most.saturating_sub(self.passed.1)).unwrap_or(BUFFER),
                _ => BUFFER,
            };
            let passing = read.min(left);
            self.passed.1 += passing as u64;
            self.total.fetch_add(passing as u64, Ordering::Relaxed);
            to.write_all(&buffer[..passing]).await?;
            if read > left {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
}
