//! Where the programs and bundles under test lie.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};

/// The programs and bundles of one build.
#[derive(Debug, Clone)]
pub struct Binaries {
    programs: PathBuf,
    bundles: PathBuf,
}

impl Binaries {
    /// Those beside the running test or task: `target/debug` and `target/bundles`.
    ///
    /// # Errors
    /// If a program is missing; the message says how to build it.
    pub fn find() -> Result<Self> {
        let exe = std::env::current_exe().context("finding the running program")?;
        let programs = exe
            .ancestors()
            .find(|dir| dir.ends_with("debug") || dir.ends_with("release"))
            .context("the running program lies in no target folder")?;
        let target = programs.parent().context("a target folder has a parent")?;
        Self::at(programs, &target.join("bundles"))
    }

    /// Those in the given folders.
    ///
    /// # Errors
    /// If a program is missing.
    pub fn at(programs: &Path, bundles: &Path) -> Result<Self> {
        let binaries = Binaries { programs: programs.to_owned(), bundles: bundles.to_owned() };
        for name in ["windlass", "windlass-master", "windlass-host", "windlass-compile"] {
            let path = binaries.program(name);
            ensure!(
                path.is_file(),
                "`{}` is not built: run `cargo xtask test` (or `cargo xtask build`)",
                path.display()
            );
        }
        Ok(binaries)
    }

    /// Folder of the programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Folder of the bundles.
    pub fn bundles(&self) -> &Path {
        &self.bundles
    }

    /// Path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Path of the bundle folder of a plugin.
    ///
    /// # Errors
    /// If it is not built.
    pub fn bundle(&self, plugin: &str) -> Result<PathBuf> {
        let path = self.bundles.join(plugin);
        ensure!(
            path.join("component.wasm").is_file(),
            "`{}` is not built: run `cargo xtask plugins`",
            path.display()
        );
        Ok(path)
    }
}
