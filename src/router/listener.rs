//! One connection that listens to a channel of `NOTIFY`.

use std::fmt;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::connect::{ConnectError, ConnectFailure, ConnectOptions, Target, open_listening};

/// Listens until it is dropped.
pub(super) struct Listener {
    announcements: mpsc::Receiver<()>,
    _client: tokio_postgres::Client,
    // Dropped after the client: the driver then has seen that nobody is left.
    _hang_up: oneshot::Sender<()>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// Opens a connection and listens to a channel (a name of ours, never from outside).
    pub(super) async fn open(target: &Target, channel: &'static str) -> Result<Self, ConnectError> {
        let options = ConnectOptions {
            application_name: "tenantry-listen".into(),
            connect_timeout: Duration::from_secs(3),
            ..ConnectOptions::default()
        };
        let (announce, announcements) = mpsc::channel(1);
        let (client, _gone, hang_up) = open_listening(target, &options, None, Some(announce)).await?;
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        Ok(Self { announcements, _client: client, _hang_up: hang_up })
    }

    /// Waits for the next announcement; several at once are one. Can be dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> Result<(), ConnectError> {
        let ended = || ConnectError::new(ConnectFailure::Unreachable, "the connection that listens has ended");
        self.announcements.recv().await.ok_or_else(ended)
    }
}
