//! Getting a blob from a master, from where the last attempt ended.

use super::blobs::{BlobError, Blobs, Part};
use futures_util::{Stream, StreamExt as _};
use std::{pin::Pin, time::Duration};
use tonic::{Code, Status, transport::Channel};
use windlass_proto::v1::{Chunk, FetchRequest, node_client::NodeClient};
use windlass_types::Digest;

/// A stream that is silent for so long has come to nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Chunks of a blob, from an offset to its end.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;
/// A request under way.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Chunks, Status>> + Send + 'a>>;

/// Has blobs.
pub trait Source: Send + Sync {
    /// Ask for one.
    fn open(&self, digest: Digest, offset: u64) -> Opening<'_>;
}

/// The master at the other end of the session. A stream of its own on the same connection, so that
/// HTTP/2 shares it out: heartbeats do not wait behind a blob.
pub struct Master(NodeClient<Channel>);

impl Master {
    /// Through this client.
    pub fn new(client: NodeClient<Channel>) -> Self {
        Master(client)
    }
}

impl Source for Master {
    fn open(&self, digest: Digest, offset: u64) -> Opening<'_> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let request = FetchRequest { digest: digest.to_string(), offset };
            Ok::<Chunks, Status>(Box::pin(client.fetch(request).await?.into_inner()))
        })
    }
}

/// Why a blob did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The connection, or the master, failed.
    #[error("the master did not deliver {digest}: {}", status.message())]
    Master { digest: Digest, status: Box<Status> },
    /// Nothing came any more.
    #[error("the master stopped delivering {0}")]
    Silent(Digest),
    /// It ended early.
    #[error("{digest} ended after {received} of {total} bytes")]
    Short { digest: Digest, received: u64, total: u64 },
    /// The master's blob is not the one that was asked for.
    #[error("{digest} has {said} bytes at the master, and {wanted} are right")]
    OtherSize { digest: Digest, said: u64, wanted: u64 },
    /// It can't be kept, or is not what its digest says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The host failed.
    #[error("the host failed while it wrote a blob")]
    Lost(#[from] tokio::task::JoinError),
}

/// How large a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Exactly so many bytes.
    Exactly(u64),
    /// No more than so many.
    AtMost(u64),
}

/// Fetch a blob unless it is here. `progress` is told how many bytes of how many are here.
///
/// # Errors
/// If it did not come; what came stays, to be continued.
pub async fn fetch(
    blobs: &Blobs,
    source: &dyn Source,
    digest: Digest,
    size: Size,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), FetchError> {
    let blocking = blobs.clone();
    let part = tokio::task::spawn_blocking(move || match blocking.has(digest) {
        true => Ok(None),
        false => blocking.resume(digest).map(Some),
    })
    .await??;
    let Some(part) = part else { return Ok(()) };
    let resumed = part.received() > 0;
    match transfer(blobs, source, digest, size, part, progress).await {
        // What was here already may be to blame: once more, from the beginning.
        Err(FetchError::Blob(BlobError::Altered { .. })) if resumed => {
            let blocking = blobs.clone();
            let part = tokio::task::spawn_blocking(move || blocking.resume(digest)).await??;
            transfer(blobs, source, digest, size, part, progress).await
        }
        ended => ended,
    }
}

