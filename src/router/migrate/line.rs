//! A connection to migrate over, on which nobody waits for ever: a server may stand still without closing it.

use std::future::pending;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error as PgError, Row, SimpleQueryMessage};

use super::fault::Fault;
use crate::router::connect::{ConnectError, ConnectFailure, ConnectOptions, Target, open_client};
use crate::router::failure::Late;

/// How long an answer may be on its way, besides the time that the server takes by its own bounds.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How often somebody looks whether the server is still there, while it is busy.
const PACE: Duration = Duration::from_secs(30);
/// So many looks in a row that find nobody are believed.
const LOOKS: u32 = 2;
const NAME: &str = "tenantry-migrate";

/// See the module. Whoever has had no answer lets go of it.
pub(super) struct Line {
    client: Client,
    target: Target,
    _hang_up: oneshot::Sender<()>,
}

impl Line {
    pub(super) async fn open(
        target: &Target,
        statement_timeout: Option<Duration>,
        lock_timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let options = ConnectOptions {
            application_name: NAME.into(),
            statement_timeout,
            lock_timeout: Some(lock_timeout),
            ..ConnectOptions::default()
        };
        let (client, _, hang_up) = open_client(target, &options, None).await?;
        Ok(Self { client, target: target.clone(), _hang_up: hang_up })
    }

    /// Has statements done, within `most` if that is known.
    pub(super) async fn tell(&self, sql: &str, most: Option<Duration>) -> Result<(), Fault> {
        self.hear(self.client.batch_execute(sql), most).await
    }

    /// As [`Self::tell`], with what they answer.
    pub(super) async fn ask(&self, sql: &str, most: Option<Duration>) -> Result<Vec<SimpleQueryMessage>, Fault> {
        self.hear(self.client.simple_query(sql), most).await
    }

    /// The row of a query, if there is one.
    pub(super) async fn find(&self, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Fault> {
        self.hear(self.client.query_opt(sql, of), None).await
    }

    async fn hear<T>(
        &self,
        answer: impl Future<Output = Result<T, PgError>> + Send,
        most: Option<Duration>,
    ) -> Result<T, Fault> {
        let late = async {
            match most {
                Some(most) => sleep(most).await,
                None => pending().await,
            }
        };
        let target = &self.target;
        let silent = tokio::select! {
            biased;
            answer = answer => return Ok(answer?),
            () = late => Late("within what a statement of a migration may take"),
            () = nobody_there(PACE, || is_there(target)) => Late("from the server in the middle of a migration"),
        };
        Err(Fault::Silent(ConnectError::new(ConnectFailure::Unreachable, silent)))
    }
}

/// Ends once several looks in a row have found nobody.
async fn nobody_there<F>(pace: Duration, look: impl Fn() -> F + Send)
where
    F: Future<Output = bool> + Send,
{
    let mut missed = 0;
    while missed < LOOKS {
        sleep(pace).await;
        missed = if look().await { 0 } else { missed + 1 };
    }
}

/// Whether the server lets somebody in, or has at least the word to refuse it.
async fn is_there(target: &Target) -> bool {
    let options = ConnectOptions { application_name: NAME.into(), ..ConnectOptions::default() };
    match open_client(target, &options, None).await {
        Ok(_) => true,
        // One that is shutting down has the word to refuse newcomers, and goes on with what it has begun.
        Err(error) => {
            let said = error.source.downcast_ref::<PgError>().is_some_and(|error| error.as_db_error().is_some());
            said || error.kind != ConnectFailure::Unreachable
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_look_that_finds_nobody_is_not_believed() {
        let looks = AtomicUsize::new(0);
        // There, not there, there, then gone for good.
        let look = || {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            async move { look == 0 || look == 2 }
        };
        nobody_there(Duration::from_millis(1), look).await;
        assert_eq!(looks.load(Ordering::Relaxed), 5);
    }
}
