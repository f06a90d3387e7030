//! Migrations of one database: one runner at a time, never waiting long for a lock, over one direct connection.
//!
//! The files, their checksums and the history table are refinery's. They are applied here, because one connection and
//! one look have to do for both histories, and because some run outside of a transaction (ADR 0015).

mod fault;
mod index;
mod line;
mod outside;
mod session;
mod set;
pub(super) mod statements;
#[cfg(feature = "server")]
mod trial;

use std::error::Error as StdError;
use std::time::Duration;

pub use set::{MigrationFileError, MigrationSet, NO_TRANSACTION};
#[cfg(feature = "server")]
pub(crate) use trial::{LockTaken, Trial};

use super::connect::{ConnectError, ConnectFailure, Target};
use super::stamp::Stamp;
use crate::kernel::crypto::random;
use session::{History, Session, check, contradicts};

/// History of the built-in migrations of a tenant's database.
pub const BUILT_IN_HISTORY: &str = "tenantry.schema_history";
/// History of the operator's own migrations of a tenant's database.
pub const OPERATOR_HISTORY: &str = "tenantry.operator_history";

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// How patient a migration is.
#[derive(Debug, Clone)]
pub struct MigrateOptions {
    /// How long one statement waits for a lock before it gives way to the traffic.
    pub lock_timeout: Duration,
    /// How often a migration is tried that did not get its lock.
    pub attempts: u32,
    /// How long another runner on this database is waited for, and a lock outside of a transaction.
    pub wait: Duration,
    /// Server-side bound on each statement; none lets it take its time. What runs outside of a transaction has none.
    pub statement_timeout: Option<Duration>,
    /// A role to become first, so that what is made belongs to it. Without one, `pg_database_owner` where a tenant's histories
    /// belong to that.
    pub role: Option<String>,
    /// Whose database it has to be.
    pub stamp: Option<Stamp>,
    /// The versions that its histories are known to be at, in the order of the sets: they are not read then. Should the
    /// database turn out to be elsewhere, they are.
    pub at: Option<Vec<i32>>,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            attempts: 5,
            wait: Duration::from_secs(60),
            statement_timeout: None,
            role: None,
            stamp: None,
            at: None,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[non_exhaustive]
pub enum MigrateError {
    /// The database cannot be reached, or no more, or is somebody else's. What was on its way when it fell silent is
    /// done or not: the histories tell.
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

impl MigrateError {
    /// Whether another try later may do: somebody else held a lock, or the server had no connection to give.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        match self {
            Self::Busy | Self::LockTimeout { .. } => true,
            Self::Connect(error) => {
                matches!(error.kind, ConnectFailure::ServerFull | ConnectFailure::ConnectionLimit)
            }
            Self::Failed { .. } | Self::Diverged { .. } | Self::History(_) => false,
        }
    }

    /// The file that could not be applied.
    #[must_use]
    pub fn migration(&self) -> Option<String> {
        match self {
            Self::LockTimeout { migration, .. } | Self::Failed { migration, .. } => Some(migration.clone()),
            Self::Diverged { migration, .. } => Some(format!("{migration}.sql")),
            Self::Connect(_) | Self::Busy | Self::History(_) => None,
        }
    }
}

/// Brings one database to the head of a set. Costs one look when it is there already.
///
/// Needs the direct URL: the lock belongs to the session, which a transaction pooler does not keep.
///
/// # Errors
/// [`MigrateError`]; what was applied before the failure stays, and a later run goes on from there.
pub async fn migrate(target: &Target, set: &MigrationSet, options: &MigrateOptions) -> Result<Applied, MigrateError> {
    let (applied, done) = migrate_all(target, &[set], options).await;
    done.map(|()| applied.into_iter().next().unwrap_or_default())
}

/// Brings one database to the heads of several sets, in their order, over one connection. What was applied is said in
/// any case.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_all(
    target: &Target,
    sets: &[&MigrationSet],
    options: &MigrateOptions,
) -> (Vec<Applied>, Result<(), MigrateError>) {
    let mut applied = vec![Applied::default(); sets.len()];
    let done = bring(target, sets, options, &mut applied).await;
    (applied, done)
}

async fn bring(
    target: &Target,
    sets: &[&MigrationSet],
    options: &MigrateOptions,
    applied: &mut [Applied],
) -> Result<(), MigrateError> {
    let mut session = Session::open(target, options).await?;
    // A file that runs outside of a transaction is not begun on somebody's word.
    let at = options.at.as_deref().filter(|at| sets.iter().zip(*at).all(|(set, at)| set.is_transactional_after(*at)));
    let mut histories = session.look(sets, options.stamp, at).await?;
    for (applied, history) in applied.iter_mut().zip(&histories) {
        *applied = Applied { from: history.version(), to: history.version(), count: 0 };
    }
    // Damage is found by looking again, under the lock.
    if sets.iter().zip(&histories).all(|(set, history)| history.pending(set).is_ok_and(|pending| pending.is_empty())) {
        return Ok(());
    }
    if !session.is_locked() {
        session.lock(options).await?;
        // Whoever held the lock before us may have done it.
        histories = session.look(sets, options.stamp, None).await?;
    }
    session.prepare(options).await?;
    let assumed = histories.iter().any(History::is_assumed);
    match apply_all(&session, sets, &histories, options, applied).await {
        Err(error) if assumed && sets.iter().any(|set| contradicts(&error, set)) => {
            histories = session.look(sets, options.stamp, None).await?;
            apply_all(&session, sets, &histories, options, applied).await
        }
        done => done,
    }
}

/// Applies what each history lacks of its set. Those that were assumed are checked as the first of all is applied: the
/// database may be another one than the one that was written down, an older state of it for example.
async fn apply_all(
    session: &Session,
    sets: &[&MigrationSet],
    histories: &[History],
    options: &MigrateOptions,
    applied: &mut [Applied],
) -> Result<(), MigrateError> {
    let mut is_checked = false;
    for (at, set) in sets.iter().enumerate() {
        let checked = if is_checked { String::new() } else { check(sets, histories, at) };
        is_checked |= apply_set(session, set, &histories[at], checked, options, &mut applied[at]).await?;
    }
    Ok(())
}

/// Applies what a history lacks of a set, and says whether that was anything.
async fn apply_set(
    session: &Session,
    set: &MigrationSet,
    history: &History,
    mut checked: String,
    options: &MigrateOptions,
    applied: &mut Applied,
) -> Result<bool, MigrateError> {
    if applied.count == 0 {
        applied.from = history.version();
    }
    applied.to = history.version();
    for migration in history.pending(set)? {
        let mut attempt = 1;
        while let Err(error) = session.apply(set, history, migration, &checked, attempt, options).await {
            if !error.is_conflict() || attempt >= options.attempts {
                return Err(error);
            }
            tracing::info!(migration = %migration, attempt, "a migration gave way to traffic and tries again");
            tokio::time::sleep(back_off(attempt)).await;
            attempt += 1;
        }
        checked.clear();
        applied.count += 1;
        applied.to = migration.version();
    }
    Ok(applied.count > 0)
}

/// Twice as long each time, and never the same twice, so that many nodes do not come back at once.
pub(crate) fn back_off(attempt: u32) -> Duration {
    let longest = FIRST_BACK_OFF.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_BACK_OFF);
    longest.mul_f64(0.5 + f64::from(random::<1>()[0]) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_within_bounds() {
        for attempt in 1..40 {
            let pause = back_off(attempt);
            assert!(pause >= FIRST_BACK_OFF / 2 && pause <= LONGEST_BACK_OFF, "{attempt}: {pause:?}");
        }
    }
}
