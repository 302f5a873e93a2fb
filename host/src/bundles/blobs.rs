//! Parts of bundles on disk, by digest.
//!
//! `blobs/sha256/HEX` is complete: it was hashed as it was written, synced, and then renamed to that
//! name. `blobs/sha256/HEX.part` is the beginning of one; how far it goes is its length. Nothing is
//! believed of a part but that: it is hashed again when it is continued, and thrown away if the whole
//! is not what its name says. What is read back is hashed once more.

use crate::files;
use rustix::fs::{FlockOperation, flock, statvfs};
use sha2::Digest as _;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use windlass_types::Digest;

const PART: &str = "part";

/// Why a blob can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Reading or writing failed.
    #[error("`{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// There is no room for it.
    #[error("no room in `{}`: {wanted} more bytes are needed and {free} are free, of which {keep} stay free", path.display())]
    Full { path: PathBuf, wanted: u64, free: u64, keep: u64 },
    /// It is not there.
    #[error("the blob {0} is not here")]
    Missing(Digest),
    /// Its content is something else.
    #[error("the content of {wanted} has the digest {found}")]
    Altered { wanted: Digest, found: Digest },
    /// Larger than it may be.
    #[error("the blob {digest} is larger than {max} bytes")]
    TooLarge { digest: Digest, max: u64 },
}

impl BlobError {
    /// True if there is no room.
    pub fn is_full(&self) -> bool {
        match self {
            BlobError::Full { .. } => true,
            BlobError::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// True if the disk or the quota of its user is full, or files may not be so large.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BlobError + use<> {
    let path = path.to_owned();
    move |source| BlobError::Io { path, source }
}

/// See the module. All of it blocks.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
    /// Bytes of the file system that stay free.
    keep_free: u64,
}

impl Blobs {
    /// Those in `dir`, which need not exist.
    pub fn new(dir: &Path, keep_free: u64) -> Blobs {
        Blobs { dir: dir.join("sha256"), keep_free }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn part_path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.hex()).with_extension(PART)
    }

    /// Whether it is complete.
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Its size, if it is complete.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        std::fs::metadata(self.path(digest)).ok().map(|found| found.len())
    }

    /// How much of it is here.
    pub fn received(&self, digest: Digest) -> u64 {
        let length = |path: PathBuf| std::fs::metadata(path).map(|found| found.len());
        length(self.path(digest)).or_else(|_| length(self.part_path(digest))).unwrap_or(0)
    }

    /// Read it. One that is not what its name says is removed, so that it is fetched again.
    ///
    /// # Errors
    /// If it is not here, too large, or damaged.
    pub fn read(&self, digest: Digest, max: u64) -> Result<Vec<u8>, BlobError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Missing(digest)),
            Err(error) => return Err(io_error(&path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error(&path))?;
        if bytes.len() as u64 > max {
            return Err(BlobError::TooLarge { digest, max });
        }
        let found = Digest::of(&bytes);
        if found != digest {
            tracing::warn!("`{}` is damaged: it is removed, to be fetched again", path.display());
            std::fs::remove_file(&path).map_err(io_error(&path))?;
            return Err(BlobError::Altered { wanted: digest, found });
        }
        Ok(bytes)
    }

    /// Whether so many more bytes fit.
    ///
    /// # Errors
    /// If they do not.
    pub fn room(&self, wanted: u64) -> Result<(), BlobError> {
        files::private_dir(&self.dir).map_err(io_error(&self.dir))?;
        let found = statvfs(&self.dir).map_err(|errno| io_error(&self.dir)(errno.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < wanted.saturating_add(self.keep_free) {
            let (path, keep) = (self.dir.clone(), self.keep_free);
            return Err(BlobError::Full { path, wanted, free, keep });
        }
        Ok(())
    }

    /// Go on with a blob where it ended, or begin it. A writer that still holds the part is waited for.
    ///
    /// # Errors
    /// If the part can't be opened or read.
    pub fn resume(&self, digest: Digest) -> Result<Part, BlobError> {
        files::private_dir(&self.dir).map_err(io_error(&self.dir))?;
        let path = self.part_path(digest);
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| io_error(&path)(errno.into()))?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut received = 0;
        loop {
            match file.read(&mut buffer).map_err(io_error(&path))? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    received += read as u64;
                }
            }
        }
        Ok(Part { digest, file, path, whole: self.path(digest), hash, received })
    }

    /// Remove everything that `keep` does not want: it gets a digest, and whether it is complete.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn retain(&self, keep: impl Fn(Digest, bool) -> bool) -> Result<usize, BlobError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(io_error(&self.dir)(error)),
        };
        let mut removed = 0;
        for entry in entries {
            let path = entry.map_err(io_error(&self.dir))?.path();
            let complete = path.extension().is_none();
            let known = complete || path.extension().is_some_and(|extension| extension == PART);
            let digest = path
                .file_stem()
                .and_then(|stem| format!("sha256:{}", stem.to_str()?).parse::<Digest>().ok())
                .filter(|_| known);
            if digest.is_some_and(|digest| keep(digest, complete)) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => removed += 1,
                // It costs space, no more.
                Err(error) => tracing::warn!("cannot remove `{}`: {error}", path.display()),
            }
        }
        Ok(removed)
    }
}

