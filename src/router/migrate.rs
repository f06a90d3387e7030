//! Migrations of one database: one runner at a time, never waiting long for a lock, over a direct connection of its
//! own. refinery takes no lock itself; the advisory lock here is the one that every node goes by.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use refinery::error::Kind;
use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::{ConnectError, ConnectOptions, Target, open_client};
use crate::kernel::crypto::{random, sha256};

/// History of the built-in migrations of a tenant's database.
pub const BUILT_IN_HISTORY: &str = "tenantry.schema_history";
/// History of the operator's own migrations of a tenant's database.
pub const OPERATOR_HISTORY: &str = "tenantry.operator_history";

/// Key of the advisory lock: "tenantry" in ASCII.
const LOCK_KEY: i64 = 0x7465_6e61_6e74_7279;
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// Migrations that belong together, and the table that remembers which of them were applied.
#[derive(Clone)]
pub struct MigrationSet {
    history: &'static str,
    migrations: Arc<[Migration]>,
}

impl fmt::Debug for MigrationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MigrationSet({}, {} up to V{})", self.history, self.migrations.len(), self.head())
    }
}

/// What is wrong with the operator's directory of migrations. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum MigrationFileError {
    /// The directory or a file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A `.sql` file that would be left out silently otherwise.
    #[error("{} is not named V<number>__<name>.sql", .0.display())]
    Name(PathBuf),
    /// Two files with one number.
    #[error("{} has the number of another migration", .0.display())]
    Repeated(PathBuf),
}

impl MigrationSet {
    /// Migrations in the order of their versions, remembered in `history`.
    #[must_use]
    pub fn new(history: &'static str, mut migrations: Vec<Migration>) -> Self {
        migrations.sort();
        Self { history, migrations: migrations.into() }
    }

    /// Reads every `V<n>__name.sql` of a directory, as it is now.
    ///
    /// # Errors
    /// [`MigrationFileError`], naming the file.
    pub async fn load(history: &'static str, directory: &Path) -> Result<Self, MigrationFileError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| MigrationFileError::Unreadable { path, source }
        };
        let mut found: Vec<(Migration, PathBuf)> = Vec::new();
        let mut entries = tokio::fs::read_dir(directory).await.map_err(unreadable(directory))?;
        while let Some(entry) = entries.next_entry().await.map_err(unreadable(directory))? {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "sql") {
                continue;
            }
            let sql = tokio::fs::read_to_string(&path).await.map_err(unreadable(&path))?;
            let stem = path.file_stem().and_then(|s| s.to_str()).filter(|s| s.starts_with('V'));
            match stem.map(|stem| Migration::unapplied(stem, &sql)) {
                Some(Ok(migration)) => found.push((migration, path)),
                Some(Err(_)) | None => return Err(MigrationFileError::Name(path)),
            }
        }
        found.sort_by_key(|(migration, _)| migration.version());
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0.version() == pair[1].0.version()) {
            return Err(MigrationFileError::Repeated(pair[1].1.clone()));
        }
        Ok(Self { history, migrations: found.into_iter().map(|(migration, _)| migration).collect() })
    }

    /// The version of the newest migration; 0 if there is none.
    #[must_use]
    pub fn head(&self) -> i32 {
        self.migrations.last().map_or(0, Migration::version)
    }

    /// Those up to a version: what a database is made of that has come so far.
    #[must_use]
    pub fn up_to(&self, version: i32) -> Self {
        let migrations = self.migrations.iter().filter(|migration| migration.version() <= version).cloned().collect();
        Self { history: self.history, migrations }
    }

    /// The table that remembers which were applied.
    #[must_use]
    pub const fn history(&self) -> &'static str {
        self.history
    }

    /// Each migration's version, `V<n>__name` and checksum, as the history has it.
    pub fn entries(&self) -> impl Iterator<Item = (i32, String, String)> {
        self.migrations.iter().map(|it| (it.version(), it.to_string(), it.checksum().to_string()))
    }

    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.migrations.is_empty()
    }

    /// A digest of every migration's number, name and text.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut text = String::from(self.history);
        for migration in &*self.migrations {
            text.push_str(&format!("\n{migration}\n{}", migration.sql().unwrap_or_default()));
        }
        sha256(text.as_bytes())
    }
}

