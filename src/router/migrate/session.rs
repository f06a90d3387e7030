//! One connection on which a database is looked at and migrated.

use std::fmt::Write as _;
use std::time::Duration;

use refinery::Migration;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Error as PgError, SimpleQueryMessage, SimpleQueryRow};

use super::fault::Fault;
use super::line::{GRACE, Line};
use super::set::{MigrationSet, file_name, without_transaction};
use super::{BUILT_IN_HISTORY, MigrateError, MigrateOptions, OPERATOR_HISTORY, outside};
use crate::kernel::Clock;
use crate::router::connect::{ConnectError, ConnectFailure, Target};
use crate::router::stamp::Stamp;

/// Whose only member is whoever owns the database.
const OWNER: &str = "pg_database_owner";
/// Key of the advisory lock: "tenantry" in ASCII.
const LOCK_KEY: i64 = 0x7465_6e61_6e74_7279;

/// See the module. The advisory lock goes with it.
pub(super) struct Session {
    line: Line,
    /// What anything but a migration takes at most.
    brief: Option<Duration>,
    locked: bool,
    /// Whether the histories were there at the first look; else each is asked for.
    all_there: bool,
    /// What makes it the role that migrations run as, where that is another than the one that logged in.
    becomes: String,
}

/// What was applied, in the order of versions.
pub(super) struct History {
    /// Whether its table is there.
    known: bool,
    /// Somebody else's word, which the database was not asked about.
    assumed: bool,
    /// Version, name and checksum.
    applied: Vec<(i32, String, String)>,
}

impl History {
    /// Whether the database may say otherwise.
    pub(super) const fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// What a database has that is known to be at this version of a set. The table may be missing where that is 0.
    fn assume(set: &MigrationSet, version: i32) -> Self {
        let had = set.migrations.iter().filter(|migration| migration.version() <= version);
        let row = |it: &Migration| (it.version(), it.name().to_owned(), it.checksum().to_string());
        Self { known: version > 0, assumed: true, applied: had.map(row).collect() }
    }

    /// The latest version; 0 if there is none.
    pub(super) fn version(&self) -> i32 {
        self.applied.last().map_or(0, |(version, ..)| *version)
    }

    /// What is still to be applied of a set.
    pub(super) fn pending<'s>(&self, set: &'s MigrationSet) -> Result<Vec<&'s Migration>, MigrateError> {
        for (version, name, checksum) in &self.applied {
            let file = set.migrations.iter().find(|migration| migration.version() == *version);
            let diverged = |fault| MigrateError::Diverged { migration: format!("V{version}__{name}"), fault };
            match file {
                None => return Err(diverged("was applied here, but is not among the files")),
                Some(file) if file.name() != name || file.checksum().to_string() != *checksum => {
                    let migration = file.to_string();
                    return Err(MigrateError::Diverged { migration, fault: "was changed after it was applied" });
                }
                Some(_) => {}
            }
        }
        let pending: Vec<_> = set.migrations.iter().filter(|migration| !self.has(migration.version())).collect();
        match pending.first() {
            Some(first) if first.version() < self.version() => Err(MigrateError::Diverged {
                migration: first.to_string(),
                fault: "is older than what was applied here, but was never applied",
            }),
            _ => Ok(pending),
        }
    }

    fn has(&self, version: i32) -> bool {
        self.applied.iter().any(|(applied, ..)| *applied == version)
    }
}

impl Session {
    pub(super) async fn open(target: &Target, options: &MigrateOptions) -> Result<Self, MigrateError> {
        let line = Line::open(target, options.statement_timeout, options.lock_timeout).await?;
        Ok(Self { line, brief: Some(brief(options)), locked: false, all_there: true, becomes: String::new() })
    }

    /// Whether it holds the database's lock.
    pub(super) const fn is_locked(&self) -> bool {
        self.locked
    }

