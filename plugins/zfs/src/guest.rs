//! The exported operations, and the runner that asks the host to run programs.
#![expect(unsafe_code, reason = "generated: `export!` makes the symbols of the canonical ABI")]

use crate::{
    api,
    bindings::{export, windlass::host::commands},
    dataset, pool,
    tool::{Failure, Finished, Runner},
};

struct Plugin;

impl api::pool::Guest for Plugin {
    fn list() -> Result<Vec<api::pool::Summary>, api::pool::Error> {
        pool::list(&Host)
    }

    fn status(name: Option<String>) -> Result<Vec<api::pool::StatusReport>, api::pool::Error> {
        pool::status(&Host, name.as_deref())
    }
}

impl api::dataset::Guest for Plugin {
    fn list(
        under: Option<String>,
        types: Option<Vec<api::dataset::DatasetType>>,
    ) -> Result<Vec<api::dataset::Summary>, api::dataset::Error> {
        dataset::list(&Host, under.as_deref(), types.as_deref())
    }
}

/// Runs programs through `windlass:host/commands`.
struct Host;

impl Runner for Host {
    fn run(&self, program: &str, args: &[&str], timeout_ms: u64) -> Result<Finished, Failure> {
        let command = commands::Command {
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            stdin: None,
            timeout_ms: Some(timeout_ms),
        };
        let output = commands::run(&command).map_err(|error| match error {
            commands::Error::Denied(text) => Failure::Denied(text),
            commands::Error::NotFound(text) => Failure::NotInstalled(text),
            commands::Error::TimedOut(limit_ms) => Failure::TimedOut(limit_ms),
            commands::Error::Cancelled => Failure::Cancelled,
            commands::Error::DryRun => Failure::Other("not run: this is a dry run".into()),
            commands::Error::Other(text) => Failure::Other(text),
        })?;
        Ok(Finished {
            code: match output.status {
                commands::ExitStatus::Code(code) => Some(code),
                commands::ExitStatus::Signal(_) => None,
            },
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            truncated: output.stdout_truncated,
        })
    }
}

/// Names of damaged files can hold any bytes; what is not UTF-8 becomes U+FFFD.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

export!(Plugin with_types_in crate::bindings);