/// How patient a migration is.
#[derive(Debug, Clone)]
pub struct MigrateOptions {
    /// How long one statement waits for a lock before it gives way to the traffic.
    pub lock_timeout: Duration,
    /// How often a migration is tried that did not get its lock.
    pub attempts: u32,
    /// How long another runner on this database is waited for.
    pub wait: Duration,
    /// Server-side bound on each statement; none lets it take its time.
    pub statement_timeout: Option<Duration>,
    /// A role to become first, so that what is made belongs to it.
    pub role: Option<String>,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            attempts: 5,
            wait: Duration::from_secs(60),
            statement_timeout: None,
            role: None,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The version before; 0 for an empty database.
    pub from: i32,
    /// The version now.
    pub to: i32,
    /// How many migrations were applied.
    pub count: usize,
}

/// Why a database could not be brought to the head. Migrations before the failed one stay applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another runner holds the advisory lock.
    #[error("another migration is running on this database")]
    Busy,
    /// Traffic did not let go of a lock, however often it was tried.
    #[error("{migration} did not get its lock in {attempts} attempts")]
    LockTimeout {
        /// The migration's file.
        migration: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A migration's SQL failed; it was rolled back.
    #[error("{migration} failed")]
    Failed {
        /// The migration's file.
        migration: String,
        /// What the server said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// History and files tell different stories.
    #[error("{migration}.sql {fault}")]
    Diverged {
        /// The migration, without its extension.
        migration: String,
        /// What does not fit.
        fault: &'static str,
    },
    /// A statement around the migrations failed.
    #[error("the migration history cannot be used")]
    History(#[source] tokio_postgres::Error),
}

/// Brings one database to the head of a set. Costs one look when it is there already.
///
/// Needs the direct URL: the lock belongs to the session, which a transaction pooler does not keep.
///
/// # Errors
/// [`MigrateError`]; what was applied before the failure stays, and a later run goes on from there.
pub async fn migrate(target: &Target, set: &MigrationSet, options: &MigrateOptions) -> Result<Applied, MigrateError> {
    let connect = ConnectOptions {
        application_name: "tenantry-migrate".into(),
        statement_timeout: options.statement_timeout,
        lock_timeout: Some(options.wait),
        ..ConnectOptions::default()
    };
    let (mut client, _gone, _hang_up) = open_client(target, &connect, None).await?;
    let at_head = Applied { from: set.head(), to: set.head(), count: 0 };
    if matches!(history(&client, set).await.map_err(MigrateError::History)?, History::AtHead) {
        return Ok(at_head);
    }
    lock(&client).await?;
    let from = match history(&client, set).await.map_err(MigrateError::History)? {
        // Whoever held the lock before us did it.
        History::AtHead => return Ok(at_head),
        History::Behind(version) => version,
    };
    prepare(&client, set, options).await.map_err(MigrateError::History)?;
    let mut runner = Runner::new(&set.migrations);
    runner.set_migration_table_name(set.history);
    let mut attempt = 1;
    let mut count = 0;
    loop {
        match runner.run_async(&mut client).await {
            Ok(report) => {
                count += report.applied_migrations().len();
                return Ok(Applied { from, to: set.head().max(from), count });
            }
            Err(error) => {
                count += error.report().map_or(0, |r| r.applied_migrations().len());
                match explain(error, attempt) {
                    MigrateError::LockTimeout { migration, .. } if attempt < options.attempts => {
                        tracing::info!(%migration, attempt, "a migration gave way to traffic and tries again");
                        tokio::time::sleep(back_off(attempt)).await;
                        attempt += 1;
                    }
                    error => return Err(error),
                }
            }
        }
    }
}

enum History {
    AtHead,
    Behind(i32),
}

async fn history(client: &Client, set: &MigrationSet) -> Result<History, tokio_postgres::Error> {
    let known: Option<String> = client.query_one("SELECT to_regclass($1)::text", &[&set.history]).await?.get(0);
    if known.is_none() {
        return Ok(if set.is_empty() { History::AtHead } else { History::Behind(0) });
    }
    let rows = client.query(&format!("SELECT version, checksum FROM {} ORDER BY version", set.history), &[]).await?;
    let same = rows.len() == set.migrations.len()
        && rows.iter().zip(&*set.migrations).all(|(row, migration)| {
            row.get::<_, i32>(0) == migration.version() && row.get::<_, &str>(1) == migration.checksum().to_string()
        });
    Ok(if same { History::AtHead } else { History::Behind(rows.last().map_or(0, |row| row.get(0))) })
}

/// The session's lock on this database, waited for no longer than the session's `lock_timeout`.
async fn lock(client: &Client) -> Result<(), MigrateError> {
    match client.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err(MigrateError::Busy),
        Err(error) => Err(MigrateError::History(error)),
    }
}

async fn prepare(client: &Client, set: &MigrationSet, options: &MigrateOptions) -> Result<(), tokio_postgres::Error> {
    let mut sql = format!("SET lock_timeout = {};", options.lock_timeout.as_millis());
    if let Some(role) = &options.role {
        sql.push_str(&format!("SET ROLE \"{}\";", role.replace('"', "\"\"")));
    }
    client.batch_execute(&sql).await?;
    if let Some((schema, _)) = set.history.split_once('.') {
        let known: Option<String> = client.query_one("SELECT to_regnamespace($1)::text", &[&schema]).await?.get(0);
        if known.is_none() {
            client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
        }
    }
    Ok(())
}

fn explain(error: refinery::Error, attempts: u32) -> MigrateError {
    let diverged = |migration: &Migration, fault| MigrateError::Diverged { migration: migration.to_string(), fault };
    match error.kind() {
        Kind::DivergentVersion(_, file) => return diverged(file, "was changed after it was applied"),
        Kind::MissingVersion(migration) if migration.sql().is_none() => {
            return diverged(migration, "was applied here, but is not among the files");
        }
        Kind::MissingVersion(migration) => {
            return diverged(migration, "is older than what was applied here, but was never applied");
        }
        Kind::RepeatedVersion(migration) => return diverged(migration, "has the number of another migration"),
        Kind::Connection(said, source) => {
            let migration = said.strip_prefix("error applying migration ").unwrap_or("the history");
            let suffix = if migration.starts_with('V') { ".sql" } else { "" };
            let migration = format!("{migration}{suffix}");
            let server = source.downcast_ref::<tokio_postgres::Error>();
            let code = server.and_then(tokio_postgres::Error::code);
            if code == Some(&SqlState::LOCK_NOT_AVAILABLE) || code == Some(&SqlState::T_R_DEADLOCK_DETECTED) {
                return MigrateError::LockTimeout { migration, attempts };
            }
            if let Some(said) = server.and_then(tokio_postgres::Error::as_db_error) {
                return MigrateError::Failed { migration, source: Box::new(said.clone()) };
            }
        }
        _ => {}
    }
    MigrateError::Failed { migration: "the migrations".into(), source: Box::new(error) }
}

/// Twice as long each time, and never the same twice, so that many nodes do not come back at once.
fn back_off(attempt: u32) -> Duration {
    let longest = FIRST_BACK_OFF.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_BACK_OFF);
    longest.mul_f64(0.5 + f64::from(random::<1>()[0]) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let migrations = files.iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
        MigrationSet::new(BUILT_IN_HISTORY, migrations)
    }

    #[test]
    fn ordered_by_number_and_known_by_text() {
        let one = set(&[("V10__b", "SELECT 2"), ("V9__a", "SELECT 1")]);
        assert_eq!(one.head(), 10);
        assert_eq!(one.fingerprint(), set(&[("V9__a", "SELECT 1"), ("V10__b", "SELECT 2")]).fingerprint());
        assert_ne!(one.fingerprint(), set(&[("V9__a", "SELECT 1"), ("V10__b", "SELECT 3")]).fingerprint());
        assert_eq!((set(&[]).head(), set(&[]).is_empty()), (0, true));
    }

    #[test]
    fn back_off_grows_within_bounds() {
        for attempt in 1..40 {
            let pause = back_off(attempt);
            assert!(pause >= FIRST_BACK_OFF / 2 && pause <= LONGEST_BACK_OFF, "{attempt}: {pause:?}");
        }
    }
}
