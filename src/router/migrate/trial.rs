//! Which locks a migration takes: found out by running it in a database that nobody uses, and looking.

use tokio::sync::oneshot;
use tokio_postgres::{Client, Error as PgError};

use super::set::{MigrationSet, file_name, without_transaction};
use super::statements::statements;
use crate::router::connect::{ConnectError, ConnectOptions, Target, open_client};

/// What the transaction holds on tables and indexes that were there before it.
const HELD: &str = "SELECT DISTINCT l.relation::regclass::text, l.mode FROM pg_locks l \
    JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND l.relation = ANY($1) ORDER BY 1, 2";
const THERE: &str = "SELECT coalesce(array_agg(oid), '{}') FROM pg_class";

/// A lock on something that was there before the migration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LockTaken {
    /// The table or index.
    pub relation: String,
    /// PostgreSQL's name of the lock, such as `AccessExclusiveLock`.
    pub mode: String,
}

/// A database of a trial's own.
pub(crate) struct Trial {
    client: Client,
    _hang_up: oneshot::Sender<()>,
}

impl Trial {
    /// Goes into an empty database, as the role that shall own what is made.
    pub(crate) async fn open(target: &Target, role: &str) -> Result<Self, ConnectError> {
        let options = ConnectOptions { application_name: "tenantry-migrate".into(), ..ConnectOptions::default() };
        let (client, _, hang_up) = open_client(target, &options, None).await?;
        client.batch_execute(&format!("SET ROLE \"{}\"", role.replace('"', "\"\""))).await?;
        Ok(Self { client, _hang_up: hang_up })
    }

    /// Applies every migration of a set, one after the other, and gives the file of each with the locks that it took;
    /// none where it runs outside of a transaction. Ends at the first that fails.
    pub(crate) async fn run(&self, set: &MigrationSet) -> Vec<(i32, String, Result<Option<Vec<LockTaken>>, PgError>)> {
        let mut found = Vec::new();
        for migration in &*set.migrations {
            let locks = self.locks(migration.sql().unwrap_or_default()).await;
            let failed = locks.is_err();
            found.push((migration.version(), file_name(migration), locks));
            if failed {
                break;
            }
        }
        found
    }

    async fn locks(&self, sql: &str) -> Result<Option<Vec<LockTaken>>, PgError> {
        if without_transaction(sql) {
            for statement in statements(sql) {
                self.client.batch_execute(statement).await?;
            }
            return Ok(None);
        }
        let there: Vec<u32> = self.client.query_one(THERE, &[]).await?.get(0);
        self.client.batch_execute(&format!("BEGIN;\n{sql}\n;")).await?;
        let rows = self.client.query(HELD, &[&there]).await?;
        self.client.batch_execute("COMMIT").await?;
        Ok(Some(rows.into_iter().map(|row| LockTaken { relation: row.get(0), mode: row.get(1) }).collect()))
    }
}
