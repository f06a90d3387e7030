//! The directory of an export: readable by whoever exports, one tenant's alone, and marked as unfinished until it is whole.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::write::unwritten;
use crate::error::{ApiError, ApiResult};
use crate::fleet::refused;
use crate::kernel::{OperationId, TenantId};

/// There while an export is not whole.
const UNFINISHED: &str = ".unfinished-export";
/// The next of them, until it takes the place of the one before.
const NEXT: &str = ".unfinished-export.new";
/// What says what an export holds.
const MANIFEST: &str = "manifest.json";

/// Whose unfinished export a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) tenant: TenantId,
    pub(super) operation: OperationId,
}

/// Makes the directory, or takes the one that an interrupted run of the same tenant began, wherever that was interrupted
/// and whatever became of the directory since: nothing of an earlier run stays. `written` is the manifest of what this
/// very operation has written already, of which perhaps only the journal had not heard.
///
/// # Errors
/// 409 if it holds anything else, another tenant's export above all, or cannot be written to.
pub(super) async fn take(to: &Path, mark: Mark, written: Option<&str>) -> ApiResult<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).await.map_err(unwritten)?;
    let found = found(to).await.map_err(unwritten)?;
    if found.is_some_and(|found| found.tenant != mark.tenant) {
        return Err(refused(
            "The directory holds an unfinished export of another tenant. Give one that is empty, or that is not there yet; \
             or remove this one, if nobody goes on with it.",
        ));
    }
    if found.is_none() && !is_empty(to).await.map_err(unwritten)? && !is_whole(to, written).await {
        return Err(refused("The directory is not empty. Give one that is, or that is not there yet."));
    }
    if found != Some(mark) {
        let text = serde_json::to_string(&mark).map_err(ApiError::internal)?;
        is_gone(fs::remove_file(to.join(NEXT)).await)?;
        write(&to.join(NEXT), &text).await.map_err(unwritten)?;
        fs::rename(to.join(NEXT), to.join(UNFINISHED)).await.map_err(unwritten)?;
    }
    sweep(to).await
}

/// The export is whole.
pub(super) async fn finish(to: &Path, manifest: &str) -> ApiResult<()> {
    write(&to.join(MANIFEST), manifest).await.map_err(unwritten)?;
    is_gone(fs::remove_file(to.join(UNFINISHED)).await)
}

/// A file that was not there, for its owner alone: nothing is written over, nor to where a link leads.
pub(super) async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

async fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = create(path).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await?;
    file.sync_all().await
}

/// The mark; none too if it says nothing, as that of a run which died before it had written it.
async fn found(to: &Path) -> io::Result<Option<Mark>> {
    match fs::read(to.join(UNFINISHED)).await {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it holds nothing, marks aside that say nothing.
async fn is_empty(to: &Path) -> io::Result<bool> {
    let mut entries = fs::read_dir(to).await?;
    while let Some(entry) = entries.next_entry().await? {
        if ![UNFINISHED, NEXT].map(OsStr::new).contains(&entry.file_name().as_os_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether it holds what this very export wrote to it.
async fn is_whole(to: &Path, written: Option<&str>) -> bool {
    let there = fs::read(to.join(MANIFEST)).await;
    written.is_some_and(|written| there.is_ok_and(|there| there == written.as_bytes()))
}

/// Away with what an earlier run has written: this one may write less. What no export writes is left alone.
async fn sweep(to: &Path) -> ApiResult<()> {
    let mut entries = fs::read_dir(to).await.map_err(unwritten)?;
    while let Some(entry) = entries.next_entry().await.map_err(unwritten)? {
        let name = entry.file_name();
        let kind = Path::new(&name).extension().and_then(OsStr::to_str);
        let is_written = name == OsStr::new(MANIFEST) || matches!(kind, Some("ndjson" | "csv"));
        if is_written && !entry.file_type().await.map_err(unwritten)?.is_dir() {
            is_gone(fs::remove_file(entry.path()).await)?;
        }
    }
    Ok(())
}

/// Away with a file that may be gone already.
fn is_gone(removed: io::Result<()>) -> ApiResult<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritten(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn nothing_is_written_over_nor_to_where_a_link_leads() {
        let dir = std::env::temp_dir().join(format!("tenantry-export-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).await.unwrap();
        let [there, link, elsewhere, new] = ["there", "link", "elsewhere", "new"].map(|name| dir.join(name));
        fs::write(&there, "mine").await.unwrap();
        fs::symlink(&elsewhere, &link).await.unwrap();
        for path in [&there, &link] {
            let refused = create(path).await.expect_err("something is there");
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{}", path.display());
        }
        assert_eq!(fs::read_to_string(&there).await.unwrap(), "mine");
        assert!(!fs::try_exists(&elsewhere).await.unwrap());
        create(&new).await.unwrap();
        assert_eq!(fs::metadata(&new).await.unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&dir).await.unwrap();
    }
}
