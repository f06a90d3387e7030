//! The place of one backup, or one export, in the storage: what goes in is sealed, what comes out is authentic.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::dump::moves;
use crate::control::backups;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, refused};
use crate::kernel::chunks::{CHUNK_LEN, Opener, Sealer, StreamKey};
use crate::kernel::crypto::hex;
use crate::kernel::{BackupId, TenantId};
use crate::router::MainConn;
use crate::storage::{Storage, Upload};

/// The dump's name in its backup.
pub(in crate::fleet) const DUMP: &str = "dump";
/// The manifest's.
pub(in crate::fleet) const MANIFEST: &str = "manifest";
/// The largest manifest that is read, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// Length and SHA-256 of a sealed object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fleet) struct Digest {
    pub(in crate::fleet) bytes: i64,
    pub(in crate::fleet) sha256: String,
}

/// See the module.
pub(in crate::fleet) struct Vault {
    storage: Storage,
    key: StreamKey,
    tenant: TenantId,
    backup: BackupId,
}

/// Everything that the storage holds of a tenant: its backups and its exports.
pub(in crate::fleet) fn folder(tenant: TenantId) -> String {
    format!("backups/{tenant}")
}

/// Everything that the storage holds of one backup, or of an export with such an id.
pub(in crate::fleet) fn folder_of(tenant: TenantId, backup: BackupId) -> String {
    format!("{}/{backup}", folder(tenant))
}

impl Vault {
    /// The place of a backup, with a key that was opened.
    pub(in crate::fleet) fn new(storage: Storage, key: StreamKey, tenant: TenantId, backup: BackupId) -> Self {
        Self { storage, key, tenant, backup }
    }

    /// The place of a backup, with its tenant's key from the control plane.
    pub(in crate::fleet) async fn find(fleet: &Fleet, tenant: TenantId, backup: BackupId) -> ApiResult<Self> {
        let keys = fleet.control.keys.clone();
        let found =
            fleet.control.db.read(async move |conn: &mut MainConn| backups::find_key(conn, &keys, tenant).await);
        let key = found
            .await?
            .ok_or_else(|| refused("The key of this tenant's backups was destroyed; none of them opens any more."))?;
        Ok(Self::new(fleet.storage()?.clone(), key, tenant, backup))
    }

    fn name(&self, part: &str) -> String {
        format!("{}/{part}", folder_of(self.tenant, self.backup))
    }

    fn what(&self, part: &str) -> String {
        format!("backup {} of tenant {}: {part}", self.backup, self.tenant)
    }

