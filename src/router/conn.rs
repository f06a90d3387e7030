//! Connections as types: a query of one plane cannot be sent to the other.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use diesel_async::AsyncPgConnection;

use super::connect::{ConnectError, ConnectOptions, Link, Target, open_bounded};

/// A connection to the control plane. Only `control` and `fleet` have use for one.
pub struct MainConn(pub(super) bb8::PooledConnection<'static, super::main_db::Manager>);

/// A connection as a server's administrator, or straight to a tenant's database before it is routable: what
/// provisioning works with. Never pooled, never counted against the budget of requests. It ends when the server does not
/// answer within the bound on a statement that it was opened with, and a few seconds more: one that stands still does not
/// keep its own bounds.
pub struct AdminConn(Link);

impl AdminConn {
    /// Opens one.
    ///
    /// # Errors
    /// [`ConnectError`] with the kind of failure.
    pub async fn open(target: &Target, options: &ConnectOptions) -> Result<Self, ConnectError> {
        open_bounded(&Arc::new(target.clone()), options).await.map(Self)
    }
}

impl Deref for MainConn {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        &self.0.conn
    }
}

impl DerefMut for MainConn {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.0.conn
    }
}

impl Deref for AdminConn {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        &self.0.conn
    }
}

impl DerefMut for AdminConn {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.0.conn
    }
}

impl fmt::Debug for MainConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MainConn")
    }
}

impl fmt::Debug for AdminConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminConn")
    }
}
