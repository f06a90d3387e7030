//! The yardsticks' own way to PostgreSQL: no pool, no stamp, no TLS.

use anyhow::{Context as _, Result};
use tokio_postgres::{Client, NoTls};

/// Connects, and drives the connection in the background until the client is dropped.
#[expect(clippy::disallowed_methods, reason = "a yardstick measures what Tenantry's own door is compared with")]
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}
