//! Where backups and exports are kept: a directory of this machine, or a bucket of any server that speaks S3.
//!
//! Everything is streamed. What lies here is sealed already by whoever put it here.

mod place;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

use place::Place;
pub use place::StorageError;

/// Bytes of a part of an upload: ten thousand of them are the most that S3 takes, which makes 320 GB.
const PART: usize = 32 * 1024 * 1024;
/// Parts of one upload that are on their way at the same time.
const PARTS_AT_ONCE: usize = 2;

/// A place for objects. Clones share it.
#[derive(Debug, Clone)]
pub struct Storage {
    place: Arc<Place>,
}

/// What can go wrong with an object.
pub type Result<T> = std::result::Result<T, object_store::Error>;

impl Storage {
    /// Reads `file:///directory` or `s3://bucket/prefix?endpoint=…&region=…`; touches nothing yet. `credentials` are
    /// pairs as `("AWS_ACCESS_KEY_ID", …)`; those in the URL itself win.
    ///
    /// # Errors
    /// [`StorageError`], whose text does not repeat the URL.
    pub fn parse(url: &str, credentials: &[(String, String)]) -> std::result::Result<Self, StorageError> {
        Ok(Self { place: Arc::new(Place::parse(url, credentials)?) })
    }

    /// A directory of this machine; made when first written to.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { place: Arc::new(Place::Directory(path.into())) }
    }

    fn store(&self) -> Result<(Arc<dyn ObjectStore>, &str)> {
        match &*self.place {
            Place::Directory(root) => {
                place::private_directory(root).map_err(local)?;
                let store = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
                Ok((Arc::new(store.with_automatic_cleanup(true)), ""))
            }
            Place::Bucket { store, prefix } => Ok((store.clone(), prefix)),
        }
    }

    fn path(prefix: &str, name: &str) -> Path {
        Path::from(format!("{prefix}/{name}"))
    }

    /// Begins an object; it is there once the upload is finished, and not before.
    ///
    /// # Errors
    /// If the place cannot be used.
    pub fn upload(&self, name: &str) -> Result<Upload> {
        let (store, prefix) = self.store()?;
        let writer = BufWriter::with_capacity(store, Self::path(prefix, name), PART);
        Ok(Upload(writer.with_max_concurrency(PARTS_AT_ONCE)))
    }

    /// An object's bytes, as they come.
    ///
    /// # Errors
    /// If it is not there, or the place does not answer.
    pub async fn read(&self, name: &str) -> Result<BoxStream<'static, io::Result<Vec<u8>>>> {
        let (store, prefix) = self.store()?;
        let found = store.get(&Self::path(prefix, name)).await?;
        Ok(found.into_stream().map_ok(|bytes| bytes.to_vec()).map_err(io::Error::other).boxed())
    }

    /// How many objects there are whose name begins with `folder/`.
    ///
    /// # Errors
    /// If the place does not answer.
    pub async fn count(&self, folder: &str) -> Result<usize> {
        let (store, prefix) = self.store()?;
        let names: Vec<Path> =
            store.list(Some(&Self::path(prefix, folder))).map_ok(|found| found.location).try_collect().await?;
        Ok(names.len())
    }

    /// Removes everything whose name begins with `folder/`, and gives how many objects that were. Nothing there is
    /// nothing to do.
    ///
    /// # Errors
    /// If the place does not answer.
    pub async fn remove_all(&self, folder: &str) -> Result<usize> {
        let (store, prefix) = self.store()?;
        let names: Vec<Path> =
            store.list(Some(&Self::path(prefix, folder))).map_ok(|found| found.location).try_collect().await?;
        for name in &names {
            match store.delete(name).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if let Place::Directory(root) = &*self.place {
            // The beginnings of uploads that were interrupted, which are no objects yet.
            match tokio::fs::remove_dir_all(root.join(folder)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(local(error)),
                _ => {}
            }
        }
        Ok(names.len())
    }
}

fn local(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "directory", source: Box::new(error) }
}

/// An object on its way.
#[derive(Debug)]
pub struct Upload(BufWriter);

impl Upload {
    /// More of it.
    ///
    /// # Errors
    /// If the place does not take it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// If all was `sent` it is there from here on; else what was sent is taken back.
    ///
    /// # Errors
    /// What kept it from being sent; `away` of what the place says if it does not take it.
    pub async fn end<T, E>(
        mut self,
        sent: std::result::Result<T, E>,
        away: impl FnOnce(io::Error) -> E,
    ) -> std::result::Result<T, E> {
        match sent {
            // One that the place does not take is taken back by the writer.
            Ok(sent) => self.0.shutdown().await.map(|()| sent).map_err(away),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Takes back what was sent.
    pub async fn abort(mut self) {
        if let Err(error) = self.0.abort().await {
            tracing::warn!(%error, "an upload that was given up left parts behind");
        }
    }
}
