//! Who called, and how far it is.

use crate::{Error, host::job as host};
use std::time::{Duration, SystemTime};

pub use crate::__bindings::windlass::host::job::Context;

/// The call that is served: its job, node and operation, and when it is ended.
pub fn context() -> Context {
    host::get_context()
}

/// The plugin's configuration on this node, from `[plugins.NAME.configuration]` of the host.
///
/// ```
/// #[derive(serde::Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Settings { warn_percent: u8 }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Settings { warn_percent: 80 }
///     }
/// }
///
/// # windlass_sdk::fake::Host::new().configuration(r#"{"warn_percent": 90}"#).run(|| {
/// let settings: Settings = windlass_sdk::job::configuration()?;
/// # assert_eq!(settings.warn_percent, 90);
/// # Ok::<(), windlass_sdk::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// [`Error::Unexpected`] if it is not of this form. Where there is none it is an empty object.
#[cfg(feature = "json")]
pub fn configuration<T: serde::de::DeserializeOwned>() -> Result<T, Error> {
    serde_json::from_str(&context().configuration).map_err(|error| {
        Error::Unexpected(format!("the configuration of this plugin is not what it should be: {error}"))
    })
}

/// Whether changes are only recorded, not made. The host sees to that; a plugin need not ask.
pub fn is_dry_run() -> bool {
    context().dry_run
}

/// Time until the operation is ended; zero when it should have been.
pub fn time_left() -> Duration {
    let deadline = Duration::from_millis(u64::try_from(context().deadline_ms).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    deadline.saturating_sub(now)
}

/// Tell what is being done, and how much of it is done, from 0 to 100, where that is known. More than
/// a few a second are merged. Ends the operation when the job was cancelled or is past its deadline.
pub fn progress(message: impl std::fmt::Display, percent: impl Into<Option<u8>>) {
    host::progress(&host::ProgressReport { message: message.to_string(), percent: percent.into() });
}

/// Whether the job was cancelled or is past its deadline.
pub fn is_cancelled() -> bool {
    host::is_cancelled()
}

/// Go on only if the job was not cancelled. A loop that changes things asks before each change.
///
/// # Errors
/// [`Error::Cancelled`] if it was, or if its deadline has passed.
pub fn check_cancelled() -> Result<(), Error> {
    if is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
