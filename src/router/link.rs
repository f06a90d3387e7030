//! A physical connection: in use, in doubt, cancelled, brought back to order, let go of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use diesel_async::{AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, NoTls};

use super::failure::{ConnectError, ConnectFailure};
use super::signs::Signs;
use super::socket::Socket;
use super::target::Target;
use super::tls::TlsMode;

/// How long an abandoned statement has to end before its successor is cancelled too.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);
/// How long a cancel request may take.
const CANCEL_DEADLINE: Duration = Duration::from_secs(3);

/// A physical connection. Dropping it says goodbye to the server and waits, apart, until the server has closed its
/// end; only then does the permit inside the socket go back to the budget.
pub(crate) struct Link {
    pub(super) conn: AsyncPgConnection,
    gone: Arc<AtomicBool>,
    signs: Arc<Signs>,
    broke_at: OnceLock<Instant>,
    in_use: bool,
    /// A cancel request was sent, and what it hit may not have been what it was meant for.
    cancelled: AtomicBool,
    /// Held while a cancel request is on its way: it must not hit what comes later.
    cancelling: Arc<tokio::sync::Mutex<()>>,
    canceller: Canceller,
    // Dropped after `conn`: tells the driver that the goodbye has begun and starts its deadline.
    _hang_up: oneshot::Sender<()>,
}

impl Link {
    /// A connection that was just opened: `gone` once its driver has ended, which `hang_up` tells to end.
    pub(super) fn new(
        conn: AsyncPgConnection,
        (gone, hang_up): (Arc<AtomicBool>, oneshot::Sender<()>),
        signs: Arc<Signs>,
        canceller: Canceller,
    ) -> Self {
        Self {
            conn,
            gone,
            signs,
            broke_at: OnceLock::new(),
            in_use: false,
            cancelled: AtomicBool::new(false),
            cancelling: Arc::default(),
            canceller,
            _hang_up: hang_up,
        }
    }

    /// Whether the server has closed the connection, as far as the socket knows. Costs no round trip.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.signs.ended()
    }

    /// When somebody first noticed that it is broken, which is now for the first who asks.
    pub(super) fn broke_at(&self) -> Instant {
        *self.broke_at.get_or_init(Instant::now)
    }

    /// What the server has said of the connection when something failed on it.
    pub(super) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// For statements that are pipelined with those of others.
    pub(super) const fn shared(&self) -> &AsyncPgConnection {
        &self.conn
    }

    /// Work begins. Until [`Self::finish`] the connection is in doubt.
    pub(super) fn begin(&mut self) {
        self.in_use = true;
    }

    /// Work ended in good order; a transaction that was left open keeps the connection in doubt.
    pub(super) fn finish(&mut self) {
        self.in_use = AnsiTransactionManager::is_broken_transaction_manager(&mut self.conn);
    }

    /// Whether somebody let go in the middle of a statement or a transaction.
    pub(super) const fn in_doubt(&self) -> bool {
        self.in_use
    }

    /// Whether a statement may have been cancelled that nobody wanted to cancel.
    pub(super) fn was_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Asks the server to cancel what runs now.
    pub(super) fn cancel(&self, runtime: &Handle) {
        self.cancelled.store(true, Ordering::Release);
        let Ok(on_its_way) = self.cancelling.clone().try_lock_owned() else { return };
        let canceller = self.canceller.clone();
        runtime.spawn(async move {
            if timeout(CANCEL_DEADLINE, canceller.cancel()).await.is_err() {
                tracing::warn!("a cancel request was not taken in time");
            }
            drop(on_its_way);
        });
    }

    /// Brings the connection, which nobody is on, back to order: cancels what was abandoned, statement by statement,
    /// and rolls back what was left open. False if that could not be done.
    pub(super) async fn recover(&self, runtime: &Handle) -> bool {
        // May be hit by a cancel request that was meant for what came before it.
        let rolled_back = async {
            let mut conn = &self.conn;
            while conn.batch_execute("ROLLBACK").await.is_err() {
                if self.is_gone() {
                    return false;
                }
            }
            true
        };
        tokio::pin!(rolled_back);
        let well = loop {
            match timeout(CANCEL_AGAIN, &mut rolled_back).await {
                Ok(well) => break well,
                Err(_) => self.cancel(runtime),
            }
        };
        // The server closes the connection of a cancel request after it has passed it on. What arrives now finds nothing
        // to cancel but this.
        drop(self.cancelling.lock().await);
        let _ = (&self.conn).batch_execute("").await;
        self.cancelled.store(false, Ordering::Release);
        well && !self.is_gone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Else the server would finish the abandoned statement before it reads our goodbye.
        if self.in_use
            && !self.is_gone()
            && let Ok(runtime) = Handle::try_current()
        {
            self.cancel(&runtime);
        }
    }
}

/// Asks a server to cancel what it does on one connection.
#[derive(Clone)]
pub(super) struct Canceller {
    token: CancelToken,
    target: Arc<Target>,
}

impl Canceller {
    pub(super) const fn new(token: CancelToken, target: Arc<Target>) -> Self {
        Self { token, target }
    }

    /// Asks, apart: whoever needs no answer need not wait.
    pub(super) fn send(self) {
        tokio::spawn(async move { timeout(CANCEL_DEADLINE, self.cancel()).await });
    }

    async fn cancel(&self) -> Result<(), ConnectError> {
        let socket = Socket::connect(&self.target.host, self.target.port, None).await?;
        if self.target.tls.mode == TlsMode::Disable {
            self.token.cancel_query_raw(socket, NoTls).await?;
        } else {
            let tls = self.target.tls.make(&self.target.host).map_err(|e| ConnectError::new(ConnectFailure::Tls, e))?;
            self.token.cancel_query_raw(socket, tls).await?;
        }
        Ok(())
    }
}
