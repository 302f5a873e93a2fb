//! libFuzzer around one of the targets: `WINDLASS_FUZZ_TARGET` names it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use windlass_fuzz::{Target, quiet};

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("WINDLASS_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = windlass_fuzz::target(&name) else {
        eprintln!("WINDLASS_FUZZ_TARGET: there is no target `{name}`");
        std::process::exit(2);
    };
    if target.catches_panics {
        quiet();
    }
    target
});

fuzz_target!(|bytes: &[u8]| (CHOSEN.run)(bytes));
