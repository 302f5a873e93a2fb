//! The exported operations.
#![expect(unsafe_code, reason = "generated: `export!` makes the symbols of the canonical ABI")]

use crate::bindings::{
    export,
    exports::windlass::monitor::{disk, network, system},
    windlass::host::probes,
};
use crate::report;

struct Plugin;

impl system::Guest for Plugin {
    fn read() -> Result<system::Report, system::Error> {
        let pressure = match probes::pressure() {
            Ok(pressure) => Some(pressure),
            Err(probes::Error::Unsupported(_)) => None,
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

export!(Plugin with_types_in crate::bindings);
