//! Files and directories of the node, within what the manifest was granted.
//!
//! Paths are absolute and in one spelling: no `.`, `..`, `//`, no `/` at the end. In a dry run what
//! writes is only recorded.

use crate::{__bindings::windlass::host::files as wit, Error, host::files as host};

pub use wit::{Entry, Error as FileError, Kind, Metadata};

/// Read a whole file.
///
/// # Errors
/// If it is denied, not there, a directory, or larger than the limits allow.
pub fn read(path: &str) -> Result<Vec<u8>, Error> {
    host::read(path).map_err(|error| Error::of_file(path, error))
}

/// Read a whole file as text.
///
/// # Errors
/// Those of [`read`], and [`Error::Unexpected`] if it is not UTF-8.
pub fn read_text(path: &str) -> Result<String, Error> {
    String::from_utf8(read(path)?)
        .map_err(|error| Error::Unexpected(format!("`{path}` is not UTF-8: {error}")))
}

/// Read a whole file as JSON.
///
/// # Errors
/// Those of [`read`], and [`Error::Unexpected`] if it is not JSON of this form.
#[cfg(feature = "json")]
pub fn read_json<T: serde::de::DeserializeOwned>(path: &str) -> Result<T, Error> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| Error::Unexpected(format!("`{path}` is not the JSON it should be: {error}")))
}

/// Read a part of a file. Fewer bytes than asked come back at its end.
///
/// # Errors
/// Those of [`read`].
pub fn read_range(path: &str, offset_bytes: u64, length_bytes: u64) -> Result<Vec<u8>, Error> {
    host::read_range(path, offset_bytes, length_bytes).map_err(|error| Error::of_file(path, error))
}

/// Write a whole file, atomically: a reader sees the old content or the new, also after a crash. The
/// directory must exist. A new file has the mode 0o644; one that exists keeps its owner and mode.
///
/// # Errors
/// If it is denied, the directory is not there, or there is no space.
pub fn write(path: &str, content: impl AsRef<[u8]>) -> Result<(), Error> {
    host::write(path, content.as_ref(), None).map_err(|error| Error::of_file(path, error))
}

/// [`write()`] with permission bits, such as 0o600.
///
/// # Errors
/// Those of [`write()`].
pub fn write_with_mode(path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
    host::write(path, content.as_ref(), Some(mode)).map_err(|error| Error::of_file(path, error))
}

/// List a directory, sorted by name.
///
/// # Errors
/// If it is denied, not there, or no directory.
pub fn list(path: &str) -> Result<Vec<Entry>, Error> {
    host::list(path).map_err(|error| Error::of_file(path, error))
}

/// Look at a path, without following a link at its end.
///
/// # Errors
/// If it is denied or not there.
pub fn stat(path: &str) -> Result<Metadata, Error> {
    host::stat(path).map_err(|error| Error::of_file(path, error))
}

/// Remove a file, a link or an empty directory.
///
/// # Errors
/// If it is denied, not there, or not empty.
pub fn remove(path: &str) -> Result<(), Error> {
    host::remove(path).map_err(|error| Error::of_file(path, error))
}

/// Make a directory.
///
/// # Errors
/// If it is denied, there already, or its parent is not there.
pub fn make_dir(path: &str) -> Result<(), Error> {
    host::make_dir(path, false).map_err(|error| Error::of_file(path, error))
}

/// Make a directory with the parents it lacks. One that exists is fine.
///
/// # Errors
/// If it is denied.
pub fn make_dir_all(path: &str) -> Result<(), Error> {
    host::make_dir(path, true).map_err(|error| Error::of_file(path, error))
}
