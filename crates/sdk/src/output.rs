//! What an operation prints for whoever watches, while it runs.
//!
//! It is kept with the job as the output of this node, beside the result and not in it:
//! `windlass jobs output JOB NODE --follow` shows it. Whoever writes faster than the master takes it waits.
//!
//! ```
//! # let record = windlass_sdk::fake::Host::new().run(|| {
//! windlass_sdk::output::line("12 of 40 files are checked")?;
//! windlass_sdk::output::write(b"bytes of any kind")?;
//! # Ok::<(), windlass_sdk::Error>(())
//! # });
//! ```

use crate::{Error, host::output as host};
use std::fmt::Display;

/// Write bytes behind those that were written before.
///
/// # Errors
/// [`Error::Limit`] once the operation has written as much as it may, [`Error::Cancelled`] when the job was
/// cancelled or is past its deadline.
pub fn write(data: &[u8]) -> Result<(), Error> {
    Ok(host::write(data)?)
}

/// Write a line.
///
/// # Errors
/// As [`write`].
pub fn line(text: impl Display) -> Result<(), Error> {
    write(format!("{text}\n").as_bytes())
}
