//! Opening the snapshot's file, and those of the nodes that share its directory.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

use super::file::{Head, Result, SnapshotError, head_of};
use crate::kernel::crypto::MasterKeys;

/// Memory for the file's pages.
const CACHE: usize = 2 * 1024 * 1024;

/// A node may write its file while it is copied: only a copy that is sound as a whole is taken.
pub(super) fn copy_of(from: &Path, to: &Path, keys: &MasterKeys) -> Result<(Database, Head)> {
    let failed = |error| SnapshotError::Io(to.to_owned(), error);
    let mut source = File::open(from).map_err(failed)?;
    let mut copy = private(OpenOptions::new().write(true).create(true).truncate(true)).open(to).map_err(failed)?;
    io::copy(&mut source, &mut copy).map_err(failed)?;
    copy.sync_all().map_err(failed)?;
    drop(copy);
    let mut db = open_database(to).map_err(|_| SnapshotError::Damaged)?;
    let sound = catch_unwind(AssertUnwindSafe(|| db.check_integrity())).map_err(|_| SnapshotError::Damaged)?;
    sound?;
    let head = head_of(&db, keys)?.ok_or(SnapshotError::Damaged)?;
    Ok((db, head))
}

/// `registry.redb`, `registry-2.redb`, …
pub(super) fn neighbour(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{extension}"))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Why a file cannot be opened.
pub(super) enum OpenFault {
    /// Another node has it.
    InUse,
    /// It cannot be read or made.
    Io(io::Error),
    /// It is no database, or no sound one.
    Damaged(String),
}

pub(super) fn open_database(path: &Path) -> Result<Database, OpenFault> {
    let opened = private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path);
    database_in(path, opened.map_err(OpenFault::Io)?)
}

/// The database in a file that was opened at this path.
fn database_in(path: &Path, file: File) -> Result<Database, OpenFault> {
    let found = file.metadata().map_err(OpenFault::Io)?;
    // Whatever a damaged file makes of the reader, it is damaged, and no more than that.
    let opened = catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(CACHE).create_file(file)));
    match opened {
        // Whoever had it may have put another in its place, and let go of this one, before it was ours.
        Ok(Ok(_)) if !is_at(path, &found) => Err(OpenFault::InUse),
        Ok(Ok(db)) => Ok(db),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(OpenFault::InUse),
        Ok(Err(DatabaseError::Storage(StorageError::Io(error)))) if !is_of_content(&error) => Err(OpenFault::Io(error)),
        Ok(Err(error)) => Err(OpenFault::Damaged(error.to_string())),
        Err(_) => Err(OpenFault::Damaged("the reader stumbled".into())),
    }
}

/// Whether a path still leads to this file.
fn is_at(path: &Path, file: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Puts a damaged file aside. Gives `false`, and changes nothing, if another node has it, or did so meanwhile.
pub(super) fn put_aside(path: &Path, aside: &Path) -> io::Result<bool> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    // The database takes this lock too. Where the disk has none, nobody can be asked.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(path, &file.metadata()?) {
        return Ok(false);
    }
    fs::rename(path, aside)?;
    Ok(true)
}

/// Whether an error says what the file holds, not that it cannot be read.
fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn open_file(path: &Path) -> File {
        private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path).unwrap()
    }

    #[test]
    fn a_file_that_was_replaced_or_is_in_use_is_nobody_else_s() {
        let dir = std::env::temp_dir().join(format!("tenantry-snapshot-open-{}", Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        let (path, copy, aside) = (dir.join("registry.redb"), dir.join("registry.copy"), dir.join("registry.damaged"));
        drop(open_database(&path).unwrap_or_else(|_| panic!("nobody has it")));
        // Opened, and before it is locked the node that has it puts a neighbour's snapshot in its place.
        let late = open_file(&path);
        let theirs = open_database(&copy).unwrap_or_else(|_| panic!("nobody has it"));
        fs::rename(&copy, &path).unwrap();
        assert!(matches!(database_in(&path, late), Err(OpenFault::InUse)));

        // Found damaged, and put right by another node before it is put aside.
        assert!(!put_aside(&path, &aside).unwrap() && path.exists());
        drop(theirs);
        assert!(put_aside(&path, &aside).unwrap() && !path.exists() && aside.exists());
        assert!(!put_aside(&path, &aside).unwrap(), "another node did so");
        fs::remove_dir_all(&dir).unwrap();
    }
}
