//! The one door to PostgreSQL: how a connection is opened, driven, cancelled and closed.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use diesel_async::{AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};
use futures_util::future::join;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, CancelToken, Connection, NoTls};

use super::pools::Permit;
use super::signs::{Overheard, Overhearing, Signs};
use super::socket::Socket;
use super::stamp::{self, Stamp};
pub use super::target::{Target, UrlError};
pub use super::tls::{TlsMode, TlsPolicy};

/// How long the server has to close its end before we let go of a socket.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// How long an abandoned statement has to end before its successor is cancelled too.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);
/// How long a cancel request may take.
const CANCEL_DEADLINE: Duration = Duration::from_secs(3);

/// What a new connection is told.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Bound on the whole opening: name, TCP, TLS, authentication.
    pub connect_timeout: Duration,
    /// Server-side bound on each statement; none for long operations.
    pub statement_timeout: Option<Duration>,
    /// Server-side bound on an idle open transaction.
    pub idle_in_transaction_timeout: Option<Duration>,
    /// Server-side bound on waiting for a lock.
    pub lock_timeout: Option<Duration>,
    /// A statement outside of a transaction that asks to write may not: PostgreSQL refuses it.
    pub read_only: bool,
    /// Commits do not wait for the disk. The next one that does, on whatever connection to the same server, makes them
    /// durable too: the server's log is one sequence.
    pub relaxed: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            application_name: "tenantry".into(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Some(Duration::from_secs(30)),
            idle_in_transaction_timeout: Some(Duration::from_secs(30)),
            lock_timeout: None,
            read_only: false,
            relaxed: false,
        }
    }
}

impl ConnectOptions {
    fn startup(&self) -> String {
        let settings = [
            ("statement_timeout", self.statement_timeout),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout),
            ("lock_timeout", self.lock_timeout),
        ];
        settings
            .iter()
            .filter_map(|(name, value)| value.map(|v| format!("-c {name}={}", v.as_millis())))
            .chain(self.read_only.then(|| "-c default_transaction_read_only=on".to_owned()))
            .chain(self.relaxed.then(|| "-c synchronous_commit=off".to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Why a connection could not be opened; the kind decides what the breaker does and what an operator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// No such host, nobody listens, no answer in time, or the server is starting or stopping.
    Unreachable,
    /// TLS could not be agreed on, or a certificate was refused.
    Tls,
    /// Wrong role or password, or no right to connect.
    Authentication,
    /// The server is out of connections, for everybody.
    ServerFull,
    /// The role's or the database's own limit of connections is reached.
    ConnectionLimit,
    /// There is no such database.
    UnknownDatabase,
    /// The database answers for another tenant, or for nobody.
    StampMismatch,
    /// Anything else the server said.
    Other,
}

impl ConnectFailure {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Tls,
        Self::Authentication,
        Self::ServerFull,
        Self::ConnectionLimit,
        Self::UnknownDatabase,
        Self::StampMismatch,
        Self::Other,
    ];

    /// The word used in metrics and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::ServerFull => "server_full",
            Self::ConnectionLimit => "connection_limit",
            Self::UnknownDatabase => "unknown_database",
            Self::StampMismatch => "stamp_mismatch",
            Self::Other => "other",
        }
    }
}

