//! `windlass:host/files`.

use super::{Serving, State, api::windlass::host::files as wit, blocking};
use crate::os::files::{self, FilesError, Kind, Place};
use std::{path::Path, sync::Arc};
use windlass_bundle::Access;
use windlass_types::{Denial, trace::TraceDetail};

/// Entries of one directory that a plugin gets.
const MAX_DIRECTORY_ENTRIES: u64 = 100_000;

fn wit_error(error: FilesError) -> wit::Error {
    match error {
        FilesError::Denied(why) => wit::Error::Denied(why),
        FilesError::NotFound => wit::Error::NotFound,
        FilesError::Exists => wit::Error::Exists,
        FilesError::NotADirectory => wit::Error::NotADirectory,
        FilesError::IsADirectory => wit::Error::IsADirectory,
        FilesError::NotEmpty => wit::Error::NotEmpty,
        FilesError::TooLarge(limit) => wit::Error::TooLarge(limit),
        FilesError::NoSpace => wit::Error::NoSpace,
        FilesError::ReadOnly => wit::Error::ReadOnly,
        FilesError::Other(why) => wit::Error::Other(why),
    }
}

fn wit_kind(kind: Kind) -> wit::Kind {
    match kind {
        Kind::File => wit::Kind::File,
        Kind::Directory => wit::Kind::Directory,
        Kind::Symlink => wit::Kind::Symlink,
        Kind::Other => wit::Kind::Other,
    }
}

impl Serving {
    /// Ask the grants, note the call, and do the work where it may block.
    ///
    /// In a dry run a write is only noted, and gives `noted`.
    async fn on_file<T: Send + 'static>(
        &self,
        function: &'static str,
        path: &str,
        access: Access,
        bytes: impl Fn(&T) -> u64,
        noted: Option<T>,
        work: impl FnOnce(&Place) -> Result<T, FilesError> + Send + 'static,
    ) -> wasmtime::Result<Result<T, wit::Error>> {
        let serving = self;
        let (trace, effect) = (&serving.trace, serving.effect);
        let detail = TraceDetail::File { path: path.to_owned(), bytes: 0 };
        let grant = match serving.grants.file(path, access, effect) {
            Ok(grant) => grant,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                trace.denied(function, detail, &denial);
                return Ok(Err(wit::Error::Denied(denial.missing)));
            }
        };
        let (verdict, real) = serving.verdict(grant.rule, grant.effect);
        let entry = trace.begin(function, detail, verdict);
        let set_bytes = |bytes: u64| {
            move |detail: &mut TraceDetail| {
                if let TraceDetail::File { bytes: noted, .. } = detail {
                    *noted = bytes;
                }
            }
        };
        if let (false, Some(noted)) = (real, noted) {
            trace.finish(entry, None, set_bytes(bytes(&noted)));
            return Ok(Ok(noted));
        }
        // A link may lead to another granted place, and nowhere else.
        let (grants, root) = (serving.grants.clone(), grant.root.clone());
        let may_follow = Arc::new(move |relative: &Path| {
            root.join(relative).to_str().is_some_and(|path| grants.file(path, access, effect).is_ok())
        });
        let place = Place::new(grant.root, grant.relative).follow_links(may_follow);
        match blocking(move || work(&place)).await? {
            Ok(done) => {
                trace.finish(entry, None, set_bytes(bytes(&done)));
                Ok(Ok(done))
            }
            Err(FilesError::Denied(missing)) => {
                let denial = Denial { capability: function.into(), request: path.into(), missing };
                trace.denied_late(entry, &denial);
                Ok(Err(wit::Error::Denied(denial.missing)))
            }
            Err(error) => {
                trace.finish(entry, Some(error.to_string()), |_| {});
                Ok(Err(wit_error(error)))
            }
        }
    }

    fn read_limit(&self) -> u64 {
        self.plugin.manifest().limits.output_bytes
    }
}

fn length<T: AsRef<[u8]>>(bytes: &T) -> u64 {
    bytes.as_ref().len() as u64
}

impl wit::Host for State {
    async fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        let limit = self.serving.read_limit();
        self.serving
            .on_file("files.read", &path, Access::Read, length, None, move |place| files::read(place, limit))
            .await
    }

    async fn read_range(
        &mut self,
        path: String,
        offset: u64,
        wanted: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        let limit = self.serving.read_limit();
        self.serving
            .on_file("files.read-range", &path, Access::Read, length, None, move |place| {
                files::read_range(place, offset, wanted, limit)
            })
            .await
    }

    async fn write(
        &mut self,
        path: String,
        content: Vec<u8>,
        mode: Option<u32>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.check_size("a file", content.len())?;
        let bytes = content.len() as u64;
        self.serving
            .on_file(
                "files.write",
                &path,
                Access::Write,
                |()| bytes,
                Some(()),
                move |place| files::write(place, &content, mode),
            )
            .await
    }

    async fn list(&mut self, path: String) -> wasmtime::Result<Result<Vec<wit::Entry>, wit::Error>> {
        let listed = self
            .serving
            .on_file(
                "files.list",
                &path,
                Access::Read,
                |_| 0,
                None,
                |place| files::list(place, MAX_DIRECTORY_ENTRIES),
            )
            .await?;
        Ok(listed.map(|entries| {
            entries
                .into_iter()
                .map(|entry| wit::Entry { name: entry.name, kind: wit_kind(entry.kind) })
                .collect()
        }))
    }

    async fn stat(&mut self, path: String) -> wasmtime::Result<Result<wit::Metadata, wit::Error>> {
        let found = self.serving.on_file("files.stat", &path, Access::Read, |_| 0, None, files::stat).await?;
        Ok(found.map(|found| wit::Metadata {
            kind: wit_kind(found.kind),
            size_bytes: found.size_bytes,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            modified_ms: found.modified_ms,
        }))
    }

    async fn remove(&mut self, path: String) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.on_file("files.remove", &path, Access::Write, |()| 0, Some(()), files::remove).await
    }

    async fn make_dir(&mut self, path: String, parents: bool) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving
            .on_file(
                "files.make-dir",
                &path,
                Access::Write,
                |()| 0,
                Some(()),
                move |place| files::make_dir(place, parents),
            )
            .await
    }
}
