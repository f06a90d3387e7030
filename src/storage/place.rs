//! Which place a storage URL means.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

/// How long a server may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may say nothing. A large object as a whole takes as long as it takes.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a request is tried again that failed for no fault of its own.
const RETRIES: Duration = Duration::from_secs(60);

/// Where objects are.
#[derive(Debug)]
pub(super) enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket, and where in it.
    Bucket {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// What every name begins with.
        prefix: String,
    },
}

/// What is wrong with a storage URL. The text never repeats it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Neither of the two forms.
    #[error("a storage URL is file:///directory or s3://bucket?endpoint=https://host")]
    Shape,
    /// A parameter that is not taken, so that it is not silently ignored.
    #[error("the storage URL has the parameter '{0}'; endpoint, region and path_style are taken")]
    Parameter(String),
    /// The bucket cannot be used like that.
    #[error("the bucket cannot be used: {0}")]
    Bucket(#[source] object_store::Error),
}

impl Place {
    pub(super) fn parse(text: &str, credentials: &[(String, String)]) -> Result<Self, StorageError> {
        let url = Url::parse(text).map_err(|_| StorageError::Shape)?;
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| StorageError::Shape)?;
                if url.query().is_some() || path == Path::new("/") {
                    Err(StorageError::Shape)
                } else {
                    Ok(Self::Directory(path))
                }
            }
            "s3" => bucket(&url, credentials),
            _ => Err(StorageError::Shape),
        }
    }
}

fn bucket(url: &Url, credentials: &[(String, String)]) -> Result<Place, StorageError> {
    let name = url.host_str().filter(|name| !name.is_empty()).ok_or(StorageError::Shape)?;
    let client = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT).with_read_timeout(SILENCE);
    let retry = RetryConfig { max_retries: 5, retry_timeout: RETRIES, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
    for (variable, value) in credentials {
        if let Ok(key) = AmazonS3ConfigKey::from_str(&variable.to_lowercase()) {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_bucket_name(name);
    let decode = |text: &str| {
        let pair = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    if let (false, Some(secret)) = (url.username().is_empty(), url.password()) {
        builder = builder.with_access_key_id(decode(url.username())).with_secret_access_key(decode(secret));
    }
    let mut path_style = None;
    for (parameter, value) in url.query_pairs() {
        builder = match &*parameter {
            "endpoint" => {
                // A server of one's own rarely has a host name for each bucket.
                path_style.get_or_insert(true);
                builder.with_endpoint(value.trim_end_matches('/')).with_allow_http(value.starts_with("http://"))
            }
            "region" => builder.with_region(value),
            "path_style" => {
                path_style = Some(value.parse().map_err(|_| StorageError::Parameter("path_style".into()))?);
                builder
            }
            other => return Err(StorageError::Parameter(other.to_owned())),
        };
    }
    if let Some(path_style) = path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    let store = builder.build().map_err(StorageError::Bucket)?;
    Ok(Place::Bucket { store: Arc::new(store), prefix: url.path().trim_matches('/').to_owned() })
}

/// A directory that only we can read.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_forms_and_no_other() {
        let parse = |url: &str| Place::parse(url, &[]);
        assert!(
            matches!(parse("file:///var/backups"), Ok(Place::Directory(path)) if path == Path::new("/var/backups"))
        );
        let bucket = "s3://key:secret@backups/tenantry/eu?endpoint=http://127.0.0.1:9000&region=eu-central-1";
        assert!(matches!(parse(bucket), Ok(Place::Bucket { prefix, .. }) if prefix == "tenantry/eu"));
        for wrong in ["", "/var/backups", "ftp://host/x", "file:///", "s3:///x", "file:///x?y=1"] {
            assert!(matches!(parse(wrong), Err(StorageError::Shape)), "{wrong}");
        }
        let refused = parse("s3://key:hunter2@backups?color=red").unwrap_err().to_string();
        assert!(refused.contains("'color'") && !refused.contains("hunter2"));
    }
}