/// A failed opening.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect ({})", kind.as_str())]
pub struct ConnectError {
    /// What kind of failure.
    pub kind: ConnectFailure,
    /// The cause, for logs and operators.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

/// The server did not say no; it said nothing.
#[derive(Debug, thiserror::Error)]
#[error("no answer {0}")]
pub(super) struct Late(pub(super) &'static str);

impl ConnectError {
    /// Whether there was no answer within a deadline.
    pub(super) fn is_late(&self) -> bool {
        self.source.is::<Late>()
    }

    /// A failure of a kind, with its cause.
    pub fn new(kind: ConnectFailure, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        let kind = match error.code() {
            Some(code)
                if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
            {
                ConnectFailure::Authentication
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => ConnectFailure::Authentication,
            // One code for both; what raised it tells them apart, in every language.
            Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
                let routine = error.as_db_error().and_then(DbError::routine);
                let own = routine.is_some_and(|it| ["InitializeSessionUserId", "CheckMyDatabase"].contains(&it));
                if own { ConnectFailure::ConnectionLimit } else { ConnectFailure::ServerFull }
            }
            Some(code) if *code == SqlState::UNDEFINED_DATABASE => ConnectFailure::UnknownDatabase,
            Some(code) if *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::ADMIN_SHUTDOWN => {
                ConnectFailure::Unreachable
            }
            Some(_) => ConnectFailure::Other,
            // tokio-postgres has no public kind for these two; its Display is stable and tested here.
            None if error.to_string().contains("TLS") => ConnectFailure::Tls,
            None if error.to_string().contains("authentication") => ConnectFailure::Authentication,
            None => ConnectFailure::Unreachable,
        };
        Self::new(kind, error)
    }
}

/// A physical connection. Dropping it says goodbye to the server and waits, apart, until the server has closed its
/// end; only then does the permit inside the socket go back to the budget.
pub(crate) struct Link {
    pub(super) conn: AsyncPgConnection,
    gone: Arc<AtomicBool>,
    signs: Arc<Signs>,
    broke_at: OnceLock<std::time::Instant>,
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
    /// Whether the server has closed the connection, as far as the socket knows. Costs no round trip.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.signs.ended()
    }

    /// When somebody first noticed that it is broken, which is now for the first who asks.
    pub(super) fn broke_at(&self) -> std::time::Instant {
        *self.broke_at.get_or_init(std::time::Instant::now)
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

#[derive(Clone)]
struct Canceller {
    token: CancelToken,
    target: Arc<Target>,
}

impl Canceller {
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

/// Opens a raw client whose driver runs in the background.
pub(super) async fn open_client(
    target: &Target,
    options: &ConnectOptions,
    permit: Option<Permit>,
) -> Result<(tokio_postgres::Client, Arc<AtomicBool>, oneshot::Sender<()>), ConnectError> {
    open_listening(target, options, permit, None).await
}

/// As [`open_client`]; what the server notifies of is passed on, several at once as one.
pub(super) async fn open_listening(
    target: &Target,
    options: &ConnectOptions,
    permit: Option<Permit>,
    announce: Option<mpsc::Sender<()>>,
) -> Result<(tokio_postgres::Client, Arc<AtomicBool>, oneshot::Sender<()>), ConnectError> {
    open_overheard(target, options, permit, announce, Arc::default()).await
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
async fn open_overheard(
    target: &Target,
    options: &ConnectOptions,
    permit: Option<Permit>,
    announce: Option<mpsc::Sender<()>>,
    signs: Arc<Signs>,
) -> Result<(tokio_postgres::Client, Arc<AtomicBool>, oneshot::Sender<()>), ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let late = || ConnectError::new(ConnectFailure::Unreachable, Late("within the connect timeout"));
    let mut config = tokio_postgres::Config::new();
    config
        .user(&target.user)
        .dbname(&target.database)
        .application_name(&options.application_name)
        .options(options.startup())
        .ssl_mode(if target.tls.mode == TlsMode::Disable { SslMode::Disable } else { SslMode::Require });
    if !target.password.expose_secret().is_empty() {
        config.password(target.password.expose_secret());
    }
    let socket =
        timeout_at(deadline, Socket::connect(&target.host, target.port, permit)).await.map_err(|_| late())??;
    let gone = Arc::new(AtomicBool::new(false));
    let (hang_up, hung_up) = oneshot::channel();
    let client = if target.tls.mode == TlsMode::Disable {
        let socket = Overheard::new(socket, signs);
        let (client, connection) =
            timeout_at(deadline, config.connect_raw(socket, NoTls)).await.map_err(|_| late())??;
        tokio::spawn(drive(attend(connection, announce), hung_up, gone.clone()));
        client
    } else {
        let tls = target.tls.make(&target.host).map_err(|e| ConnectError::new(ConnectFailure::Tls, e))?;
        let tls = Overhearing { tls, signs };
        let (client, connection) =
            timeout_at(deadline, config.connect_raw(socket, tls)).await.map_err(|_| late())??;
        tokio::spawn(drive(attend(connection, announce), hung_up, gone.clone()));
        client
    };
    Ok((client, gone, hang_up))
}

/// Opens a connection for diesel, and asks it first whose database it is, if it should be somebody's.
pub(super) async fn open(
    target: &Arc<Target>,
    options: &ConnectOptions,
    permit: Option<Permit>,
    stamp: Option<Stamp>,
) -> Result<Link, ConnectError> {
    let signs = Arc::<Signs>::default();
    let (client, gone, hang_up) = open_overheard(target, options, permit, None, signs.clone()).await?;
    let token = client.cancel_token();
    let asked = match stamp {
        Some(expected) => Some((stamp::ask(&client).await?, expected)),
        None => None,
    };
    let verdict = async {
        match asked {
            Some((answer, expected)) => stamp::check(answer, expected).await,
            None => Ok(()),
        }
    };
    let both = join(verdict, AsyncPgConnection::try_from(client));
    let (verdict, conn) = timeout(options.connect_timeout, both)
        .await
        .map_err(|_| ConnectError::new(ConnectFailure::Unreachable, Late("to the first statement")))?;
    verdict?;
    // The server let us in, and asks for nothing more: a connection that ends now is like one that never began.
    let conn = conn.map_err(|error| ConnectError::new(ConnectFailure::Unreachable, error))?;
    Ok(Link {
        conn,
        gone,
        signs,
        broke_at: OnceLock::new(),
        in_use: false,
        cancelled: AtomicBool::new(false),
        cancelling: Arc::default(),
        canceller: Canceller { token, target: target.clone() },
        _hang_up: hang_up,
    })
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Drives a connection, and passes on that the server notified of something.
async fn attend<S, T>(
    mut connection: Connection<S, T>,
    announce: Option<mpsc::Sender<()>>,
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(_), Some(announce)) = (message?, &announce) {
            // Full: the one that waits to be seen stands for this one too.
            let _ = announce.try_send(());
        }
    }
    Ok(())
}

async fn drive<C>(connection: C, hung_up: oneshot::Receiver<()>, gone: Arc<AtomicBool>)
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send,
{
    // Also when the runtime stops and this future is dropped.
    let _gone = SetOnDrop(gone);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        // The sender is dropped, never used: the owner let go.
        _ = hung_up => timeout(CLOSE_DEADLINE, &mut connection).await.ok(),
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "a database connection ended"),
        None => tracing::warn!("the server did not close a connection in time; let go of it"),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