    /// Takes the lock if it is free, makes sure whose database it is, and reads the histories: one round trip where
    /// they are all there. Those that are known to be `at` a version are not read: a backend that has just started has
    /// everything to learn of each table that it is asked about.
    pub(super) async fn look(
        &mut self,
        sets: &[&MigrationSet],
        stamp: Option<Stamp>,
        at: Option<&[i32]>,
    ) -> Result<Vec<History>, MigrateError> {
        let lock = if self.locked { String::new() } else { format!("SELECT pg_try_advisory_lock({LOCK_KEY});") };
        let mut known: Vec<bool> = sets.iter().map(|_| at.is_none()).collect();
        let answers = if self.all_there { self.ask(&lock, sets, &known, stamp.is_some()).await } else { Ok(None) };
        let answers = match answers? {
            Some(answers) => answers,
            None if at.is_some() => return Err(unstamped("the database is stamped for nobody")),
            None => {
                self.all_there = false;
                known = self.known(sets).await.map_err(Fault::of_history)?;
                let answers = self.ask(&lock, sets, &known, stamp.is_some()).await?;
                answers.ok_or_else(|| unstamped("the database is stamped for nobody"))?
            }
        };
        let mut answers = answers.into_iter();
        if !lock.is_empty() {
            let got = answers.next().is_some_and(|rows| rows.first().is_some_and(|row| row.get(0) == Some("t")));
            self.locked = got;
        }
        if let Some(stamp) = stamp {
            let expected = (stamp.tenant_id.to_string(), stamp.installation_id.to_string());
            let rows = answers.next().unwrap_or_default();
            let said: Vec<_> = rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
            if said != [expected] {
                return Err(unstamped("the database is stamped for another tenant"));
            }
        }
        if let Some(at) = at {
            return Ok(sets.iter().zip(at).map(|(set, version)| History::assume(set, *version)).collect());
        }
        let histories = known.into_iter().map(|known| History {
            known,
            assumed: false,
            applied: if known { read(&answers.next().unwrap_or_default()) } else { Vec::new() },
        });
        Ok(histories.collect())
    }

    /// `None` if a table is not there.
    async fn ask(
        &self,
        lock: &str,
        sets: &[&MigrationSet],
        known: &[bool],
        stamp: bool,
    ) -> Result<Option<Vec<Vec<SimpleQueryRow>>>, MigrateError> {
        let mut sql = lock.to_owned();
        if stamp {
            sql.push_str("SELECT tenant_id, installation_id FROM tenantry.stamp;");
        }
        for (set, _) in sets.iter().zip(known).filter(|(_, known)| **known) {
            let _ = write!(sql, "SELECT version, name, checksum FROM {};", set.history);
        }
        match self.line.ask(&sql, self.brief).await {
            Ok(messages) => Ok(Some(split(messages))),
            Err(Fault::Said(error)) if is_missing(&error) => Ok(None),
            Err(fault) => Err(fault.of_history()),
        }
    }

    async fn known(&self, sets: &[&MigrationSet]) -> Result<Vec<bool>, Fault> {
        let asked: Vec<_> = sets.iter().map(|set| format!("to_regclass('{}') IS NOT NULL", set.history)).collect();
        let messages = self.line.ask(&format!("SELECT {}", asked.join(", ")), self.brief).await?;
        let rows = split(messages).into_iter().flatten().next();
        Ok((0..sets.len()).map(|at| rows.as_ref().is_some_and(|row| row.get(at) == Some("t"))).collect())
    }

