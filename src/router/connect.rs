//! The one door to PostgreSQL: how a connection is opened and driven. What is done with it then is in `link.rs`.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::failure::Late;
pub use super::failure::{ConnectError, ConnectFailure};
use super::link::Canceller;
pub(crate) use super::link::Link;
use super::pools::Permit;
use super::signs::{Overheard, Overhearing, Signs};
use super::socket::Socket;
use super::stamp::{self, Stamp};
pub use super::target::{Target, UrlError};
pub use super::tls::{TlsMode, TlsPolicy};

/// How long the server has to close its end before we let go of a socket.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Who a session works as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rights {
    /// Who owns what is in the database, or nobody there can do anything to: it is as database and role are set.
    #[default]
    Own,
    /// A server's administrator, perhaps in a database that is a tenant's own. Its owner can set how sessions begin there;
    /// no name of ours is to lead to what he has made.
    Administrator,
}

impl Rights {
    /// What is said at the beginning holds against what was set for a database or a role.
    const fn startup(self) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Administrator => &[
                "-c search_path=pg_catalog,pg_temp",
                "-c role=none",
                // Fails where a policy of the tenant's would be run.
                "-c row_security=off",
                "-c default_transaction_read_only=off",
                "-c standard_conforming_strings=on",
            ],
        }
    }
}

