//! `windlass:monitor`: what a node is and how it does.
//!
//! Everything comes from `windlass:host/probes`; this plugin chooses, joins and names. [`report`]
//! does that as pure functions.

windlass_sdk::plugin!();

mod report;
#[cfg(test)]
mod tests;

use api::{disk, network, system};
use windlass_sdk::{Error, probes};

impl system::Guest for Plugin {
    fn read() -> Result<system::Report, system::Error> {
        let pressure = match probes::pressure() {
            Ok(pressure) => Some(pressure),
            Err(Error::Unsupported(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(report::system(probes::system()?, probes::cpu()?, &probes::memory()?, pressure.as_ref()))
    }
}

impl disk::Guest for Plugin {
    fn list() -> Result<Vec<disk::Device>, disk::Error> {
        let mounts = probes::mounts()?;
        Ok(probes::block_devices()?.into_iter().map(|device| report::disk(device, &mounts)).collect())
    }
}

impl network::Guest for Plugin {
    fn list() -> Result<Vec<network::Device>, network::Error> {
        Ok(probes::network()?.into_iter().map(report::interface).collect())
    }
}

windlass_sdk::errors!(system::Error, disk::Error, network::Error: |error| match error {
    Error::Denied(text) => Self::Denied(text),
    Error::Unsupported(text) => Self::Unsupported(text),
    other => Self::Other(other.to_string()),
});