    /// Waits for the database's lock.
    pub(super) async fn lock(&mut self, options: &MigrateOptions) -> Result<(), MigrateError> {
        let (wait, after) = (options.wait.as_millis().max(1), options.lock_timeout.as_millis().max(1));
        let sql = format!("SET lock_timeout = {wait}; SELECT pg_advisory_lock({LOCK_KEY}); SET lock_timeout = {after}");
        match self.line.tell(&sql, Some(options.wait.saturating_add(GRACE))).await {
            Ok(()) => {
                self.locked = true;
                Ok(())
            }
            Err(Fault::Said(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err(MigrateError::Busy),
            Err(fault) => Err(fault.of_history()),
        }
    }

    /// Makes the session ready to apply something: as the role that was asked for; else as the owner of the database, by the
    /// role of that name, if what is there belongs to that. What migrations make has one owner then: a view or function of
    /// one that reads a table of another would have no right to it. Where the histories have several, whoever logged in may
    /// use them all.
    pub(super) async fn prepare(&mut self, options: &MigrateOptions) -> Result<(), MigrateError> {
        let role = match &options.role {
            Some(role) => Some(role.as_str()),
            None => self.is_owner_s().await.map_err(Fault::of_history)?.then_some(OWNER),
        };
        self.becomes = role.map_or_else(String::new, |role| format!("SET ROLE \"{}\";", role.replace('"', "\"\"")));
        Ok(())
    }

    /// Whether all that is remembered in this database, of whichever set, belongs to [`OWNER`].
    async fn is_owner_s(&self) -> Result<bool, Fault> {
        let histories = [BUILT_IN_HISTORY, OPERATOR_HISTORY].map(|name| format!("to_regclass('{name}')")).join(", ");
        let sql = format!("SELECT relowner = '{OWNER}'::regrole FROM pg_class WHERE oid IN ({histories})");
        let rows: Vec<_> = split(self.line.ask(&sql, self.brief).await?).into_iter().flatten().collect();
        Ok(!rows.is_empty() && rows.iter().all(|row| row.get(0) == Some("t")))
    }

    /// Applies one migration, and remembers it in the same transaction, if it runs in one. What is to be `checked` then is
    /// so within it.
    pub(super) async fn apply(
        &self,
        set: &MigrationSet,
        history: &History,
        migration: &Migration,
        checked: &str,
        attempt: u32,
        options: &MigrateOptions,
    ) -> Result<(), MigrateError> {
        let sql = migration.sql().unwrap_or_default();
        let statement_timeout = options.statement_timeout.map_or(0, |most| most.as_millis().max(1));
        // Before each of them: a file may end as another role.
        let begins = format!("{}SET lock_timeout = {};", self.becomes, options.lock_timeout.as_millis().max(1));
        let remember =
            format!("{}{}", if history.known { String::new() } else { table(set.history) }, row(set, migration));
        let done = if without_transaction(sql) {
            outside::run(&self.line, sql, options.wait, (&self.becomes, &remember)).await
        } else {
            // The history first: who had it already is told so before anything is done twice.
            let whole = format!(
                "{begins}SET statement_timeout = {statement_timeout};BEGIN;\n{remember};\n{checked}{sql}\n;\nCOMMIT"
            );
            let done = self.line.tell(&whole, most(sql, options)).await;
            if matches!(done, Err(Fault::Said(_))) {
                // Fails only where the connection is gone, and the transaction with it.
                let _ = self.line.tell("ROLLBACK", self.brief).await;
            }
            done
        };
        done.map_err(|fault| fault.of(file_name(migration), attempt))
    }
}

/// What a few statements take at most that wait for nothing but locks.
fn brief(options: &MigrateOptions) -> Duration {
    options.lock_timeout.saturating_mul(4).saturating_add(GRACE)
}

/// What a file in a transaction takes at most by the server's bound on each of its statements, and on the end of it.
/// There may be more semicolons than statements, never fewer. None if nothing is bounded, or the file has bounds of its
/// own.
fn most(sql: &str, options: &MigrateOptions) -> Option<Duration> {
    let each = options.statement_timeout?;
    if sql.to_ascii_lowercase().contains("statement_timeout") {
        return None;
    }
    let count = u32::try_from(sql.matches(';').count() + 2).unwrap_or(u32::MAX);
    Some(each.saturating_mul(count).saturating_add(brief(options)))
}

/// The rows of each statement's answer.
fn split(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<SimpleQueryRow>> {
    let (mut answers, mut rows) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => answers.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    answers
}

fn text(row: &SimpleQueryRow, at: usize) -> String {
    row.get(at).unwrap_or_default().to_owned()
}

/// In the order of versions, which the server would have to be asked for.
fn read(rows: &[SimpleQueryRow]) -> Vec<(i32, String, String)> {
    let mut applied: Vec<_> =
        rows.iter().map(|row| (text(row, 0).parse().unwrap_or_default(), text(row, 1), text(row, 2))).collect();
    applied.sort_unstable();
    applied
}

fn is_missing(error: &PgError) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
}

fn unstamped(why: &str) -> MigrateError {
    ConnectError::new(ConnectFailure::StampMismatch, why.to_owned()).into()
}

/// The table as refinery makes it. Who may not make schemas is not even asked for one that is there.
fn table(history: &str) -> String {
    let schema = history.split_once('.').map(|(schema, _)| {
        format!("DO $$ BEGIN IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF; END $$;\n")
    });
    format!(
        "{}CREATE TABLE IF NOT EXISTS {history} (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), \
         checksum varchar(255));\n",
        schema.unwrap_or_default()
    )
}

/// Without a function or an operator, which a backend that has just started would have to look up.
fn row(set: &MigrationSet, migration: &Migration) -> String {
    format!(
        "INSERT INTO {} (version, name, applied_on, checksum) VALUES ({}, '{}', '{}', '{}')",
        set.history,
        migration.version(),
        migration.name().replace('\'', "''"),
        Clock::system().now().format("%Y-%m-%dT%H:%M:%S%.6fZ"),
        migration.checksum()
    )
}

/// What fails where histories that were assumed are not what is there, once `at` has a row more: a row that is not among
/// the files is found elsewhere, so that their numbers tell. One without a row may be without its table too.
pub(super) fn check(sets: &[&MigrationSet], histories: &[History], at: usize) -> String {
    let assumed = sets.iter().zip(histories).enumerate().filter(|(_, (_, history))| history.assumed && history.known);
    let as_said: Vec<_> = assumed
        .map(|(place, (set, history))| {
            let rows = history.applied.len() + usize::from(place == at);
            format!("(SELECT count(*) FROM {}) = {rows}", set.history)
        })
        .collect();
    if as_said.is_empty() {
        return String::new();
    }
    format!("SELECT 1 / (CASE WHEN {} THEN 1 ELSE 0 END);\n", as_said.join(" AND "))
}

/// Whether an error may come of a history that is not what it was said to be.
pub(super) fn contradicts(error: &MigrateError, set: &MigrationSet) -> bool {
    let MigrateError::Failed { source, .. } = error else { return false };
    let Some(said) = source.downcast_ref::<DbError>() else { return false };
    let table = set.history.rsplit('.').next();
    (*said.code() == SqlState::UNIQUE_VIOLATION && said.table() == table)
        || [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::DIVISION_BY_ZERO]
            .contains(&said.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, sql: &str) -> Migration {
        Migration::unapplied(name, sql).unwrap()
    }

    fn applied(migrations: &[&Migration]) -> History {
        let row = |m: &&Migration| (m.version(), m.name().to_owned(), m.checksum().to_string());
        History { known: true, assumed: false, applied: migrations.iter().map(row).collect() }
    }

    #[test]
    fn what_is_pending_follows_what_was_applied() {
        let (one, two, three) = (migration("V1__a", "a"), migration("V2__b", "b"), migration("V3__c", "c"));
        let set = MigrationSet::new("h", vec![one.clone(), two.clone(), three.clone()]);
        assert_eq!(applied(&[&one]).pending(&set).unwrap(), [&two, &three]);
        assert!(applied(&[&one, &two, &three]).pending(&set).unwrap().is_empty());
        let fault = |history: History| history.pending(&set).unwrap_err().to_string();
        assert_eq!(fault(applied(&[&migration("V1__a", "x")])), "V1__a.sql was changed after it was applied");
        let unknown = migration("V4__d", "d");
        let said = fault(applied(&[&one, &two, &three, &unknown]));
        assert_eq!(said, "V4__d.sql was applied here, but is not among the files");
        let said = fault(applied(&[&one, &three]));
        assert_eq!(said, "V2__b.sql is older than what was applied here, but was never applied");
    }

    #[test]
    fn a_file_may_take_what_its_statements_may() {
        let second = Duration::from_secs(1);
        let options = MigrateOptions { lock_timeout: second, ..MigrateOptions::default() };
        let most_of = |sql: &str, each| most(sql, &MigrateOptions { statement_timeout: each, ..options.clone() });
        // Two statements and the end, four locks around them, and the way.
        assert_eq!(most_of("SELECT 1; SELECT 2", Some(second * 60)), Some(second * (3 * 60 + 4) + GRACE));
        assert_eq!(most_of("SELECT 1", None), None);
        assert_eq!(most_of("SET LOCAL Statement_Timeout = 0; SELECT 1", Some(second)), None);
    }
}
