//! A look into a database, past everything that the product does.

use diesel::sql_types::{Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tenantry::router::{AdminConn, ConnectOptions, Target};

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    word: Option<String>,
}

/// A connection of the test's own.
pub(crate) async fn open(target: &Target) -> AdminConn {
    let options = ConnectOptions { statement_timeout: None, idle_in_transaction_timeout: None, ..Default::default() };
    AdminConn::open(target, &options).await.unwrap_or_else(|error| panic!("{target:?}: {error}"))
}

/// The rows of `SELECT … AS word` (text) over an open connection.
pub(crate) async fn words_on(conn: &mut AdminConn, sql: &str) -> Vec<String> {
    let rows: Vec<Row> = diesel::sql_query(sql).load(conn).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.into_iter().map(|row| row.word.unwrap_or_default()).collect()
}

/// The rows of `SELECT … AS word` (text).
pub(crate) async fn words(target: &Target, sql: &str) -> Vec<String> {
    words_on(&mut open(target).await, sql).await
}

/// The first row of `SELECT … AS word`; empty if there is none.
pub(crate) async fn word(target: &Target, sql: &str) -> String {
    words(target, sql).await.into_iter().next().unwrap_or_default()
}

/// Runs statements.
pub(crate) async fn execute(target: &Target, sql: &str) {
    open(target).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What the tables of schema `public` hold, as one digest: sessions, the memory of requests and the notes of when something
/// was last used aside, which every login or use changes; and what the index of addresses has yet to hear.
pub(crate) async fn fingerprint(target: &Target) -> Vec<String> {
    const ASIDE: &str = "'sessions', 'refresh_tokens', 'login_attempts', 'idempotency_records', 'mfa_challenges', \
                         'mail_outbox', 'address_news'";
    let mut conn = open(target).await;
    let tables = format!(
        "SELECT table_name::text AS word FROM information_schema.tables \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name NOT IN ({ASIDE}) ORDER BY 1"
    );
    let mut digests = Vec::new();
    for table in words_on(&mut conn, &tables).await {
        let digest = format!(
            "SELECT '{table} ' || count(*) || ' ' || md5(coalesce(string_agg(row::text, '|' ORDER BY row::text), '')) \
             AS word FROM (SELECT to_jsonb(t) - 'last_used_at' - 'last_used_ip' AS row FROM public.\"{table}\" t) t"
        );
        digests.extend(words_on(&mut conn, &digest).await);
    }
    assert!(digests.len() >= 5, "which tables are these? {digests:?}");
    digests
}
