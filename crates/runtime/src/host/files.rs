//! `windlass:host/files`.

use super::{Serving, State, api::windlass::host::files as wit, blocking};
use crate::{
    os::files::{self, FilesError, Kind, Place},
    tape::{
        calls::{
            FilesList, FilesMakeDir, FilesRead, FilesReadRange, FilesRemove, FilesStat, FilesWrite, HostCall,
        },
        text::Bytes,
    },
};
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
    async fn on_file<C: HostCall<Returns: 'static, Fails = FilesError>>(
        &self,
        path: &str,
        access: Access,
        call: impl Fn() -> C,
        bytes: impl Fn(&C::Returns) -> u64,
        noted: Option<C::Returns>,
        work: impl FnOnce(&Place) -> Result<C::Returns, FilesError> + Send + 'static,
    ) -> wasmtime::Result<Result<C::Returns, wit::Error>> {
        let (serving, function) = (self, C::NAME);
        let (trace, effect) = (&serving.trace, serving.effect);
        let detail = TraceDetail::File { path: path.to_owned(), bytes: 0 };
        let grant = match serving.grants.file(path, access, effect) {
            Ok(grant) => grant,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                trace.denied(function, detail, &denial);
                serving.tape.denied(call, &denial.missing)?;
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
        let call = serving.tape.call(call);
        if let (false, Some(noted)) = (real, noted) {
            trace.finish(entry, None, set_bytes(bytes(&noted)));
            let done = Ok(noted);
            serving.tape.would(call.as_ref(), &done)?;
            return Ok(done.map_err(wit_error));
        }
        // A link may lead to another granted place, and nowhere else.
        let (grants, root) = (serving.grants.clone(), grant.root.clone());
        let may_follow = Arc::new(move |relative: &Path| {
            root.join(relative).to_str().is_some_and(|path| grants.file(path, access, effect).is_ok())
        });
        let place = Place::new(grant.root, grant.relative).follow_links(may_follow);
        match serving.tape.pass(call, blocking(move || work(&place))).await? {
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

fn length(bytes: &Bytes) -> u64 {
    bytes.0.len() as u64
}

impl wit::Host for State {
    async fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        let limit = self.serving.read_limit();
        let call = || FilesRead { path: path.clone() };
        let work = move |place: &Place| files::read(place, limit).map(Bytes);
        let read = self.serving.on_file(&path, Access::Read, call, length, None, work).await?;
        Ok(read.map(|bytes| bytes.0))
    }

    async fn read_range(
        &mut self,
        path: String,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        let limit = self.serving.read_limit();
        let call = || FilesReadRange { path: path.clone(), offset_bytes, length_bytes };
        let work =
            move |place: &Place| files::read_range(place, offset_bytes, length_bytes, limit).map(Bytes);
        let read = self.serving.on_file(&path, Access::Read, call, length, None, work).await?;
        Ok(read.map(|bytes| bytes.0))
    }

    async fn write(
        &mut self,
        path: String,
        content: Vec<u8>,
        mode: Option<u32>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.check_size("a file", content.len())?;
        let content = Arc::new(content);
        let call = || FilesWrite { path: path.clone(), content: Bytes(content.to_vec()), mode };
        let bytes = |(): &()| content.len() as u64;
        let written = content.clone();
        let work = move |place: &Place| files::write(place, &written, mode);
        self.serving.on_file(&path, Access::Write, call, bytes, Some(()), work).await
    }

    async fn list(&mut self, path: String) -> wasmtime::Result<Result<Vec<wit::Entry>, wit::Error>> {
        let call = || FilesList { path: path.clone() };
        let work = |place: &Place| files::list(place, MAX_DIRECTORY_ENTRIES);
        let listed = self.serving.on_file(&path, Access::Read, call, |_| 0, None, work).await?;
        Ok(listed.map(|entries| {
            entries
                .into_iter()
                .map(|entry| wit::Entry { name: entry.name, kind: wit_kind(entry.kind) })
                .collect()
        }))
    }

    async fn stat(&mut self, path: String) -> wasmtime::Result<Result<wit::Metadata, wit::Error>> {
        let call = || FilesStat { path: path.clone() };
        let found = self.serving.on_file(&path, Access::Read, call, |_| 0, None, files::stat).await?;
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
        let call = || FilesRemove { path: path.clone() };
        self.serving.on_file(&path, Access::Write, call, |()| 0, Some(()), files::remove).await
    }

    async fn make_dir(&mut self, path: String, parents: bool) -> wasmtime::Result<Result<(), wit::Error>> {
        let call = || FilesMakeDir { path: path.clone(), parents };
        let work = move |place: &Place| files::make_dir(place, parents);
        self.serving.on_file(&path, Access::Write, call, |()| 0, Some(()), work).await
    }
}
