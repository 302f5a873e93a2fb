//! From programs to `.deb` files.

use crate::{DeployError, Result, file, run, tree};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// How hard dpkg-deb tries to make packages small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// For people: the smallest that every dpkg reads.
    Xz,
    /// For tests on this machine: packs and installs in a moment.
    None,
}

/// What packages are made of.
#[derive(Debug, Clone)]
pub struct Pack<'a> {
    /// Folder of the built programs.
    pub programs: &'a Path,
    /// Folder of the documentation.
    pub docs: &'a Path,
    /// As Debian compares versions.
    pub version: &'a str,
    /// Seconds since 1970: the time of everything in the packages, so that it is not that of the build.
    pub time_s: u64,
    pub compression: Compression,
}

/// The packages, each with the programs in it and their folders. Host and master may share a machine, and
/// each is upgraded by itself, so each brings a compiler of its own version.
const PACKAGES: [(&str, &[(&str, &str)]); 3] = [
    ("windlass-host", &[("usr/bin", "windlass-host"), ("usr/bin", "windlass-compile")]),
    ("windlass-master", &[("usr/bin", "windlass-master"), ("usr/lib/windlass-master", "windlass-compile")]),
    ("windlass", &[("usr/bin", "windlass")]),
];

impl Pack<'_> {
    /// Make all packages in `dir`. Their paths, in a fixed order: host, master, command line.
    ///
    /// # Errors
    /// If a program is not built, or one of Debian's fails.
    pub fn all(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(dir).map_err(file("make", dir))?;
        let architecture = run(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
        std::thread::scope(|scope| {
            let threads = PACKAGES.map(|(name, programs)| {
                let architecture = &architecture;
                scope.spawn(move || self.one(name, programs, architecture, dir))
            });
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn one(&self, name: &str, programs: &[(&str, &str)], architecture: &str, dir: &Path) -> Result<PathBuf> {
        let work = tempfile::tempdir().map_err(file("make", Path::new("a temporary folder")))?;
        let root = work.path().join("root");
        tree::lay_out(self, name, programs, &root)?;
        let binaries: Vec<PathBuf> =
            programs.iter().map(|(folder, name)| root.join(folder).join(name)).collect();
        let libraries = libraries(name, &binaries, work.path())?;
        let size = tree::size_kib(&root)?.to_string();
        tree::control(
            name,
            &root,
            &[
                ("version", self.version),
                ("architecture", architecture),
                ("size", &size),
                ("libraries", &libraries),
            ],
        )?;
        let package = dir.join(format!("{name}_{}_{architecture}.deb", self.version));
        let mut command = Command::new("dpkg-deb");
        command.arg("--root-owner-group").arg(match self.compression {
            Compression::Xz => "-Zxz",
            Compression::None => "-Znone",
        });
        // Times after this one become this one: deb(5).
        command.env("SOURCE_DATE_EPOCH", self.time_s.to_string());
        run(command.arg("--build").arg(&root).arg(&package))?;
        Ok(package)
    }
}

/// Packages of Debian that the programs are linked with, in the versions they need: dpkg-shlibdeps(1).
fn libraries(name: &str, binaries: &[PathBuf], work: &Path) -> Result<String> {
    // It wants to be in a source package.
    let debian = work.join("debian");
    std::fs::create_dir_all(&debian).map_err(file("make", &debian))?;
    let control = debian.join("control");
    let text = format!("Source: windlass\n\nPackage: {name}\nArchitecture: any\nDescription: {name}\n");
    std::fs::write(&control, text).map_err(file("write", &control))?;
    let output = run(Command::new("dpkg-shlibdeps").current_dir(work).arg("-O").args(binaries))?;
    match output.trim().strip_prefix("shlibs:Depends=") {
        Some(libraries) => Ok(libraries.to_owned()),
        None => Err(DeployError::Output { program: "dpkg-shlibdeps", output }),
    }
}
