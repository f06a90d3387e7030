//! Small files of an installation on this machine: private, and never seen half-written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a file with mode 0600, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    // The mode counts for a new file only: an old draft may have another.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    keep_owner(&file, path)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// What root writes stays with whoever had it before, or has the directory: he is not to lose his files to one `sudo`.
fn keep_owner(file: &File, path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let directory = || fs::metadata(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    let had = fs::symlink_metadata(path).or_else(|_| directory())?;
    fchown(file, Some(had.uid()), Some(had.gid()))
}

/// Writes a value as a private JSON file.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_private(path, &text)
}

/// Reads a JSON file; `None` if there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;
    use crate::kernel::crypto::{hex, random};

    #[test]
    fn what_root_replaces_keeps_its_owner() {
        if !geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("tenantry-files-{}", hex(&random::<8>())));
        fs::create_dir(&dir).unwrap();
        let (first, second) = (dir.join("first"), dir.join("second"));
        fs::write(&first, "").unwrap();
        chown(&first, Some(4001), Some(4002)).unwrap();
        chown(&dir, Some(4003), Some(4004)).unwrap();
        for path in [&first, &second] {
            write_private(path, b"new").unwrap();
        }
        let of = |path| fs::metadata(path).map(|found| (found.uid(), found.gid(), found.mode() & 0o777)).unwrap();
        assert_eq!([of(&first), of(&second)], [(4001, 4002, 0o600), (4003, 4004, 0o600)]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