async fn transfer(
    blobs: &Blobs,
    source: &dyn Source,
    digest: Digest,
    size: Size,
    mut part: Part,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), FetchError> {
    let failed = |status: Status| FetchError::Master { digest, status: Box::new(status) };
    let open = |offset| async move {
        tokio::time::timeout(SILENCE, source.open(digest, offset))
            .await
            .map_err(|_| FetchError::Silent(digest))
    };
    let mut chunks = match open(part.received()).await? {
        Err(status) if status.code() == Code::OutOfRange && part.received() > 0 => {
            part.restart()?;
            open(0).await?.map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let mut total = None;
    loop {
        let next =
            tokio::time::timeout(SILENCE, chunks.next()).await.map_err(|_| FetchError::Silent(digest))?;
        let Some(chunk) = next else { break };
        let Chunk { data, total_bytes } = chunk.map_err(failed)?;
        if total.is_none() {
            check_size(digest, size, total_bytes)?;
            let (blobs, wanted) = (blobs.clone(), total_bytes.saturating_sub(part.received()));
            tokio::task::spawn_blocking(move || blobs.room(wanted)).await??;
        }
        let total = *total.get_or_insert(total_bytes);
        if part.received() + data.len() as u64 > total {
            let said = part.received() + data.len() as u64;
            return Err(FetchError::OtherSize { digest, said, wanted: total });
        }
        part = tokio::task::spawn_blocking(move || part.write(&data).map(|()| part)).await??;
        progress(part.received(), total);
    }
    let total = match (total, size) {
        (Some(total), _) | (None, Size::Exactly(total)) => total,
        (None, Size::AtMost(_)) => part.received(),
    };
    if part.received() < total {
        return Err(FetchError::Short { digest, received: part.received(), total });
    }
    Ok(tokio::task::spawn_blocking(move || part.finish()).await??)
}

fn check_size(digest: Digest, size: Size, said: u64) -> Result<(), FetchError> {
    match size {
        Size::Exactly(wanted) if said != wanted => Err(FetchError::OtherSize { digest, said, wanted }),
        Size::AtMost(max) if said > max => Err(BlobError::TooLarge { digest, max }.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Gives `content` in chunks, says `total`, and ends after so many bytes.
    struct Fake {
        content: Vec<u8>,
        total: u64,
        cut: Mutex<Option<usize>>,
        offsets: Mutex<Vec<u64>>,
    }

    impl Fake {
        fn new(content: &[u8]) -> Fake {
            let total = content.len() as u64;
            Fake { content: content.to_vec(), total, cut: Mutex::default(), offsets: Mutex::default() }
        }
    }

    impl Source for Fake {
        fn open(&self, _: Digest, offset: u64) -> Opening<'_> {
            self.offsets.lock().unwrap().push(offset);
            Box::pin(async move {
                let start = usize::try_from(offset).unwrap();
                if start > self.content.len() {
                    return Err(Status::out_of_range("it ends before"));
                }
                let cut = self.cut.lock().unwrap().take();
                let end = cut.unwrap_or(self.content.len());
                let total_bytes = self.total;
                let mut chunks: Vec<Result<Chunk, Status>> = self.content[start..end]
                    .chunks(1000)
                    .map(|data| Ok(Chunk { data: data.to_vec().into(), total_bytes }))
                    .collect();
                if cut.is_some() {
                    chunks.push(Err(Status::unavailable("cut")));
                }
                Ok::<Chunks, Status>(Box::pin(futures_util::stream::iter(chunks)))
            })
        }
    }

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path(), 0);
        (dir, blobs)
    }

    async fn get(blobs: &Blobs, source: &Fake, digest: Digest, size: Size) -> Result<(), FetchError> {
        fetch(blobs, source, digest, size, &|_, _| {}).await
    }

    #[tokio::test]
    async fn a_cut_fetch_goes_on_from_its_offset() {
        let (_dir, blobs) = blobs();
        let content: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (digest, size) = (Digest::of(&content), Size::Exactly(10_000));
        let source = Fake::new(&content);
        *source.cut.lock().unwrap() = Some(4000);
        assert!(matches!(get(&blobs, &source, digest, size).await, Err(FetchError::Master { .. })));
        get(&blobs, &source, digest, size).await.unwrap();
        get(&blobs, &source, digest, size).await.unwrap();
        assert_eq!(*source.offsets.lock().unwrap(), [0, 4000], "and nothing is asked for twice");
        assert_eq!(blobs.read(digest, 10_000).unwrap(), content);
    }

    #[tokio::test]
    async fn a_bad_beginning_is_fetched_again_and_a_bad_blob_is_an_error() {
        let (_dir, blobs) = blobs();
        let content = vec![1_u8; 5000];
        let (digest, size) = (Digest::of(&content), Size::AtMost(5000));
        let mut part = blobs.resume(digest).unwrap();
        part.write(&[9; 100]).unwrap();
        drop(part);
        let source = Fake::new(&content);
        get(&blobs, &source, digest, size).await.unwrap();
        assert_eq!(*source.offsets.lock().unwrap(), [100, 0]);

        let other = Digest::of(b"something else");
        let altered = get(&blobs, &source, other, size).await;
        assert!(matches!(altered, Err(FetchError::Blob(BlobError::Altered { .. }))), "{altered:?}");
        assert_eq!(blobs.received(other), 0, "nothing of it is kept");
        // A part longer than the blob.
        let mut part = blobs.resume(Digest::of(b"x")).unwrap();
        part.write(&[9; 100]).unwrap();
        drop(part);
        get(&blobs, &Fake::new(b"x"), Digest::of(b"x"), size).await.unwrap();
    }

    #[tokio::test]
    async fn sizes_are_checked_before_anything_is_written() {
        let (_dir, blobs) = blobs();
        let content = vec![1_u8; 5000];
        let digest = Digest::of(&content);
        let source = Fake::new(&content);
        let other = get(&blobs, &source, digest, Size::Exactly(4999)).await;
        assert!(matches!(other, Err(FetchError::OtherSize { said: 5000, wanted: 4999, .. })), "{other:?}");
        let large = get(&blobs, &source, digest, Size::AtMost(4999)).await;
        assert!(matches!(large, Err(FetchError::Blob(BlobError::TooLarge { .. }))), "{large:?}");
        // One that says less than it sends.
        let liar = Fake { total: 2500, ..Fake::new(&content) };
        let lied = get(&blobs, &liar, digest, Size::AtMost(5000)).await;
        assert!(matches!(lied, Err(FetchError::OtherSize { .. })), "{lied:?}");
        assert!(blobs.received(digest) <= 2500);
        // One that says more than it sends.
        let short = Fake { total: 9000, ..Fake::new(&content) };
        let ended = get(&blobs, &short, digest, Size::AtMost(9000)).await;
        assert!(matches!(ended, Err(FetchError::Short { total: 9000, .. })), "{ended:?}");
    }

    #[tokio::test]
    async fn an_empty_blob_is_one_too() {
        let (_dir, blobs) = blobs();
        get(&blobs, &Fake::new(b""), Digest::of(b""), Size::Exactly(0)).await.unwrap();
        assert!(blobs.has(Digest::of(b"")));
    }
}
