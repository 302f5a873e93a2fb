//! Running the tools of a language, and getting those that come from its package registry.

use crate::{exit::Problem, output::Output};
use anyhow::{Context as _, Result};
use std::{
    ffi::OsStr,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Lines of a failed tool that are shown, from its beginning and from its end.
const SHOWN_LINES: usize = 30;

/// Runs tools: quietly, with their output only when they fail, unless more is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Tools<'o> {
    pub out: &'o Output,
    pub verbose: bool,
}

impl Tools<'_> {
    /// Run a tool to its end and give its standard output.
    ///
    /// # Errors
    /// If it is not there (`hint` says how to get it), or it fails: then with what it said.
    pub fn run(&self, command: &mut Command, hint: &str) -> Result<Vec<u8>> {
        let program = Path::new(command.get_program()).display().to_string();
        if self.verbose {
            let words = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
            self.out.note(&format!("+ {program} {words}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if self.verbose { Stdio::inherit() } else { Stdio::piped() });
        let output = command.output().map_err(|error| {
            let missing = error.kind() == ErrorKind::NotFound;
            let problem = Problem::failed(format!("cannot run `{program}`")).because(error);
            if missing { problem.hint(hint) } else { problem }
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let lines: Vec<&str> = said.iter().flat_map(|text| text.lines()).collect();
        self.show(&lines);
        Err(Problem::failed(format!("`{program}` failed ({})", output.status)).into())
    }

    /// Show what a tool said: some tell the reason first, and some last.
    fn show(&self, lines: &[&str]) {
        let left_out = lines.len().saturating_sub(2 * SHOWN_LINES);
        let (first, rest) = lines.split_at(if left_out > 0 { SHOWN_LINES } else { 0 });
        for line in first {
            self.out.note(line);
        }
        if left_out > 0 {
            self.out.note(&format!("… ({left_out} lines left out: `--verbose-tools` shows them)"));
        }
        for line in &rest[left_out..] {
            self.out.note(line);
        }
    }

    /// The folder of a tool that a package registry brings, got once for all projects: `install` is
    /// called with an empty folder.
    ///
    /// # Errors
    /// If it can't be got.
    pub fn installed(&self, name: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let tools = cache_dir()?.join("windlass/tools");
        fs::create_dir_all(&tools).with_context(|| format!("cannot make `{}`", tools.display()))?;
        let dir = tools.join(name);
        // Says that the folder is complete. It stands beside it, and is written last.
        let done = tools.join(format!("{name}.done"));
        let lock = fs::File::create(tools.join(format!("{name}.lock")))
            .with_context(|| format!("cannot lock `{}`", dir.display()))?;
        lock.lock().with_context(|| format!("cannot lock `{}`", dir.display()))?;
        if done.is_file() && dir.is_dir() {
            return Ok(dir);
        }
        self.out.note(&format!("getting {name}, once for all plugins, into `{}`", dir.display()));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove `{}`", dir.display()))?;
        }
        fs::create_dir(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        install(&dir).map_err(|error| {
            let missing = error.chain().any(|cause| cause.is::<std::io::Error>());
            let problem = Problem::failed(format!("cannot get {name}")).because(error);
            if missing {
                problem
            } else {
                problem.hint("this needs the package registry, once; after that no network is needed")
            }
        })?;
        fs::write(&done, "").with_context(|| format!("cannot write `{}`", done.display()))?;
        Ok(dir)
    }
}

/// Where programs keep what they can get again (XDG Base Directory Specification).
fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| Problem::failed("there is no place for tools").hint("set HOME").into())
}