/// What a new connection is told.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Whose rights it has.
    pub rights: Rights,
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
            rights: Rights::Own,
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
        let timeouts =
            settings.iter().filter_map(|(name, value)| value.map(|v| format!("-c {name}={}", v.as_millis())));
        let rights = self.rights.startup().iter().map(|setting| (*setting).to_owned());
        rights
            .chain(timeouts)
            .chain(self.read_only.then(|| "-c default_transaction_read_only=on".to_owned()))
            .chain(self.relaxed.then(|| "-c synchronous_commit=off".to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
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

/// As [`open_client`], of one that counts against a budget without having a permit: `gone` is set when nothing is left of
/// it. If its handshake is late, that may be long after the error.
pub(super) async fn open_counted(
    target: &Target,
    options: &ConnectOptions,
    gone: Arc<AtomicBool>,
) -> Result<(tokio_postgres::Client, oneshot::Sender<()>), ConnectError> {
    let (client, _, hang_up) = open_overheard(target, options, (None, Some(gone)), None, Arc::default()).await?;
    Ok((client, hang_up))
}

/// As [`open_client`]; what the server notifies of is passed on, several at once as one.
pub(super) async fn open_listening(
    target: &Target,
    options: &ConnectOptions,
    permit: Option<Permit>,
    announce: Option<mpsc::Sender<()>>,
) -> Result<(tokio_postgres::Client, Arc<AtomicBool>, oneshot::Sender<()>), ConnectError> {
    open_overheard(target, options, (permit, None), announce, Arc::default()).await
}

async fn open_overheard(
    target: &Target,
    options: &ConnectOptions,
    (permit, gone): (Option<Permit>, Option<Arc<AtomicBool>>),
    announce: Option<mpsc::Sender<()>>,
    signs: Arc<Signs>,
) -> Result<(tokio_postgres::Client, Arc<AtomicBool>, oneshot::Sender<()>), ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let mut config = Config::new();
    config
        .user(&target.user)
        .dbname(&target.database)
        .application_name(&options.application_name)
        .options(options.startup())
        .ssl_mode(if target.tls.mode == TlsMode::Disable { SslMode::Disable } else { SslMode::Require });
    if !target.password.expose_secret().is_empty() {
        config.password(target.password.expose_secret());
    }
    let given_up = match (&permit, &gone) {
        (Some(permit), _) => Some(permit.given_up().boxed()),
        (None, Some(_)) => Some(pending().boxed()),
        (None, None) => None,
    };
    let serves = permit.is_some();
    let left = SetOnDrop(gone.unwrap_or_default());
    let gone = left.0.clone();
    let socket =
        timeout_at(deadline, Socket::connect(&target.host, target.port, permit)).await.map_err(|_| late())??;
    let (hang_up, hung_up) = oneshot::channel();
    let (client, is_standby) = if target.tls.mode == TlsMode::Disable {
        let socket = Overheard::new(socket, signs);
        let (client, connection, left) = shake_hands(config, socket, NoTls, deadline, (given_up, left)).await?;
        let is_standby = is_standby(&connection);
        tokio::spawn(drive(Driven::new(connection, left).attend(announce), hung_up));
        (client, is_standby)
    } else {
        let tls = target.tls.make(&target.host).map_err(|e| ConnectError::new(ConnectFailure::Tls, e))?;
        let tls = Overhearing { tls, signs };
        let (client, connection, left) = shake_hands(config, socket, tls, deadline, (given_up, left)).await?;
        let is_standby = is_standby(&connection);
        tokio::spawn(drive(Driven::new(connection, left).attend(announce), hung_up));
        (client, is_standby)
    };
    if serves && is_standby {
        // After a failover, say, the address still leads to the old server: reads would be old, and no write would do.
        return Err(ConnectError::new(ConnectFailure::Unreachable, "the server is a standby: it only reads"));
    }
    Ok((client, gone, hang_up))
}

/// Whether the server follows another one. It says so by itself, since PostgreSQL 14.
fn is_standby<S, T>(connection: &Connection<S, T>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    connection.parameter("in_hot_standby") == Some("on")
}

fn late() -> ConnectError {
    ConnectError::new(ConnectFailure::Unreachable, Late("within the connect timeout"))
}

/// Agrees with the server on a session. One that counts against a budget and is late goes on apart until it is `given_up`,
/// and its socket keeps the permit: the server may have started a backend by now, which is there until it answers or is gone.
/// With what is left of it goes `left`.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
async fn shake_hands<S, T>(
    config: Config,
    socket: S,
    tls: T,
    deadline: Instant,
    (given_up, left): (Option<BoxFuture<'static, ()>>, SetOnDrop),
) -> Result<(Client, Connection<S, T::Stream>, SetOnDrop), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S> + Send + 'static,
    T::Stream: Send,
    T::Future: Send,
{
    let mut shaking = Box::pin(async move { config.connect_raw(socket, tls).await });
    if let Ok(done) = timeout_at(deadline, &mut shaking).await {
        let (client, connection) = done?;
        return Ok((client, connection, left));
    }
    if let Some(given_up) = given_up {
        let answered = async move {
            if let Ok((client, connection)) = shaking.await {
                // With nobody left to ask for anything the connection says goodbye, and waits for the server's.
                drop(client);
                let _ = timeout(CLOSE_DEADLINE, connection).await;
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = answered => (),
                () = given_up => (),
            }
            // The socket is closed.
            drop(left);
        });
    }
    Err(late())
}

/// Opens a connection for diesel, and asks it first whose database it is, if it should be somebody's.
pub(super) async fn open(
    target: &Arc<Target>,
    options: &ConnectOptions,
    permit: Option<Permit>,
    stamp: Option<Stamp>,
) -> Result<Link, ConnectError> {
    open_with(target, options, (permit, stamp), Signs::default()).await
}

/// As [`open`]; a server that is silent beyond its own bound on a statement ends the connection.
pub(super) async fn open_bounded(target: &Arc<Target>, options: &ConnectOptions) -> Result<Link, ConnectError> {
    open_with(target, options, (None, None), Signs::bounded(options.statement_timeout)).await
}

async fn open_with(
    target: &Arc<Target>,
    options: &ConnectOptions,
    (permit, stamp): (Option<Permit>, Option<Stamp>),
    signs: Signs,
) -> Result<Link, ConnectError> {
    let signs = Arc::new(signs);
    let (client, gone, hang_up) = open_overheard(target, options, (permit, None), None, signs.clone()).await?;
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
    let Ok((verdict, conn)) = timeout(options.connect_timeout, both).await else {
        // Else the backend would be there for as long as the statement takes.
        Canceller::new(token, target.clone()).send();
        return Err(ConnectError::new(ConnectFailure::Unreachable, Late("to the first statement")));
    };
    verdict?;
    // The server let us in, and asks for nothing more: a connection that ends now is like one that never began.
    let conn = conn.map_err(|error| ConnectError::new(ConnectFailure::Unreachable, error))?;
    Ok(Link::new(conn, (gone, hang_up), signs, Canceller::new(token, target.clone())))
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A connection that is driven. However that ends, it is known to be gone before its socket gives the permit back: whoever
/// hears of the permit looks which connections are left.
struct Driven<S, T> {
    // Fields are dropped in this order.
    _gone: SetOnDrop,
    connection: Connection<S, T>,
}

impl<S, T> Driven<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    const fn new(connection: Connection<S, T>, left: SetOnDrop) -> Self {
        Self { _gone: left, connection }
    }

    /// Drives it, and passes on that the server notified of something.
    async fn attend(mut self, announce: Option<mpsc::Sender<()>>) -> Result<(), tokio_postgres::Error> {
        while let Some(message) = poll_fn(|cx| self.connection.poll_message(cx)).await {
            if let (AsyncMessage::Notification(_), Some(announce)) = (message?, &announce) {
                // Full: the one that waits to be seen stands for this one too.
                let _ = announce.try_send(());
            }
        }
        Ok(())
    }
}

async fn drive<C>(connection: C, hung_up: oneshot::Receiver<()>)
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send,
{
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
