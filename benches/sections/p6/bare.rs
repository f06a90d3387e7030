//! What the servers need at least: a connection to each database, and what is sent over it in one message.

use anyhow::Result;
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::support::postgres;

/// Sends `sql` to every database, so many of each server at once.
pub async fn all(urls: &[Vec<String>], at_once: usize, sql: &str) -> Result<()> {
    let (one, two) = (server(&urls[0], at_once, sql), server(&urls[1], at_once, sql));
    try_join(one, two).await.map(drop)
}

async fn server(urls: &[String], at_once: usize, sql: &str) -> Result<()> {
    let one = async |url: &String| -> Result<()> { Ok(postgres::connect(url).await?.batch_execute(sql).await?) };
    stream::iter(urls).map(one).buffer_unordered(at_once).try_collect::<Vec<()>>().await.map(drop)
}
