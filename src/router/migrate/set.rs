//! Migrations that belong together: from the program itself, or from the operator's directory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refinery::Migration;

use super::statements::unclosed;
use crate::kernel::crypto::sha256;

/// The first line of a file whose statements run one by one, outside of a transaction.
pub const NO_TRANSACTION: &str = "-- tenantry: no-transaction";

/// Migrations that belong together, and the table that remembers which of them were applied.
#[derive(Clone)]
pub struct MigrationSet {
    pub(super) history: &'static str,
    pub(super) migrations: Arc<[Migration]>,
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
    #[error("{} is not named V<number>__<name>.sql, with a number from 1 on", .0.display())]
    Name(PathBuf),
    /// Two files with one number.
    #[error("{} has the number of another migration", .0.display())]
    Repeated(PathBuf),
    /// A text that no server could read, or that asks for something there is not.
    #[error("{}, line {line}: {fault}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong there.
        fault: &'static str,
    },
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
        let path = directory.to_owned();
        let read = tokio::task::spawn_blocking(move || Self::read(history, &path)).await;
        read.unwrap_or_else(|gone| {
            Err(MigrationFileError::Unreadable { path: directory.to_owned(), source: gone.into() })
        })
    }

    /// As [`Self::load`], where waiting for the disk holds up nobody.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(history: &'static str, directory: &Path) -> Result<Self, MigrationFileError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| MigrationFileError::Unreadable { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
            let path = entry.map_err(unreadable(directory))?.path();
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) {
                paths.push(path);
            }
        }
        // Of several faults, the same one is said each time.
        paths.sort();
        let mut found: Vec<(Migration, PathBuf)> = Vec::new();
        for path in paths {
            let sql = fs::read_to_string(&path).map_err(unreadable(&path))?;
            let name = path.file_name().and_then(|name| name.to_str());
            let stem = name.and_then(|name| name.strip_suffix(".sql")).filter(|stem| stem.starts_with('V'));
            let migration = match stem.map(|stem| Migration::unapplied(stem, &sql)) {
                Some(Ok(migration)) if migration.version() > 0 => migration,
                _ => return Err(MigrationFileError::Name(path)),
            };
            if let Some((line, fault)) = fault_in(&sql) {
                return Err(MigrationFileError::Text { path, line, fault });
            }
            found.push((migration, path));
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

    /// Whether each migration after a version runs in a transaction.
    pub(super) fn is_transactional_after(&self, version: i32) -> bool {
        let mut later = self.migrations.iter().filter(|migration| migration.version() > version);
        later.all(|migration| !without_transaction(migration.sql().unwrap_or_default()))
    }

    /// The migrations after a version, by number: their files' names.
    pub fn after(&self, version: i32) -> impl Iterator<Item = (i32, String)> {
        let later = self.migrations.iter().filter(move |migration| migration.version() > version);
        later.map(|migration| (migration.version(), file_name(migration)))
    }

    /// These migrations up to a version.
    #[must_use]
    pub fn up_to(&self, version: i32) -> Self {
        let kept = self.migrations.iter().filter(|migration| migration.version() <= version).cloned();
        Self { history: self.history, migrations: kept.collect() }
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

/// What is wrong with a text whatever database it comes to, and in which line. All else the server says.
fn fault_in(sql: &str) -> Option<(usize, &'static str)> {
    let line_of = |at: usize| sql[..at].matches('\n').count() + 1;
    if sql.starts_with('\u{feff}') {
        return Some((1, "the file begins with a byte order mark, which no server takes; save it without"));
    }
    if let Some(at) = sql.find('\0') {
        return Some((line_of(at), "there is a zero byte, which no server takes"));
    }
    // With `standard_conforming_strings = off` a backslash takes a quote along: then the server knows.
    let at = unclosed(sql).filter(|_| !sql.contains("\\'"))?;
    Some((line_of(at), "a quoted text or a comment begins here that is not closed"))
}

/// The file that a migration is in.
pub(super) fn file_name(migration: &Migration) -> String {
    format!("{migration}.sql")
}

/// Whether its statements run one by one, outside of a transaction.
pub(super) fn without_transaction(sql: &str) -> bool {
    sql.lines().next().is_some_and(|line| line.trim() == NO_TRANSACTION)
}

#[cfg(test)]
mod tests {
    use super::super::BUILT_IN_HISTORY;
    use super::*;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let migrations = files.iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
        MigrationSet::new(BUILT_IN_HISTORY, migrations)
    }

    #[test]
    fn ordered_by_number_and_known_by_text() {
        let one = set(&[("V10__b", "SELECT 2"), ("V9__a", "SELECT 1")]);
        assert_eq!((one.head(), one.up_to(9).head()), (10, 9));
        assert_eq!(one.after(9).collect::<Vec<_>>(), [(10, "V10__b.sql".to_owned())]);
        assert_eq!(one.fingerprint(), set(&[("V9__a", "SELECT 1"), ("V10__b", "SELECT 2")]).fingerprint());
        assert_ne!(one.fingerprint(), set(&[("V9__a", "SELECT 1"), ("V10__b", "SELECT 3")]).fingerprint());
        assert_eq!((set(&[]).head(), set(&[]).is_empty()), (0, true));
    }

    /// What is said of a directory with these files, without the path of it.
    fn said(files: &[(&str, &str)]) -> Result<i32, String> {
        let directory = std::env::temp_dir().join(format!("tenantry-migrations-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let read = MigrationSet::read(BUILT_IN_HISTORY, &directory);
        fs::remove_dir_all(&directory).unwrap();
        let place = format!("{}/", directory.display());
        read.map(|set| set.head()).map_err(|fault| fault.to_string().replace(&place, ""))
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_refused_by_file_and_line() {
        let marked = ("V3__b.sql", "-- tenantry: no-transaction\r\n-- why\nSELECT 1");
        let others = [("README.md", "-- it's"), ("V2__c.sql.old", "'")];
        assert_eq!(said(&[("V1__a.sql", "SELECT ';'"), marked, others[0], others[1]]), Ok(3));
        assert_eq!(said(&[("V1__a.sql", r"SELECT 'it\'s'")]), Ok(1), "whole, if strings conform to no standard");
        for name in ["notes.sql", "v1__a.sql", "V1__a.SQL", "V0__a.sql", "V1.5__a.sql", "V1_a.sql", "U1__a.sql"] {
            let wanted = format!("{name} is not named V<number>__<name>.sql, with a number from 1 on");
            assert_eq!(said(&[(name, "SELECT 1")]), Err(wanted));
        }
        let twice = said(&[("V1__a.sql", "SELECT 1"), ("V01__b.sql", "SELECT 1")]);
        assert_eq!(twice, Err("V1__a.sql has the number of another migration".to_owned()));
        for (text, line, fault) in [
            ("SELECT 1;\nSELECT 'a;\nSELECT 2;", 2, "not closed"),
            ("SELECT 1;\n\n/* why", 3, "not closed"),
            ("SELECT 1;\n\0", 2, "zero byte"),
            ("\u{feff}SELECT 1", 1, "byte order mark"),
        ] {
            let refused = said(&[("V1__a.sql", text)]).unwrap_err();
            assert!(refused.starts_with(&format!("V1__a.sql, line {line}: ")) && refused.contains(fault), "{refused}");
        }
    }

    #[test]
    fn the_marker_is_the_first_line() {
        assert!(without_transaction("-- tenantry: no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"));
        assert!(!without_transaction("SELECT 1;\n-- tenantry: no-transaction"));
        assert!(!without_transaction(""));
    }
}
