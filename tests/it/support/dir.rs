//! A directory of one test's own.

use std::path::{Path, PathBuf};

use crate::support::unique;

/// Goes with everything in it when it is dropped.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        let dir = std::env::temp_dir().join(unique("tenantry-dir-"));
        std::fs::create_dir(&dir).expect("a directory for temporary files");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays is among temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
