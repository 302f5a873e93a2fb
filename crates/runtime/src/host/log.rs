//! `windlass:host/log`.

use super::{State, api::windlass::host::log as wit, print};

impl wit::Host for State {
    async fn write(&mut self, level: wit::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::Level::Debug => "debug",
            wit::Level::Info => "info",
            wit::Level::Warn => "warn",
            wit::Level::Error => "error",
        };
        print::log(&self.serving, "log.write", level, &message);
        Ok(())
    }
}