    /// Puts an object there, as long as `source` gives bytes; takes the place of one that is there. `expected` is
    /// about how many bytes that will be. What was sent is taken back if it fails, or is `given_up`: see it to its end,
    /// since nobody takes back the parts of one that is dropped.
    pub(in crate::fleet) async fn put(
        &self,
        part: &str,
        source: &mut (impl AsyncRead + Unpin),
        (journal, expected): (&mut Journal<'_>, i64),
        given_up: &CancellationToken,
    ) -> ApiResult<Digest> {
        let mut upload = self.storage.upload(&self.name(part)).map_err(away)?;
        let sent = self.send(part, source, &mut upload, (journal, expected), given_up).await;
        upload.end(sent, away).await
    }

    async fn send(
        &self,
        part: &str,
        source: &mut (impl AsyncRead + Unpin),
        upload: &mut Upload,
        (journal, expected): (&mut Journal<'_>, i64),
        given_up: &CancellationToken,
    ) -> ApiResult<Digest> {
        let mut out = Vec::with_capacity(CHUNK_LEN * 2);
        let mut sealer = Sealer::new(&self.key, &self.what(part), &mut out);
        let mut digest = Context::new(&SHA256);
        let mut bytes = 0_i64;
        let mut buffer = vec![0; CHUNK_LEN];
        loop {
            let piece = async { source.read(&mut buffer).await.map_err(ApiError::internal) };
            // Between two writes: one that is broken off could leave a part that nobody knows of.
            let read = tokio::select! {
                biased;
                () = given_up.cancelled() => return Err(ApiError::internal("the upload was given up")),
                read = moves(journal.beside(piece)) => read?,
            };
            if read == 0 {
                break;
            }
            sealer.push(&buffer[..read], &mut out);
            keep(upload, &mut digest, &mut bytes, &mut out).await?;
            journal.advance(bytes, expected.max(bytes + 1)).await?;
        }
        sealer.finish(&mut out);
        keep(upload, &mut digest, &mut bytes, &mut out).await?;
        Ok(Digest { bytes, sha256: hex(digest.finish().as_ref()) })
    }

    /// Puts a short object there.
    pub(in crate::fleet) async fn put_short(&self, part: &str, plain: &[u8]) -> ApiResult<()> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(&self.key, &self.what(part), &mut out);
        sealer.push(plain, &mut out);
        sealer.finish(&mut out);
        let mut upload = self.storage.upload(&self.name(part)).map_err(away)?;
        let sent = upload.write(&out).await.map_err(away);
        upload.end(sent, away).await
    }

    /// Begins an object that is written piece by piece: see it to its end, since nobody takes back the parts of one that is
    /// dropped.
    pub(in crate::fleet) fn begin(&self, part: &str) -> ApiResult<Part> {
        let upload = self.storage.upload(&self.name(part)).map_err(away)?;
        let mut out = Vec::with_capacity(CHUNK_LEN * 2);
        let sealer = Sealer::new(&self.key, &self.what(part), &mut out);
        Ok(Part { upload, sealer, out })
    }

    /// An object as it comes: each piece is authentic, and it was all of it where no error is the last.
    ///
    /// # Errors
    /// 404 if it is not there; 503 if the storage does not answer.
    pub(in crate::fleet) async fn open(&self, part: &str) -> ApiResult<BoxStream<'static, ApiResult<Vec<u8>>>> {
        let sealed = self.storage.read(&self.name(part)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => ApiError::new(Code::NotFound).caused_by(error),
            other => away(other),
        })?;
        let opener = Opener::new(&self.key, &self.what(part));
        let pieces = stream::try_unfold(Some((sealed, opener)), |left| async move {
            let Some((mut sealed, mut opener)) = left else { return Ok::<_, ApiError>(None) };
            let mut plain = Vec::new();
            while let Some(piece) = sealed.try_next().await.map_err(away)? {
                opener.push(&piece, &mut plain).map_err(ApiError::internal)?;
                if !plain.is_empty() {
                    return Ok(Some((plain, Some((sealed, opener)))));
                }
            }
            opener.finish(&mut plain).map_err(ApiError::internal)?;
            Ok(Some((plain, None)))
        });
        Ok(pieces.boxed())
    }

    /// A short object, all of it authentic.
    pub(in crate::fleet) async fn get_short(&self, part: &str) -> ApiResult<Vec<u8>> {
        let mut plain = Vec::new();
        self.read(part, &mut plain).await?;
        Ok(plain)
    }

    /// Writes an object to `to` as it comes. What was written is authentic, and all of it where there is a digest: none
    /// where `to` had seen enough.
    ///
    /// # Errors
    /// 409 if anything of it was changed or is missing; 503 if the storage does not answer; 500 if `to` takes no more.
    pub(in crate::fleet) async fn read(
        &self,
        part: &str,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> ApiResult<Option<Digest>> {
        let mut stream = self.storage.read(&self.name(part)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => {
                refused("The backup is not in the storage any more; nothing was restored. Choose another one.")
            }
            other => away(other),
        })?;
        let mut opener = Opener::new(&self.key, &self.what(part));
        let mut digest = Context::new(&SHA256);
        let mut bytes = 0_i64;
        let mut out = Vec::with_capacity(CHUNK_LEN * 2);
        while let Some(sealed) = stream.try_next().await.map_err(away)? {
            digest.update(&sealed);
            bytes += i64::try_from(sealed.len()).map_err(ApiError::internal)?;
            if part == MANIFEST && usize::try_from(bytes).is_ok_and(|bytes| bytes > LARGEST) {
                return Err(damaged("the manifest is too long"));
            }
            for piece in sealed.chunks(CHUNK_LEN) {
                opener.push(piece, &mut out).map_err(damaged)?;
                match moves(async { Ok(to.write_all(&out).await) }).await? {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
                    done => done.map_err(ApiError::internal)?,
                }
                out.clear();
            }
        }
        opener.finish(&mut out).map_err(damaged)?;
        match moves(async { Ok(to.write_all(&out).await) }).await? {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
            done => done.map_err(ApiError::internal)?,
        }
        Ok(Some(Digest { bytes, sha256: hex(digest.finish().as_ref()) }))
    }
}

/// An object on its way into a vault.
pub(in crate::fleet) struct Part {
    upload: Upload,
    sealer: Sealer,
    out: Vec<u8>,
}

impl Part {
    /// More of it.
    pub(in crate::fleet) async fn write(&mut self, plain: &[u8]) -> ApiResult<()> {
        self.sealer.push(plain, &mut self.out);
        if !self.out.is_empty() {
            self.upload.write(&self.out).await.map_err(away)?;
            self.out.clear();
        }
        Ok(())
    }

    /// It is there from here on.
    pub(in crate::fleet) async fn finish(self) -> ApiResult<()> {
        let Self { mut upload, sealer, mut out } = self;
        sealer.finish(&mut out);
        let sent = upload.write(&out).await.map_err(away);
        upload.end(sent, away).await
    }

    /// Takes back what was sent.
    pub(in crate::fleet) async fn give_up(self) {
        self.upload.abort().await;
    }
}

