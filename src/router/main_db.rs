//! The control plane's database: one small bb8 pool, a deadline on everything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio::time::timeout;

use super::conn::MainConn;
use super::connect::{ConnectError, ConnectOptions, Link, Target, open};
use super::error::{Error, Result};
use super::passing::Passing;
use super::work::Work;

/// How long anything on the control plane may take, connection included.
const DEADLINE: Duration = Duration::from_secs(5);

/// Opens connections for the bb8 pool.
pub(super) struct Manager {
    target: Arc<Target>,
    options: ConnectOptions,
}

impl bb8::ManageConnection for Manager {
    type Connection = Link;
    type Error = ConnectError;

    async fn connect(&self) -> Result<Link, ConnectError> {
        open(&self.target, &self.options, None, None).await
    }

    async fn is_valid(&self, _: &mut Link) -> Result<(), ConnectError> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_gone() || link.in_doubt()
    }
}

/// The pool of the control plane. Clones share it.
#[derive(Clone)]
pub struct MainDb {
    pool: bb8::Pool<Manager>,
    target: Arc<Target>,
}

impl fmt::Debug for MainDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MainDb({:?})", self.target)
    }
}

impl MainDb {
    /// A pool of at most `size` connections. Opens nothing yet.
    #[must_use]
    pub fn new(target: Target, size: u32) -> Self {
        let target = Arc::new(target);
        let options = ConnectOptions {
            application_name: "tenantry-control".into(),
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Some(DEADLINE),
            ..ConnectOptions::default()
        };
        let pool = bb8::Pool::builder()
            .max_size(size)
            .connection_timeout(Duration::from_secs(3))
            .idle_timeout(Some(Duration::from_secs(60)))
            // A broken connection is known without asking; a ping would cost every use a round trip.
            .test_on_check_out(false)
            .retry_connection(false)
            .build_unchecked(Manager { target: target.clone(), options });
        Self { pool, target }
    }

    /// Where it is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A connection, for a few statements within a deadline of the caller's own.
    ///
    /// # Errors
    /// [`Error::ControlPlane`] if none is to be had in time.
    pub async fn conn(&self) -> Result<MainConn> {
        loop {
            let conn = self.pool.get_owned().await.map_err(Error::control_plane)?;
            // One that the server closed while it lay here goes as it is dropped; a new one fails where it must.
            if !conn.is_gone() {
                return Ok(MainConn(conn));
            }
        }
    }

    /// Runs some statements, each in a transaction of its own, within five seconds.
    ///
    /// # Errors
    /// [`Error::ControlPlane`] if there is no answer in time, the connection broke, or the server broke a statement off; else
    /// what the work gives.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: for<'c> AsyncFnOnce(&'c mut MainConn) -> Result<T, E>
            + for<'c> Work<&'c mut MainConn, Result<T, E>, Fut: Send>
            + Send,
    {
        let done = timeout(DEADLINE, async {
            let mut conn = self.conn().await?;
            conn.begin();
            let done = work(&mut conn).await;
            conn.finish();
            conn.judge(done)
        });
        done.await.unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline").into()))
    }

    /// Runs some statements in one transaction, within five seconds.
    ///
    /// # Errors
    /// As [`Self::read`]; the transaction is then rolled back.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<Error> + From<diesel::result::Error> + Send,
        F: for<'c> AsyncFnOnce(&'c mut MainConn) -> Result<T, E>
            + for<'c> Work<&'c mut MainConn, Result<T, E>, Fut: Send>
            + Send,
    {
        let done = timeout(DEADLINE, async {
            let mut conn = self.conn().await?;
            conn.begin();
            let done = conn.transaction(work).await;
            conn.finish();
            conn.judge(done)
        });
        done.await.unwrap_or_else(|_| Err(Error::control_plane("no answer within the deadline").into()))
    }
}

impl MainConn {
    fn begin(&mut self) {
        self.0.begin();
        // What was heard under somebody else is none of this work.
        self.0.signs().take_last();
    }

    fn finish(&mut self) {
        self.0.finish();
    }

    /// A failure on a connection that broke, or by what the server did to a statement, is the control plane's, whatever the
    /// work makes of it.
    fn judge<T, E: From<Error>>(&self, done: Result<T, E>) -> Result<T, E> {
        if done.is_ok() {
            return done;
        }
        if self.0.is_gone() {
            return Err(Error::control_plane("the connection broke").into());
        }
        match self.0.signs().take_last() {
            Some(passing @ Passing::Away) => Err(Error::control_plane(passing.error()).into()),
            Some(passing @ Passing::Deadlock) => Err(Error::Query(passing.error()).into()),
            None => done,
        }
    }
}
