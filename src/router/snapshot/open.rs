//! Opening the snapshot's file, and those of the nodes that share its directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
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
    let file = opened.map_err(OpenFault::Io)?;
    // Whatever a damaged file makes of the reader, it is damaged, and no more than that.
    let opened = catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(CACHE).create_file(file)));
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(OpenFault::InUse),
        Ok(Err(DatabaseError::Storage(StorageError::Io(error)))) if !is_of_content(&error) => Err(OpenFault::Io(error)),
        Ok(Err(error)) => Err(OpenFault::Damaged(error.to_string())),
        Err(_) => Err(OpenFault::Damaged("the reader stumbled".into())),
    }
}

/// Whether an error says what the file holds, not that it cannot be read.
fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
