//! `windlass-compile`: one component on standard input, its machine code on standard output.
//!
//! The agent starts it as a child for each plugin it has not compiled yet. Components come from
//! whoever writes plugins, compilers are large, and the agent runs as root: so this program gives
//! up everything but its three pipes before it reads the first byte. See [`sandbox`].

mod sandbox;

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};
use wasmtime::{Engine, OptLevel, RegallocAlgorithm};
use windlass_runtime::{
    aot::{EXIT_REJECTED, EXIT_SANDBOX, MAX_COMPONENT_BYTES},
    engine::{engine_config, target_triple},
};

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!(
            "windlass-compile takes no arguments: it is started by windlass-host, which gives it a component \
             on standard input"
        );
        return ExitCode::from(EXIT_SANDBOX);
    }
    if let Err(error) = sandbox::give_up_rights() {
        eprintln!("{error:#}");
        return ExitCode::from(EXIT_SANDBOX);
    }
    let prepared = engine().and_then(|engine| sandbox::give_up_system_calls().map(|()| engine));
    let engine = match prepared {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(EXIT_SANDBOX);
        }
    };
    match compile(&engine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_REJECTED)
        }
    }
}

fn engine() -> anyhow::Result<Engine> {
    let mut config = engine_config();
    config.cranelift_opt_level(OptLevel::Speed).cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking);
    config
        .target(target_triple())
        .and_then(|config| Engine::new(config))
        .map_err(|error| anyhow::anyhow!("the compiler can not be set up: {error:#}"))
}

fn compile(engine: &Engine) -> anyhow::Result<()> {
    let mut component = Vec::new();
    io::stdin().lock().take(MAX_COMPONENT_BYTES + 1).read_to_end(&mut component)?;
    anyhow::ensure!(
        component.len() as u64 <= MAX_COMPONENT_BYTES,
        "it is larger than {} MiB",
        MAX_COMPONENT_BYTES >> 20
    );
    let code = engine.precompile_component(&component).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&code)?;
    stdout.flush()?;
    Ok(())
}
