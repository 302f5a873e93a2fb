//! The parts of bundles, by digest.
//!
//! A blob is put under its own digest and never changes. A put is atomic: a local file is written
//! beside its place, synced and renamed, and an S3 store shows an object whole or not at all. So what
//! is there is complete, unless the disk loses it; [`Blobs::read`] and [`Blobs::stream`] check the
//! digest, and neither ever gives out the last bytes of a blob that is not the one asked for.

use crate::config::BlobsConfig;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{
    ClientOptions, GetOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::AmazonS3Builder, local::LocalFileSystem, path::Path as Key,
};
use sha2::{Digest as _, Sha256};
use std::{path::Path, sync::Arc, time::Duration};
use windlass_types::Digest;

/// Largest chunk that [`Blobs::stream`] gives.
pub const CHUNK: usize = 256 << 10;

/// A store that does not answer is asked again for so long: whoever waits for it is told after that.
const RETRY: Duration = Duration::from_secs(15);

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store can't be used as it is configured.
    #[error("the blob store `{url}` can't be used")]
    Open {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such blob.
    #[error("there is no blob {0}")]
    Missing(Digest),
    /// What is stored under the digest is something else.
    #[error("the stored blob {0} is damaged")]
    Damaged(Digest),
    /// The blob is shorter than that.
    #[error("blob {digest} has {size} bytes, so none after {offset}")]
    OutOfRange { digest: Digest, size: u64, offset: u64 },
    /// The store failed.
    #[error("the blob store failed")]
    Store(#[source] object_store::Error),
}

/// The blobs. Clones share them.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

fn key(digest: Digest) -> Key {
    let hex = digest.hex();
    // Folders of at most 256 entries at the top, so that no folder grows large.
    Key::from_iter(["sha256", &hex[..2], &hex])
}

fn digest_of(key: &Key) -> Option<Digest> {
    format!("sha256:{}", key.filename()?).parse().ok()
}

fn failed(digest: Digest) -> impl FnOnce(object_store::Error) -> BlobError {
    move |error| match error {
        object_store::Error::NotFound { .. } => BlobError::Missing(digest),
        error => BlobError::Store(error),
    }
}

impl Blobs {
    /// Open the store that the configuration names: a folder of the data directory unless told.
    ///
    /// # Errors
    /// If it can't be used.
    pub fn open(config: &BlobsConfig, data_dir: &Path) -> Result<Self, BlobError> {
        let Some(url) = &config.url else { return Self::local(&data_dir.join("blobs")) };
        if let Some(folder) = url.strip_prefix("file://") {
            return Self::local(Path::new(folder));
        }
        let open = |error: object_store::Error| BlobError::Open { url: url.clone(), source: error.into() };
        // Keys from the environment (`AWS_ACCESS_KEY_ID`, …) where the file has none.
        let mut builder = AmazonS3Builder::from_env()
            .with_url(url)
            .with_retry(RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() })
            .with_client_options(ClientOptions::new().with_timeout(Duration::from_secs(60)));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(id) = &config.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &config.secret_access_key {
            builder = builder.with_secret_access_key(&secret.0);
        }
        let store = builder.build().map_err(open)?;
        let prefix = url.splitn(4, '/').nth(3).unwrap_or_default();
        Ok(Blobs { store: Arc::new(object_store::prefix::PrefixStore::new(store, prefix)) })
    }

    /// A store in a folder, made if there is none.
    ///
    /// # Errors
    /// If it can't be.
    pub fn local(dir: &Path) -> Result<Self, BlobError> {
        let url = || dir.display().to_string();
        std::fs::create_dir_all(dir).map_err(|error| BlobError::Open { url: url(), source: error.into() })?;
        let store = LocalFileSystem::new_with_prefix(dir)
            .map_err(|error| BlobError::Open { url: url(), source: error.into() })?
            .with_fsync(true);
        Ok(Blobs { store: Arc::new(store) })
    }

    /// Keep some bytes. Those that are there already, whole, are left alone.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, BlobError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        // Read and compared, not just looked for: so an upload repairs a damaged blob.
        match self.read(digest).await {
            Ok(_) => return Ok(digest),
            Err(BlobError::Missing(_) | BlobError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        self.store.put(&key(digest), PutPayload::from_bytes(bytes)).await.map_err(BlobError::Store)?;
        Ok(digest)
    }

    /// A whole blob.
    ///
    /// # Errors
    /// If there is none, it is damaged, or the store fails.
    pub async fn read(&self, digest: Digest) -> Result<Bytes, BlobError> {
        let found = self.store.get(&key(digest)).await.map_err(failed(digest))?;
        let bytes = found.bytes().await.map_err(failed(digest))?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(BlobError::Damaged(digest)) }
    }

    /// A blob from an offset to its end, in chunks of [`CHUNK`] bytes at most, and its whole size.
    ///
    /// All of it is read and hashed, also what is before the offset. The last chunk comes only when
    /// the digest is right; else there is an error in its place.
    ///
    /// # Errors
    /// If there is none, it is not that long, or the store fails.
    pub async fn stream(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>), BlobError> {
        let found = self.store.get_opts(&key(digest), GetOptions::default()).await.map_err(failed(digest))?;
        let size = found.meta.size;
        if offset > size {
            return Err(BlobError::OutOfRange { digest, size, offset });
        }
        let mut parts = found.into_stream();
        let chunks = async_stream::try_stream! {
            let mut hash = Sha256::new();
            let mut skip = offset;
            // A folder gives a few kilobytes at a time: put together, they cost fewer messages.
            let mut held = BytesMut::new();
            while let Some(part) = parts.next().await {
                let mut part = part.map_err(failed(digest))?;
                hash.update(&part);
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
                skip -= skipped as u64;
                part.advance(skipped);
                held.extend_from_slice(&part);
                while held.len() > CHUNK {
                    yield held.split_to(CHUNK).freeze();
                }
            }
            if Digest::from(<[u8; 32]>::from(hash.finalize())) != digest {
                Err(BlobError::Damaged(digest))?;
            }
            yield held.freeze();
        };
        Ok((size, chunks))
    }

    /// Forget a blob. One that is not there is no error.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Store(error)),
        }
    }

    /// Every blob that is there, and since when (milliseconds since 1970).
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self) -> Result<Vec<(Digest, i64)>, BlobError> {
        let found = self.store.list(Some(&Key::from("sha256")));
        let found = found.map_ok(|meta| {
            let since = meta.last_modified.timestamp_millis();
            digest_of(&meta.location).map(|digest| (digest, since))
        });
        let found: Vec<Option<(Digest, i64)>> = found.try_collect().await.map_err(BlobError::Store)?;
        Ok(found.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests;
