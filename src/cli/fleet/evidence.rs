//! The files of a proof: there under other names before anything is proven, so that no proof is lost for want of a place.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::{Refused, Usage};
use crate::control::documents::Signature;
use crate::fleet::proof::Report;

/// A report's files.
pub(super) struct Evidence {
    report: Draft,
    page: Draft,
    signature: Draft,
}

impl Evidence {
    /// Takes the places.
    ///
    /// # Errors
    /// If the report would be in its page's place, or one of the files cannot be made.
    pub(super) fn begin(file: &Path) -> anyhow::Result<Self> {
        let page = file.with_extension("html");
        if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html")) {
            let said = format!(
                "--report names the JSON, and {} is where the page goes by itself: give --report {}",
                page.display(),
                file.with_extension("json").display()
            );
            return Err(Usage(said).into());
        }
        let (report, page, signature) = (Draft::begin(file)?, Draft::begin(&page)?, Draft::begin(&signature_of(file))?);
        Ok(Self { report, page, signature })
    }

    /// Writes them all, then gives each its name: the signature last, without which the report is worth nothing.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn put(self, document: &[u8], report: &Report, signature: &Signature) -> anyhow::Result<()> {
        let Self { report: mut first, page: mut second, signature: mut last } = self;
        first.write(document)?;
        second.write(report.page().as_bytes())?;
        last.write(&serde_json::to_vec_pretty(signature)?)?;
        for one in [&mut first, &mut second, &mut last] {
            one.name()?;
        }
        Ok(())
    }
}

/// Where a report's signature is.
pub(super) fn signature_of(file: &Path) -> PathBuf {
    beside(file, ".sig")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(OsStr::new(ending));
    name.into()
}

/// A file that has not got its name yet; dropped before, it is gone.
struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
    named: bool,
}

impl Draft {
    fn begin(path: &Path) -> Result<Self, Refused> {
        let cannot = |why: &dyn std::fmt::Display| {
            let what = format!("cannot write {}: {why}", path.display());
            Refused::new(what, "name a file in a directory that is there and may be written to with --report")
        };
        if path.is_dir() {
            return Err(cannot(&"it is a directory"));
        }
        let draft = beside(path, ".part");
        let file = File::create(&draft).map_err(|error| cannot(&error))?;
        Ok(Self { file, draft, path: path.to_owned(), named: false })
    }

    fn write(&mut self, content: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(content).and_then(|()| self.file.sync_all());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn name(&mut self) -> anyhow::Result<()> {
        let named = fs::rename(&self.draft, &self.path);
        named.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.draft);
        }
    }
}
