//! What a fuzzer tries. Each target takes any bytes, hands them to what reads them in earnest, and
//! panics if something does not hold that must: not only that nothing crashes.
//!
//! `cargo xtask fuzz` drives them with libFuzzer; the test here runs each over its seeds in `corpus/`,
//! where also every input goes that once broke something.

mod grammar;
mod json;
mod package;
#[cfg(test)]
mod seeds;
mod texts;
mod wit;

/// Something to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
    /// What it tries catches panics of a library, so that a panic elsewhere is no finding.
    pub catches_panics: bool,
}

const fn target_of(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, catches_panics: false }
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    target_of("manifest", texts::manifest),
    target_of("trust", texts::trust),
    target_of("signature", texts::signature),
    target_of("image", package::image),
    target_of("package", package::package),
    target_of("grammar", grammar::grammar),
    target_of("json", json::json),
    Target { catches_panics: true, ..target_of("expression", wit::expression) },
    Target { catches_panics: true, ..target_of("wit", wit::wit) },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Let panics that are caught pass in silence; those that are not still end the process, by libFuzzer.
pub fn quiet() {
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name().is_none_or(|name| name == "main") {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Each seed holds, and each target has some.
    #[test]
    fn seeds_hold() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for target in &TARGETS {
            let dir = corpus.join(target.name);
            let seeds: Vec<_> = std::fs::read_dir(&dir)
                .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
                .map(|entry| entry.expect("readable").path())
                .collect();
            assert!(!seeds.is_empty(), "{} is empty", dir.display());
            for seed in seeds {
                eprintln!("{}", seed.display());
                (target.run)(&std::fs::read(&seed).expect("readable"));
            }
        }
        let folders = std::fs::read_dir(&corpus).expect("readable").count();
        assert_eq!(folders, TARGETS.len(), "a folder of {} is of no target", corpus.display());
    }
}