/// The beginning of a blob, open for more. Dropping it leaves it on disk.
#[derive(Debug)]
pub struct Part {
    digest: Digest,
    file: File,
    path: PathBuf,
    whole: PathBuf,
    hash: sha2::Sha256,
    received: u64,
}

impl Part {
    /// Bytes that are here.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Add bytes. When the disk is full, the part is removed: its room is worth more than the bytes.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        if let Err(error) = self.file.write_all(bytes) {
            if is_full(&error) {
                self.remove()?;
            }
            return Err(io_error(&self.path)(error));
        }
        self.hash.update(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Throw away what is here and begin anew.
    ///
    /// # Errors
    /// If it can't be cut off.
    pub fn restart(&mut self) -> Result<(), BlobError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(io_error(&self.path))?;
        self.hash = sha2::Sha256::new();
        self.received = 0;
        Ok(())
    }

    fn remove(&self) -> Result<(), BlobError> {
        std::fs::remove_file(&self.path).map_err(io_error(&self.path))
    }

    /// All bytes are here: keep the blob if they are the right ones, and remove the part if not.
    ///
    /// # Errors
    /// If they are others, or can't be synced.
    pub fn finish(self) -> Result<(), BlobError> {
        let found = Digest::from(<[u8; 32]>::from(self.hash.clone().finalize()));
        if found != self.digest {
            self.remove()?;
            return Err(BlobError::Altered { wanted: self.digest, found });
        }
        let kept =
            self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &self.whole)).and_then(|()| {
                match self.whole.parent() {
                    Some(dir) => File::open(dir)?.sync_all(),
                    None => Ok(()),
                }
            });
        kept.map_err(|error| {
            if is_full(&error) {
                // Some file systems find out only now.
                let _ = self.remove();
            }
            io_error(&self.path)(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path(), 0);
        (dir, blobs)
    }

    #[test]
    fn a_part_goes_on_where_it_ended() {
        let (_dir, blobs) = blobs();
        let content = vec![7_u8; 200_000];
        let digest = Digest::of(&content);
        let mut part = blobs.resume(digest).unwrap();
        part.write(&content[..70_000]).unwrap();
        drop(part);
        assert!(!blobs.has(digest));
        assert_eq!(blobs.received(digest), 70_000);
        let mut part = blobs.resume(digest).unwrap();
        assert_eq!(part.received(), 70_000);
        part.write(&content[70_000..]).unwrap();
        part.finish().unwrap();
        assert!(blobs.has(digest));
        assert_eq!(blobs.read(digest, 200_000).unwrap(), content);
        assert!(matches!(blobs.read(digest, 199_999), Err(BlobError::TooLarge { .. })));
    }

    #[test]
    fn a_wrong_byte_costs_the_part_and_a_damaged_blob_is_removed() {
        let (dir, blobs) = blobs();
        let digest = Digest::of(b"right");
        let mut part = blobs.resume(digest).unwrap();
        part.write(b"wrong").unwrap();
        assert!(matches!(part.finish(), Err(BlobError::Altered { .. })));
        assert_eq!(blobs.received(digest), 0);
        let mut part = blobs.resume(digest).unwrap();
        part.write(b"wr").unwrap();
        part.restart().unwrap();
        part.write(b"right").unwrap();
        part.finish().unwrap();
        std::fs::write(dir.path().join("sha256").join(digest.hex()), b"wrong").unwrap();
        assert!(matches!(blobs.read(digest, 100), Err(BlobError::Altered { .. })));
        assert!(matches!(blobs.read(digest, 100), Err(BlobError::Missing(_))));
    }

    #[test]
    fn what_nobody_wants_goes() {
        let (dir, blobs) = blobs();
        for content in [b"one", b"two"] {
            let mut part = blobs.resume(Digest::of(content)).unwrap();
            part.write(content).unwrap();
            part.finish().unwrap();
        }
        drop(blobs.resume(Digest::of(b"half")).unwrap());
        drop(blobs.resume(Digest::of(b"old half")).unwrap());
        std::fs::write(dir.path().join("sha256/other"), b"?").unwrap();
        let kept = [(Digest::of(b"one"), true), (Digest::of(b"half"), false)];
        assert_eq!(blobs.retain(|digest, complete| kept.contains(&(digest, complete))).unwrap(), 3);
        assert!(blobs.has(Digest::of(b"one")) && !blobs.has(Digest::of(b"two")));
        assert_eq!(std::fs::read_dir(dir.path().join("sha256")).unwrap().count(), 2);
    }

    #[test]
    fn room_that_must_stay_free_is_not_used() {
        let (dir, _) = blobs();
        assert!(matches!(Blobs::new(dir.path(), u64::MAX).room(1), Err(BlobError::Full { .. })));
        Blobs::new(dir.path(), 0).room(1).unwrap();
    }
}