async fn keep(upload: &mut Upload, digest: &mut Context, bytes: &mut i64, out: &mut Vec<u8>) -> ApiResult<()> {
    digest.update(out);
    *bytes += i64::try_from(out.len()).map_err(ApiError::internal)?;
    upload.write(out).await.map_err(away)?;
    out.clear();
    Ok(())
}

/// 503: the storage does not do what it is asked.
pub(in crate::fleet) fn away(cause: impl std::error::Error + Send + Sync + 'static) -> ApiError {
    ApiError::new(Code::Overloaded).detail("The storage of backups does not answer, or refuses.").caused_by(cause)
}

/// 409: nothing of such a backup is ever restored.
pub(in crate::fleet) fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiError {
    refused("The backup is damaged or was changed, so nothing was restored. Choose another one.").caused_by(cause)
}

/// Nothing is kept, everything was read.
pub(in crate::fleet) fn nowhere() -> impl AsyncWrite + Unpin {
    tokio::io::sink()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Of one test's own; gone with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("tenantry-vault-{}", uuid::Uuid::now_v7())))
        }

        fn vault(&self, key: &StreamKey, tenant: TenantId, backup: BackupId) -> Vault {
            Vault::new(Storage::directory(&self.0), key.clone(), tenant, backup)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            // What stays is among temporary files.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn put(vault: &Vault, part: &str, plain: &[u8]) {
        let mut out = vault.begin(part).unwrap();
        for piece in plain.chunks(10_000) {
            out.write(piece).await.unwrap();
        }
        out.finish().await.unwrap();
    }

    async fn all(vault: &Vault, part: &str) -> ApiResult<Vec<u8>> {
        vault.open(part).await?.try_concat().await
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[tokio::test]
    async fn a_part_is_read_back_as_it_was_written() {
        let (dir, key) = (Dir::new(), StreamKey::generate());
        let vault = dir.vault(&key, TenantId::generate(), BackupId::generate());
        let clear = bytes(32);
        for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 7] {
            put(&vault, "run/part", &bytes(length)).await;
            assert!(all(&vault, "run/part").await.unwrap() == bytes(length), "{length}");
            let sealed = fs::read(dir.0.join(vault.name("run/part"))).unwrap();
            assert!(!sealed.windows(32).any(|window| window == clear.as_slice()), "{length}: in clear");
        }
    }

    #[tokio::test]
    async fn a_part_opens_as_itself_and_whole_or_not_at_all() {
        let (dir, key, tenant, backup) =
            (Dir::new(), StreamKey::generate(), TenantId::generate(), BackupId::generate());
        let vault = dir.vault(&key, tenant, backup);
        let plain = bytes(2 * CHUNK_LEN + 7);
        put(&vault, "part", &plain).await;
        let place = dir.0.join(vault.name("part"));
        let sealed = fs::read(&place).unwrap();
        for at in [0, 9, 41, sealed.len() / 2, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            fs::write(&place, changed).unwrap();
            assert!(all(&vault, "part").await.is_err(), "byte {at}");
        }
        for length in [0, 20, 40, 40 + CHUNK_LEN + 16, sealed.len() - 1] {
            fs::write(&place, &sealed[..length]).unwrap();
            assert!(all(&vault, "part").await.is_err(), "{length} bytes of it");
        }
        fs::write(&place, &sealed).unwrap();
        assert!(all(&vault, "part").await.unwrap() == plain);

        let other = dir.vault(&StreamKey::generate(), tenant, backup);
        assert!(all(&other, "part").await.is_err(), "with another tenant's key");
        let elsewhere = [
            (dir.vault(&key, TenantId::generate(), backup), "part"),
            (dir.vault(&key, tenant, BackupId::generate()), "part"),
            (vault, "other"),
        ];
        for (vault, part) in &elsewhere {
            let missing = all(vault, part).await.expect_err("nothing is there");
            assert!(missing.code() == Code::NotFound, "{missing:?}");
            put(vault, part, b"").await;
            fs::write(dir.0.join(vault.name(part)), &sealed).unwrap();
            assert!(all(vault, part).await.is_err(), "in the place of {}", vault.what(part));
        }
    }

    #[tokio::test]
    async fn a_part_that_was_given_up_is_not_there() {
        let (dir, key) = (Dir::new(), StreamKey::generate());
        let vault = dir.vault(&key, TenantId::generate(), BackupId::generate());
        put(&vault, "part", b"before").await;
        for name in ["part", "new"] {
            let mut part = vault.begin(name).unwrap();
            part.write(&bytes(2 * CHUNK_LEN)).await.unwrap();
            part.give_up().await;
        }
        assert_eq!(all(&vault, "part").await.unwrap(), b"before", "what was there stays");
        assert!(all(&vault, "new").await.is_err_and(|error| error.code() == Code::NotFound));
    }
}
