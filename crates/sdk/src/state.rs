//! What the plugin keeps on this node: it survives restarts and updates, and no other plugin sees it.
//!
//! Granted by `state = true` in the manifest. At most 1,024 keys of at most 256 bytes, with values of at
//! most 64 KiB. In a dry run what writes is only recorded.

use crate::{__bindings::windlass::host::state as wit, Error, host::state as host};

pub use wit::Error as StateError;

/// Get a value; none when the key is not set.
///
/// # Errors
/// If state is denied.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::get(key).map_err(Error::from)
}

/// Set a value; it is on disk when this returns.
///
/// # Errors
/// If state is denied, or a limit would be passed.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    host::set(key, value.as_ref()).map_err(Error::from)
}

/// Get a value that was set by [`set_json`].
///
/// # Errors
/// If state is denied, or the value is not JSON of this form.
#[cfg(feature = "json")]
pub fn get_json<T: serde::de::DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::Unexpected(format!("the value of the key `{key}` is not the JSON it should be: {error}"))
        })
    };
    get(key)?.map(parse).transpose()
}

/// Set a value as JSON.
///
/// # Errors
/// Those of [`set`], and if the value has no JSON form.
#[cfg(feature = "json")]
pub fn set_json(key: &str, value: &impl serde::Serialize) -> Result<(), Error> {
    let json = serde_json::to_vec(value)
        .map_err(|error| Error::Other(format!("the value for the key `{key}` has no JSON form: {error}")))?;
    set(key, json)
}

/// Remove a value. Removing one that is not set is fine.
///
/// # Errors
/// If state is denied.
pub fn remove(key: &str) -> Result<(), Error> {
    host::remove(key).map_err(Error::from)
}

/// All keys that begin so, sorted; all there are for an empty text.
///
/// # Errors
/// If state is denied.
pub fn keys(prefix: &str) -> Result<Vec<String>, Error> {
    host::keys(prefix).map_err(Error::from)
}
